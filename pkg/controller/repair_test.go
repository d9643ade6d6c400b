package controller

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// contend lets somebody else undo every write to an object, before the operator has the answer to it, until stop is called.
func contend(a *api, resource schema.GroupVersionResource, name string, undo func(u *unstructured.Unstructured)) (stop func()) {
	var mu sync.Mutex
	stopped := false
	a.client.PrependReactor("patch", resource.Resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if stopped || action.(clienttesting.PatchAction).GetName() != name {
			return false, nil, nil
		}
		handled, stored, err := a.react(action)
		if err == nil {
			u := a.get(resource, name)
			undo(u)
			byArgo(u)
			a.put(u)
		}
		return handled, stored, err
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
	}
}

func byArgo(u *unstructured.Unstructured) {
	all := map[string]any{}
	_ = unstructured.SetNestedSlice(u.Object, []any{
		map[string]any{"manager": "argocd-controller", "operation": "Update", "time": "2026-01-02T03:04:05Z", "fieldsV1": all},
	}, "metadata", "managedFields")
}

// times counts the calls of the operator of a kind.
func (a *api) times(call string) (n int) {
	for _, c := range a.recorded() {
		if c == call {
			n++
		}
	}
	return n
}

func (l *loop) contended(name string) bool {
	return l.healthy(name).Reason == string(rollout.ReasonContended)
}

func (l *loop) wantOneEpisode(message string) {
	l.t.Helper()
	if got := l.count(func(m string) bool { return m == message }); got != 1 {
		l.t.Errorf("%q was told %d times in %q", message, got, l.messages())
	}
}

// Flagger and another owner of a Service changed its selector in turns for ever. Now the object is repaired at most every ten
// seconds as long as requests go nowhere, and the user learns who it is.
func TestIncidentB14_ServiceIsContended(t *testing.T) {
	synctest.Test(t, testIncidentB14_ServiceIsContended)
}

func testIncidentB14_ServiceIsContended(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	l.untilIdle()
	a.reset()
	selector := func(u *unstructured.Unstructured) string {
		value, _, _ := unstructured.NestedString(u.Object, "spec", "selector", "app")
		return value
	}
	stop := contend(a, serviceResource, "podinfo", func(u *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(u.Object, "podinfo", "spec", "selector", "app")
	})
	a.edit(serviceResource, "podinfo", "podinfo", "spec", "selector", "app")
	eventually(t, "the condition", func() bool { return l.contended("podinfo") })
	message := l.healthy("podinfo").Message
	for _, want := range []string{"Service podinfo.test", "spec.selector.app", `"argocd-controller"`} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not mention %s", message, want)
		}
	}
	passes := l.passMinute()
	if writes := a.times("patch services"); writes < 3 || writes > 8 {
		t.Errorf("%d writes in a minute of changes", writes)
	}
	if passes > 60 {
		t.Errorf("%d passes in a minute", passes)
	}
	l.wantOneEpisode(message)
	stop()
	l.until("the end of it", func() bool { return l.healthy("podinfo").Status == "True" })
	if got := selector(a.get(serviceResource, "podinfo")); got != "podinfo-primary" {
		t.Errorf("the Service selects %s", got)
	}
	l.wantOneEpisode(message)
}

func scaledObject() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
		"metadata": map[string]any{"name": "podinfo", "namespace": "test", "uid": "uid-keda", "managedFields": []any{
			map[string]any{"manager": "argocd-controller", "operation": "Update", "time": "2026-01-02T03:04:05Z"},
		}},
		"spec": map[string]any{
			"scaleTargetRef": map[string]any{"name": "podinfo"}, "minReplicaCount": int64(1),
			"triggers": []any{map[string]any{"type": "cpu", "metadata": map[string]any{"value": "50"}}},
		},
	}}
}

// A webhook drops the annotation by which KEDA is told to leave the target at zero.
func TestIncidentB14_PauseIsContended(t *testing.T) {
	synctest.Test(t, testIncidentB14_PauseIsContended)
}

func testIncidentB14_PauseIsContended(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["autoscalerRef"] = map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "podinfo",
	}
	a := newAPI(t, readyDeployment("podinfo", 2), canary, scaledObject())
	var mu sync.Mutex
	writes, stopped := 0, false
	a.client.PrependReactor("patch", "scaledobjects", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		writes++
		return !stopped, a.get(kedaResource, "podinfo"), nil
	})
	l := newLoop(t, a, 1).start()
	l.until("the condition", func() bool { return l.contended("podinfo") })
	message := l.healthy("podinfo").Message
	for _, want := range []string{"ScaledObject podinfo.test", "autoscaling.keda.sh/paused-replicas", `"argocd-controller"`} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not mention %s", message, want)
		}
	}
	mu.Lock()
	before := writes
	mu.Unlock()
	l.passMinute()
	mu.Lock()
	stopped = true
	if writes > before+4 {
		t.Errorf("%d writes in a minute of changes", writes-before)
	}
	mu.Unlock()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the end of it", func() bool { return l.healthy("podinfo").Status == "True" })
	l.wantOneEpisode(message)
}

// Somebody else scales a new revision down whenever it gets its pods.
func TestIncidentB14_ReplicasAreContended(t *testing.T) {
	synctest.Test(t, testIncidentB14_ReplicasAreContended)
}

func testIncidentB14_ReplicasAreContended(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	stop := contend(a, deploymentResource, "podinfo", func(u *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(u.Object, int64(0), "spec", "replicas")
	})
	l.untilIdle()
	a.reset()
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	l.until("the condition", func() bool { return l.contended("podinfo") })
	if message := l.healthy("podinfo").Message; !strings.Contains(message, "Deployment podinfo.test") || !strings.Contains(message, "spec.replicas") {
		t.Errorf("message %q", message)
	}
	for range 60 {
		l.clock.Step(time.Second)
		l.untilIdle()
	}
	if writes := a.times("patch deployments"); writes > 6 {
		t.Errorf("%d writes in a minute of changes", writes)
	}
	stop()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
}

// What the rules decide anew, such as to roll back, is written at once, whoever keeps changing what was there before.
func TestIncidentB14_DecisionsAreNotHeld(t *testing.T) {
	synctest.Test(t, testIncidentB14_DecisionsAreNotHeld)
}

func testIncidentB14_DecisionsAreNotHeld(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2))
	l := newLoop(t, a, 1).start()
	eventually(t, "the caches", l.Synced)
	ref := services.Ref("test", "extra")
	canary := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test", UID: "uid"}}
	v := &view{key: "test/podinfo", canary: canary, memory: &memory{contentions: contentions{}}, started: l.clock.Now()}
	o := &observer{c: l.Controller, v: v, main: l.index.Reads(v.key).Of(l.main)}
	wanted := func(value string) []router.Object {
		return []router.Object{{
			Ref: ref, Wanted: router.NewObject(ref, nil, nil, map[string]any{"sessionAffinity": value}),
			Owned: [][]string{{"spec", "sessionAffinity"}},
		}}
	}
	is := func(value string) bool {
		u, err := l.main.Get(ref)
		if err != nil || u == nil {
			return false
		}
		got, _, _ := unstructured.NestedString(u.Object, "spec", "sessionAffinity")
		return got == value
	}
	apply := func(value string) {
		t.Helper()
		o.inPlace(l.main, o.main, wanted(value))
		if err := l.applyObjects(t.Context(), v, l.main, canary, wanted(value)); err != nil {
			t.Fatal(err)
		}
	}
	undo := func() {
		t.Helper()
		a.edit(serviceResource, "extra", "theirs", "spec", "sessionAffinity")
		eventually(t, "the change", func() bool { return is("theirs") })
	}
	apply("step")
	undo()
	apply("step")
	if !is("step") {
		t.Fatal("the first change was not repaired")
	}
	undo()
	apply("step")
	if !is("theirs") || !v.memory.contentions.untold() {
		t.Fatal("the second change was repaired at once")
	}
	apply("rollback")
	if !is("rollback") {
		t.Error("a new decision was held")
	}
	undo()
	apply("rollback")
	l.clock.Step(firstPause)
	apply("rollback")
	if !is("rollback") {
		t.Error("an urgent repair was held for longer than the first pause")
	}
}

func TestIncidentB14_UrgentRepairs(t *testing.T) {
	route := router.Ref{Kind: "VirtualService", Namespace: "test", Name: "podinfo"}
	scaler := router.Ref{Resource: scalerResource, Kind: "HorizontalPodAutoscaler", Namespace: "test", Name: "podinfo-primary"}
	spec := map[string]any{"spec": map[string]any{"http": []any{}}}
	metadata := map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}, "resourceVersion": "1"}}
	facts := func(weight, primary, canary int32) rollout.Facts {
		return rollout.Facts{
			Routes:  rollout.RoutesFact{Known: true, CanaryWeight: weight},
			Primary: rollout.Workload{Available: primary}, Target: rollout.Workload{Available: canary},
		}
	}
	for name, c := range map[string]struct {
		change router.Change
		facts  rollout.Facts
		next   int32
		want   bool
	}{
		"less to the canary than wanted":   {router.Change{Ref: route, Op: router.Update, Body: spec}, facts(10, 2, 2), 20, false},
		"more to the canary than wanted":   {router.Change{Ref: route, Op: router.Update, Body: spec}, facts(50, 2, 2), 0, true},
		"some to a canary without pods":    {router.Change{Ref: route, Op: router.Update, Body: spec}, facts(10, 2, 0), 20, true},
		"some to a primary without pods":   {router.Change{Ref: route, Op: router.Update, Body: spec}, facts(90, 0, 2), 100, true},
		"a route that can't be understood": {router.Change{Ref: route, Op: router.Update, Body: spec}, rollout.Facts{}, 0, true},
		"a route that is gone":             {router.Change{Ref: route, Op: router.Create, Body: spec}, facts(0, 2, 2), 0, true},
		"a label":                          {router.Change{Ref: route, Op: router.Update, Body: metadata}, rollout.Facts{}, 0, false},
		"a Service":                        {router.Change{Ref: services.Ref("test", "podinfo"), Op: router.Update, Body: spec}, facts(0, 2, 2), 0, true},
		"an autoscaler":                    {router.Change{Ref: scaler, Op: router.Update, Body: spec}, rollout.Facts{}, 0, false},
	} {
		v := &view{canary: &v1beta1.Canary{}, facts: c.facts, scaler: []router.Object{{Ref: scaler}}}
		if got := v.urgent(&c.change, &v1beta1.CanaryStatus{CanaryWeight: c.next}); got != c.want {
			t.Errorf("%s: urgent %t, want %t", name, got, c.want)
		}
	}
}
