package controller

import (
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// contend lets somebody else undo every change of an object, as soon as it is seen, until stop is called.
func contend(a *api, resource schema.GroupVersionResource, name string, undo func(u *unstructured.Unstructured) bool) (stop func()) {
	a.t.Helper()
	changes, err := a.client.Tracker().Watch(resource, "test")
	if err != nil {
		a.t.Fatal(err)
	}
	var wait sync.WaitGroup
	done := make(chan struct{})
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-changes.ResultChan():
				if u := a.get(resource, name); undo(u) {
					u.SetManagedFields(nil)
					byArgo(u)
					a.put(u)
				}
			}
		}
	})
	var once sync.Once
	stop = func() {
		once.Do(func() {
			close(done)
			wait.Wait()
			changes.Stop()
		})
	}
	a.t.Cleanup(stop)
	return stop
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
	stop := contend(a, serviceResource, "podinfo", func(u *unstructured.Unstructured) bool {
		theirs := selector(u) == "podinfo"
		_ = unstructured.SetNestedField(u.Object, "podinfo", "spec", "selector", "app")
		return !theirs
	})
	a.edit(serviceResource, "podinfo", "podinfo", "spec", "selector", "app")
	l.until("the condition", func() bool { return l.contended("podinfo") })
	message := l.healthy("podinfo").Message
	for _, want := range []string{"Service podinfo.test", "spec.selector.app", `"argocd-controller"`} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not mention %s", message, want)
		}
	}
	passes := l.passMinute()
	if writes := a.times("patch services"); writes < 3 || writes > 9 {
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
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	stop := contend(a, deploymentResource, "podinfo", func(u *unstructured.Unstructured) bool {
		replicas, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		_ = unstructured.SetNestedField(u.Object, int64(0), "spec", "replicas")
		return replicas > 0
	})
	l.untilIdle()
	a.reset()
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	eventually(t, "the condition", func() bool { return l.contended("podinfo") })
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
