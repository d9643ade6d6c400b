package controller

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache/cachetest"
	"flagger.app/flagger/pkg/rollout"
)

func (a *api) exists(resource schema.GroupVersionResource, name string) bool {
	a.t.Helper()
	_, err := a.client.Tracker().Get(resource, "test", name)
	if err != nil && !apierrors.IsNotFound(err) {
		a.t.Error(err)
	}
	return err == nil
}

// initialized is a loop whose Canary has taken its target over.
func initialized(t *testing.T, a *api) *loop {
	t.Helper()
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	return l
}

// retired waits until the record of the Canary has one entry, or one that is released besides.
func (l *loop) retired(want ...v1beta1.RoutingRef) {
	l.t.Helper()
	l.until("the record to be right", func() bool { return slices.Equal(want, l.api.canary("podinfo").Status.Rollout.Routing) })
}

// silent lets the Canary make a pass and expects no call.
func (l *loop) silent() {
	l.t.Helper()
	l.atRest("podinfo")
	l.untilSeen("podinfo")
	l.untilIdle()
	before := l.passes()
	l.api.reset()
	l.api.edit(deploymentResource, "podinfo", l.clock.Now().String(), "metadata", "annotations", "touched")
	eventually(l.t, "a pass", func() bool { return l.passes() > before })
	l.untilIdle()
	if calls := l.api.recorded(); len(calls) != 0 {
		l.t.Errorf("calls of a settled Canary: %v", calls)
	}
}

// B-31: what the Canary made under a previous name goes once the present Services stand; nothing else does.
func TestB31_PreviousServicesGo(t *testing.T) { synctest.Test(t, testB31_PreviousServicesGo) }

func testB31_PreviousServicesGo(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := initialized(t, a)
	a.edit(canaryResource, "podinfo", "web", "spec", "service", "name")
	l.retired(v1beta1.RoutingRef{Service: "web", Provider: "kubernetes"})
	for name, want := range map[string]bool{
		"podinfo": false, "podinfo-primary": false, "podinfo-canary": false, "web": true, "web-primary": true, "web-canary": true,
	} {
		if a.exists(serviceResource, name) != want {
			t.Errorf("Service %s exists: %t", name, !want)
		}
	}
	l.atRest("podinfo")
	l.untilIdle()
	if n := len(slices.DeleteFunc(l.messages(), func(m string) bool { return !strings.Contains(m, "former name podinfo") })); n != 1 {
		t.Errorf("told %d times in %q", n, l.messages())
	}
	l.silent()
}

// B-31: a Service of the user's is not deleted under its previous name. It becomes what it was, but for leading to the primary, as
// the target has no pods; only when the Canary is deleted it selects the target again. In between it is left alone.
func TestB31_PreviousServiceOfAUserStays(t *testing.T) {
	synctest.Test(t, testB31_PreviousServiceOfAUserStays)
}

func testB31_PreviousServiceOfAUserStays(t *testing.T) {
	service := usersService("podinfo")
	ports := []any{map[string]any{"name": "web", "port": int64(8080), "protocol": "TCP", "targetPort": int64(9898)}}
	service.Object["spec"].(map[string]any)["ports"] = ports
	a := newAPI(t, readyDeployment("podinfo", 2), service, revertible("podinfo"))
	l := initialized(t, a)
	a.edit(canaryResource, "podinfo", "web", "spec", "service", "name")
	l.retired(v1beta1.RoutingRef{Service: "web", Provider: "kubernetes"}, v1beta1.RoutingRef{Service: "podinfo", Released: true})
	if diff := cmp.Diff(map[string]string{"app": "podinfo-primary"}, selectorOf(a, "podinfo")); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
	got, _, _ := unstructured.NestedSlice(a.get(serviceResource, "podinfo").Object, "spec", "ports")
	if diff := cmp.Diff(ports, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		if a.exists(serviceResource, name) {
			t.Errorf("Service %s is still there", name)
		}
	}
	a.edit(serviceResource, "podinfo", []any{}, "spec", "ports")
	l.silent()

	a.delete("podinfo")
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
	if diff := cmp.Diff(map[string]string{"app": "podinfo"}, selectorOf(a, "podinfo")); diff != "" {
		t.Errorf("selector after the deletion (-want +got):\n%s", diff)
	}
}

// B-31: a user who makes something else of the Service that was left to him keeps that.
func TestB31_PreviousServiceThatLeadsElsewhereIsForgotten(t *testing.T) {
	synctest.Test(t, testB31_PreviousServiceThatLeadsElsewhereIsForgotten)
}

func testB31_PreviousServiceThatLeadsElsewhereIsForgotten(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), revertible("podinfo"))
	l := initialized(t, a)
	a.edit(canaryResource, "podinfo", "web", "spec", "service", "name")
	l.retired(v1beta1.RoutingRef{Service: "web", Provider: "kubernetes"}, v1beta1.RoutingRef{Service: "podinfo", Released: true})
	a.edit(serviceResource, "podinfo", map[string]any{"app": "db"}, "spec", "selector")
	l.retired(v1beta1.RoutingRef{Service: "web", Provider: "kubernetes"})
	a.delete("podinfo")
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
	if diff := cmp.Diff(map[string]string{"app": "db"}, selectorOf(a, "podinfo")); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
}

// B-31: the Services of other Canaries are left alone, be it that they came by a name that was ours.
func TestB31_ServicesOfOthersStay(t *testing.T) { synctest.Test(t, testB31_ServicesOfOthersStay) }

func testB31_ServicesOfOthersStay(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := initialized(t, a)
	l.end()
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		theirs := a.get(serviceResource, name)
		owners := theirs.GetOwnerReferences()
		owners[0].Name, owners[0].UID = "other", "uid-other"
		if name == "podinfo-canary" {
			owners[0].Name = "podinfo"
		}
		theirs.SetOwnerReferences(owners)
		a.put(theirs)
	}
	a.edit(canaryResource, "podinfo", "web", "spec", "service", "name")
	l = newLoop(t, a, 1).start()
	l.retired(v1beta1.RoutingRef{Service: "web", Provider: "kubernetes"})
	for name, want := range map[string]bool{"podinfo": false, "podinfo-primary": true, "podinfo-canary": true} {
		if a.exists(serviceResource, name) != want {
			t.Errorf("Service %s exists: %t", name, !want)
		}
	}
}

// D-06: the Service of another application is left alone, and the user is told what to do.
func TestD06_ForeignServiceIsReported(t *testing.T) {
	synctest.Test(t, testD06_ForeignServiceIsReported)
}

func testD06_ForeignServiceIsReported(t *testing.T) {
	service := usersService("db")
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["service"].(map[string]any)["name"] = "db"
	a := newAPI(t, readyDeployment("podinfo", 2), service, canary)
	l := newLoop(t, a, 1).start()
	const text = "spec.service.name: Service db.test exists, no Canary owns it, and it selects app=db"
	l.until("the condition", func() bool { return strings.HasPrefix(l.healthy("podinfo").Message, text) })
	if got := l.healthy("podinfo"); got.Reason != string(rollout.ReasonInvalidSpec) || !strings.Contains(got.Message, "Set a name that no other Service has") {
		t.Errorf("condition %+v", got)
	}
	l.until("the event", func() bool {
		return slices.ContainsFunc(l.messages(), func(m string) bool { return strings.HasPrefix(m, text) })
	})
	l.untilIdle()
	for _, call := range a.recorded() {
		if !strings.HasSuffix(call, " canaries/status") {
			t.Errorf("call %q, want nothing to be written", call)
		}
	}
	a.edit(canaryResource, "podinfo", "podinfo", "spec", "service", "name")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	if diff := cmp.Diff(map[string]string{"app": "db"}, selectorOf(a, "db")); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
	a.edit(canaryResource, "podinfo", "db", "spec", "service", "name")
	l.until("the condition", func() bool { return strings.HasPrefix(l.healthy("podinfo").Message, text) })
}

// Removing or renaming autoscalerRef takes the copy of the previous autoscaler away, and no other autoscaler.
func TestPreviousScalerGoes(t *testing.T) { synctest.Test(t, testPreviousScalerGoes) }

func testPreviousScalerGoes(t *testing.T) {
	scaler := func(name, target string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
			"metadata": map[string]any{"name": name, "namespace": "test", "uid": "uid-" + name},
			"spec": map[string]any{
				"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
				"minReplicas":    int64(2), "maxReplicas": int64(4),
			},
		}}
	}
	ref := func(name string) map[string]any {
		return map[string]any{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": name}
	}
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["autoscalerRef"] = ref("one")
	a := newAPI(t, readyDeployment("podinfo", 2), canary, scaler("one", "podinfo"), scaler("two", "podinfo"), scaler("mine", "podinfo-primary"))
	l := initialized(t, a)
	if !a.exists(scalerResource, primaryOf("one")) {
		t.Fatal("the primary has no autoscaler")
	}
	a.edit(canaryResource, "podinfo", ref("two"), "spec", "autoscalerRef")
	l.until("the former one to go", func() bool { return !a.exists(scalerResource, primaryOf("one")) })
	created, deleted := slices.Index(a.recorded(), "create horizontalpodautoscalers"), slices.Index(a.recorded(), "delete horizontalpodautoscalers")
	if !a.exists(scalerResource, primaryOf("two")) || created > deleted {
		t.Errorf("calls %q, want the new one before the old one goes", a.recorded())
	}
	l.until("the record to be right", func() bool { return len(a.canary("podinfo").Status.Rollout.Scalers) == 1 })
	l.silent()

	u := a.get(canaryResource, "podinfo")
	unstructured.RemoveNestedField(u.Object, "spec", "autoscalerRef")
	a.put(u)
	l.until("the last one to go", func() bool { return !a.exists(scalerResource, primaryOf("two")) })
	l.until("the record to be empty", func() bool { return len(a.canary("podinfo").Status.Rollout.Scalers) == 0 })
	for _, name := range []string{"one", "two", "mine"} {
		if !a.exists(scalerResource, name) {
			t.Errorf("%s of the user is gone", name)
		}
	}
	l.silent()
}

// revisionLists counts how often the stored revisions were asked for.
func (a *api) revisionLists() (n int) {
	for _, action := range a.client.Actions() {
		if action.GetVerb() == "list" && action.GetResource().Resource == "controllerrevisions" {
			n++
		}
	}
	return n
}

// Copies that can't be changed are deleted after a promotion, but for those of stored revisions, which are looked at once.
func TestUnusedCopiesGo(t *testing.T) { synctest.Test(t, testUnusedCopiesGo) }

func testUnusedCopiesGo(t *testing.T) {
	config, target := settings(), readingSettings("podinfo")
	config.Object["immutable"] = true
	target.Object["spec"].(map[string]any)["revisionHistoryLimit"] = int64(1)
	a := newAPI(t, target, config, canaryFor("podinfo"))
	l := newLoop(t, a, 1).trackConfigs().start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	var copies []string
	for _, message := range []string{"two", "three", "four"} {
		run := a.canary("podinfo").Status.Rollout.Run
		a.edit(configMapResource, "settings", message, "data", "message")
		l.until("the promotion of "+message, func() bool {
			c := a.canary("podinfo")
			return c.Status.Phase == v1beta1.CanaryPhaseSucceeded && c.Status.Rollout.Run > run
		})
		volumes, _, _ := unstructured.NestedSlice(a.get(deploymentResource, primaryOf("podinfo")).Object, "spec", "template", "spec", "volumes")
		name, _, _ := unstructured.NestedString(volumes[0].(map[string]any), "configMap", "name")
		copies = append(copies, name)
	}
	l.until("the oldest copy to go", func() bool { return !a.exists(configMapResource, copies[0]) })
	for _, name := range []string{"settings", "settings-primary", copies[1], copies[2]} {
		if !a.exists(configMapResource, name) {
			t.Errorf("ConfigMap %s is gone", name)
		}
	}
	l.atRest("podinfo")
	l.untilIdle()
	before := a.revisionLists()
	l.silent()
	if n := a.revisionLists() - before; n != 0 {
		t.Errorf("stored revisions were listed %d times at rest", n)
	}
}

// routedBefore is a Canary that had routes of Istio once.
func routedBefore(t *testing.T, a *api) *loop {
	t.Helper()
	initialized(t, a).end()
	a.edit(canaryResource, "podinfo", []any{
		map[string]any{"service": "podinfo", "provider": "kubernetes"}, map[string]any{"service": "podinfo", "provider": "istio"},
	}, "status", "rollout", "routing")
	return newLoop(t, a, 1)
}

// B-31: a provider that was uninstalled has left nothing behind.
func TestB31_ProviderThatIsGone(t *testing.T) { synctest.Test(t, testB31_ProviderThatIsGone) }

func testB31_ProviderThatIsGone(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := routedBefore(t, a).start()
	l.retired(v1beta1.RoutingRef{Service: "podinfo", Provider: "kubernetes"})
}

// B-31: what can't be read is not gone: a rollout goes on up to where previous routes could harm, and a deletion waits.
func TestB31_PreviousRoutesThatCannotBeRead(t *testing.T) {
	synctest.Test(t, testB31_PreviousRoutesThatCannotBeRead)
}

func testB31_PreviousRoutesThatCannotBeRead(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), revertible("podinfo"))
	l := routedBefore(t, a)
	unreachable := cachetest.NewDiscovery()
	unreachable.Fail(errors.New("no route to host"))
	l.mesh = l.newSite(Cluster{Dynamic: a.client, Discovery: unreachable})
	l.start()
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	const text = "no route to host"
	l.until("the condition", func() bool {
		return l.phase("podinfo") == v1beta1.CanaryPhaseFinalising && strings.Contains(l.healthy("podinfo").Message, text)
	})
	if replicasOf(a, "podinfo") == 0 {
		t.Error("the target has no pods, and former routes may lead to it")
	}
	a.delete("podinfo")
	l.until("the condition", func() bool {
		return l.phase("podinfo") == v1beta1.CanaryPhaseFinalising && strings.Contains(l.healthy("podinfo").Message, "took over as podinfo for provider istio")
	})
	a.edit(canaryResource, "podinfo", false, "spec", "revertOnDeletion")
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
}
