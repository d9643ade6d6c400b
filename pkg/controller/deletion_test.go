package controller

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// usersService is the Service that clients of a Deployment of that name use.
func usersService(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": name, "namespace": "test", "uid": "uid-service"},
		"spec": map[string]any{
			"selector": map[string]any{"app": name},
			"ports":    []any{map[string]any{"name": "http", "port": int64(80), "protocol": "TCP", "targetPort": int64(9898)}},
			"type":     "ClusterIP",
		},
	}}
}

// revertible is a Canary with revertOnDeletion that somebody else holds as well.
func revertible(name string) *unstructured.Unstructured {
	canary := canaryFor(name)
	canary.Object["spec"].(map[string]any)["revertOnDeletion"] = true
	canary.SetFinalizers([]string{"example.com/other"})
	return canary
}

// delete marks a Canary as deleted, as the API server does while finalizers hold it.
func (a *api) delete(name string) {
	a.t.Helper()
	u := a.get(canaryResource, name)
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	u.SetDeletionTimestamp(&now)
	a.put(u)
}

func selectorOf(a *api, name string) map[string]string {
	selector, _, _ := unstructured.NestedStringMap(a.get(serviceResource, name).Object, "spec", "selector")
	return selector
}

func TestDeletionGivesBack(t *testing.T) { synctest.Test(t, testDeletionGivesBack) }

func testDeletionGivesBack(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), revertible("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	both := []string{"example.com/other", v1beta1.Finalizer}
	if diff := cmp.Diff(both, a.get(canaryResource, "podinfo").GetFinalizers()); diff != "" {
		t.Errorf("finalizers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"app": "podinfo-primary"}, selectorOf(a, "podinfo")); diff != "" {
		t.Fatalf("selector after the takeover (-want +got):\n%s", diff)
	}
	a.reset()
	a.delete("podinfo")
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
	if diff := cmp.Diff([]string{"example.com/other"}, a.get(canaryResource, "podinfo").GetFinalizers()); diff != "" {
		t.Errorf("finalizers of others (-want +got):\n%s", diff)
	}
	if n := replicasOf(a, "podinfo"); n != 2 {
		t.Errorf("the target has %d replicas", n)
	}
	if diff := cmp.Diff(map[string]string{"app": "podinfo"}, selectorOf(a, "podinfo")); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
	for _, want := range []string{"Terminating canary podinfo.test", "Terminated canary podinfo.test"} {
		if !slices.Contains(l.messages(), want) {
			t.Errorf("no event %q in %q", want, l.messages())
		}
	}
	scaled, reverted := slices.Index(a.recorded(), "patch deployments"), slices.Index(a.recorded(), "patch services")
	freed := slices.Index(a.recorded(), "patch canaries")
	if scaled < 0 || reverted < scaled || freed < reverted {
		t.Errorf("calls %q, want the target before the Service before the finalizer", a.recorded())
	}
	l.untilIdle()
	a.reset()
	l.clock.Step(time.Hour)
	l.untilIdle()
	if calls := a.recorded(); len(calls) != 0 {
		t.Errorf("calls for a Canary that was given back: %v", calls)
	}
}

// A target that could not be read is not gone, whatever else is wrong with a Canary that is being deleted.
func TestDeletionWaitsForWhatCouldNotBeRead(t *testing.T) {
	synctest.Test(t, testDeletionWaitsForWhatCouldNotBeRead)
}

func testDeletionWaitsForWhatCouldNotBeRead(t *testing.T) {
	l := newLoop(t, newAPI(t), 1)
	now := metav1.Now()
	canary := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test", DeletionTimestamp: &now}}
	canary.Spec.RevertOnDeletion = true
	live := l.index.Reads("test/podinfo").Of(l.main)
	o := &observer{c: l.Controller, v: &view{canary: canary}, main: live, mesh: live}
	o.invalid("spec.service.port: set it")
	o.observeReverted()
	if p := o.v.facts.Problem; p == nil || !p.Unknown || o.v.facts.Reverted {
		t.Errorf("problem %+v, reverted %t, want an unknown state", p, o.v.facts.Reverted)
	}
}

// untilSeen waits until the cache shows the newest state of a Canary. The clock of the test runs so fast that our own writes
// are forgotten before.
func (l *loop) untilSeen(name string) {
	l.t.Helper()
	eventually(l.t, "the cache to follow", func() bool {
		return l.canaries.Shows("test/"+name, l.api.get(canaryResource, name).GetResourceVersion())
	})
}

func TestFinalizerGoesWithTheWishForIt(t *testing.T) {
	synctest.Test(t, testFinalizerGoesWithTheWishForIt)
}

func testFinalizerGoesWithTheWishForIt(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), revertible("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(canaryResource, "podinfo", false, "spec", "revertOnDeletion")
	l.until("the finalizer to go", func() bool {
		return slices.Equal(a.get(canaryResource, "podinfo").GetFinalizers(), []string{"example.com/other"})
	})
}

// A Canary that is deleted while nobody asked for more is left alone.
func TestDeletionWithoutRevertWritesNothing(t *testing.T) {
	synctest.Test(t, testDeletionWithoutRevertWritesNothing)
}

func testDeletionWithoutRevertWritesNothing(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.SetFinalizers([]string{"example.com/other"})
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), canary)
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	l.untilSeen("podinfo")
	l.untilIdle()
	before := l.passes()
	a.reset()
	a.delete("podinfo")
	eventually(t, "a pass", func() bool { return l.passes() > before })
	l.untilIdle()
	before = l.passes()
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	eventually(t, "a pass", func() bool { return l.passes() > before })
	l.untilIdle()
	if calls := a.recorded(); len(calls) != 0 {
		t.Errorf("calls for a Canary that is being deleted: %v", calls)
	}
}

// Flagger was deleting the Canary when this operator took its place.
func TestDeletionBegunByFlagger(t *testing.T) { synctest.Test(t, testDeletionBegunByFlagger) }

func testDeletionBegunByFlagger(t *testing.T) {
	canary := revertible("podinfo")
	canary.SetFinalizers([]string{"example.com/other", v1beta1.Finalizer})
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	canary.SetDeletionTimestamp(&now)
	canary.Object["status"] = map[string]any{"phase": "Terminating", "canaryWeight": int64(0), "failedChecks": int64(0), "iterations": int64(0)}
	a := newAPI(t, readyDeployment("podinfo", 2), readyDeployment("podinfo-primary", 2), usersService("podinfo"), canary)
	l := newLoop(t, a, 1).start()
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
	if n := replicasOf(a, "podinfo"); n != 2 {
		t.Errorf("the target has %d replicas", n)
	}
	if diff := cmp.Diff(map[string]string{"app": "podinfo"}, selectorOf(a, "podinfo")); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
}

// The flag decides only where the Canary does not: a false that somebody wrote is meant.
func TestRevertOnDeletionByDefault(t *testing.T) {
	for name, c := range map[string]struct {
		flag bool
		says any
		want bool
	}{
		"neither":           {false, nil, false},
		"the flag":          {true, nil, true},
		"the Canary":        {false, true, true},
		"the Canary, not":   {true, false, false},
		"both":              {true, true, true},
		"neither, and says": {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				canary := canaryFor("podinfo")
				if c.says != nil {
					canary.Object["spec"].(map[string]any)["revertOnDeletion"] = c.says
				}
				a := newAPI(t, readyDeployment("podinfo", 2), canary)
				l := newLoop(t, a, 1, func(config *Config) { config.Settings.RevertOnDeletion = c.flag }).start()
				l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
				l.atRest("podinfo")
				if got := len(a.canary("podinfo").Finalizers) == 1; got != c.want {
					t.Errorf("held by the finalizer: %t, want %t", got, c.want)
				}
			})
		})
	}
}
