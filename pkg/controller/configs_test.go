package controller

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/workload"
)

var (
	configMapResource = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	kedaResource      = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}
	scalerResource    = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
)

// trackConfigs is what -enable-config-tracking does.
func (l *loop) trackConfigs() *loop {
	l.workloads = workload.NewKinds(l.main.Client(), l.main, workload.Options{TrackConfigs: true})
	return l
}

func settings() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "settings", "namespace": "test", "uid": "uid-settings"},
		"data":     map[string]any{"message": "one"},
	}}
}

// readingSettings is a Deployment whose pods read the ConfigMap.
func readingSettings(name string) *unstructured.Unstructured {
	d := readyDeployment(name, 2)
	spec := d.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	spec["volumes"] = []any{map[string]any{"name": "settings", "configMap": map[string]any{"name": "settings"}}}
	return d
}

func (a *api) message(name string) string {
	message, _, _ := unstructured.NestedString(a.get(configMapResource, name).Object, "data", "message")
	return message
}

func TestChangedConfigStartsARollout(t *testing.T) { synctest.Test(t, testChangedConfigStartsARollout) }

func testChangedConfigStartsARollout(t *testing.T) {
	a := newAPI(t, readingSettings("podinfo"), settings(), canaryFor("podinfo"))
	l := newLoop(t, a, 1).trackConfigs().start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	if got := a.message("settings-primary"); got != "one" {
		t.Errorf("the copy has %q", got)
	}
	cached, err := l.main.Get(router.Ref{Resource: configMapResource, Kind: "ConfigMap", Namespace: "test", Name: "settings"})
	if err != nil || cached == nil || cached.Object["data"] != nil {
		t.Errorf("the cache holds %v, %v", cached, err)
	}

	a.edit(configMapResource, "settings", "two", "data", "message")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseProgressing)
	if got := a.message("settings-primary"); got != "one" {
		t.Errorf("the copy has %q before the analysis", got)
	}
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	if got := a.message("settings-primary"); got != "two" {
		t.Errorf("the copy has %q after the promotion", got)
	}
	if tracked := a.canary("podinfo").Status.TrackedConfigs; tracked == nil || (*tracked)["configmap/settings"] == "" {
		t.Errorf("trackedConfigs = %v", tracked)
	}
}

// readyWithSettings is a Canary at rest whose primary reads a copy of the settings.
func readyWithSettings(t *testing.T, edit func(canary *unstructured.Unstructured)) *loop {
	t.Helper()
	canary := canaryFor("podinfo")
	edit(canary)
	a := newAPI(t, readingSettings("podinfo"), settings(), canary)
	l := newLoop(t, a, 1).trackConfigs().start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	return l
}

func (l *loop) untilCopied(message string) {
	l.t.Helper()
	l.until("the copy to have "+message, func() bool {
		return l.api.exists(configMapResource, "settings-primary") && l.api.message("settings-primary") == message
	})
}

// What pods of the primary read is repaired at rest, and told where that is not possible. A settled Canary costs nothing after
// that.
func TestIncidentB17_CopiesAreRepairedAtRest(t *testing.T) {
	synctest.Test(t, testIncidentB17_CopiesAreRepairedAtRest)
}

func testIncidentB17_CopiesAreRepairedAtRest(t *testing.T) {
	l := readyWithSettings(t, func(*unstructured.Unstructured) {})
	if err := l.api.client.Tracker().Delete(configMapResource, "test", "settings-primary"); err != nil {
		t.Fatal(err)
	}
	l.untilCopied("one")
	l.api.edit(configMapResource, "settings-primary", "evil", "data", "message")
	l.untilCopied("one")
	l.atRest("podinfo")
	l.untilIdle()
	l.api.reset()
	before := l.passes()
	l.api.edit(deploymentResource, "podinfo", "x", "metadata", "labels", "touched")
	eventually(t, "a pass", func() bool { return l.passes() > before })
	l.untilIdle()
	if calls := l.api.recorded(); len(calls) != 0 {
		t.Errorf("calls of a settled Canary: %v", calls)
	}
}

// A promotion that is given up leaves pods of the primary what they had. What nothing has any more is told, and the next
// promotion brings a new one.
func TestIncidentB17_CopiesAreRepairedAfterAPromotionIsGivenUp(t *testing.T) {
	synctest.Test(t, testIncidentB17_CopiesAreRepairedAfterAPromotionIsGivenUp)
}

func testIncidentB17_CopiesAreRepairedAfterAPromotionIsGivenUp(t *testing.T) {
	l := readyWithSettings(t, func(c *unstructured.Unstructured) {
		c.Object["spec"].(map[string]any)["progressDeadlineSeconds"] = int64(60)
	})
	l.api.failWith(func(call string) error {
		if call == "update deployments" {
			return errors.New("exceeded quota")
		}
		return nil
	})
	l.api.edit(configMapResource, "settings", "two", "data", "message")
	l.untilCopied("two")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseFailed)
	l.untilCopied("one")
	l.api.failWith(nil)

	for _, name := range l.api.copies() {
		if err := l.api.client.Tracker().Delete(configMapResource, "test", name); err != nil {
			t.Fatal(err)
		}
	}
	l.until("the condition", func() bool {
		c := l.healthy("podinfo")
		return c.Reason == string(rollout.ReasonPrimaryChanged) && strings.Contains(c.Message, "ConfigMap settings-primary.test, which podinfo-primary.test reads")
	})
	l.api.edit(configMapResource, "settings", "three", "data", "message")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	l.untilCopied("three")
	l.until("the condition", func() bool { return l.healthy("podinfo").Status == corev1.ConditionTrue })
}

// copies are the names of the ConfigMaps that the Canary made.
func (a *api) copies() []string {
	list, err := a.client.Resource(configMapResource).Namespace("test").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		if strings.HasSuffix(list.Items[i].GetName(), v1beta1.PrimarySuffix) {
			names = append(names, list.Items[i].GetName())
		}
	}
	return names
}

func TestMissingConfigIsToldAndHealsItself(t *testing.T) {
	synctest.Test(t, testMissingConfigIsToldAndHealsItself)
}

func testMissingConfigIsToldAndHealsItself(t *testing.T) {
	a := newAPI(t, readingSettings("podinfo"), canaryFor("podinfo"))
	l := newLoop(t, a, 1).trackConfigs().start()
	l.until("the condition", func() bool {
		return strings.Contains(l.healthy("podinfo").Message, `configmap settings.test get query error: configmaps "settings" not found`)
	})
	a.put(settings())
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}

func TestB09_PrimaryScalerFollowsWithoutARollout(t *testing.T) {
	synctest.Test(t, testB09_PrimaryScalerFollowsWithoutARollout)
}

func testB09_PrimaryScalerFollowsWithoutARollout(t *testing.T) {
	scaler := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
		"metadata": map[string]any{"name": "podinfo", "namespace": "test", "uid": "uid-scaler"},
		"spec": map[string]any{
			"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
			"minReplicas":    int64(2), "maxReplicas": int64(4),
		},
	}}
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["autoscalerRef"] = map[string]any{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "podinfo",
	}
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1).start()
	l.until("the condition", func() bool {
		return strings.Contains(l.healthy("podinfo").Message, "HorizontalPodAutoscaler podinfo.test get query error")
	})
	a.put(scaler)
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	minimum := func() int64 {
		n, _, _ := unstructured.NestedInt64(a.get(scalerResource, primaryOf("podinfo")).Object, "spec", "minReplicas")
		return n
	}
	if got := minimum(); got != 2 {
		t.Errorf("minReplicas = %d", got)
	}
	a.edit(scalerResource, "podinfo", int64(3), "spec", "minReplicas")
	l.until("the copy to follow", func() bool { return minimum() == 3 })
	// B-09: metadata is copied once and then left alone.
	a.edit(scalerResource, "podinfo", "shop", "metadata", "labels", "team")
	l.until("the label of the copy", func() bool { return a.get(scalerResource, primaryOf("podinfo")).GetLabels()["team"] == "shop" })
	l.atRest("podinfo")
	l.untilIdle()
	before := l.passes()
	a.reset()
	a.edit(deploymentResource, "podinfo", "x", "metadata", "labels", "touched")
	eventually(t, "a pass", func() bool { return l.passes() > before })
	l.untilIdle()
	if calls := a.recorded(); len(calls) != 0 {
		t.Errorf("calls of a settled Canary: %v", calls)
	}
	if run := a.canary("podinfo").Status.Rollout.Run; run != 0 {
		t.Errorf("%d analyses", run)
	}
}
