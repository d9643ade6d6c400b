package controller

import (
	"slices"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const pausedReplicas = "autoscaling.keda.sh/paused-replicas"

func scalerRef(kind, name string) map[string]any {
	versions := map[string]any{"ScaledObject": "keda.sh/v1alpha1", "HorizontalPodAutoscaler": "autoscaling/v2"}
	return map[string]any{"apiVersion": versions[kind], "kind": kind, "name": name}
}

// scaledCanary is one whose target is held by KEDA.
func scaledCanary() *unstructured.Unstructured {
	canary := revertible("podinfo")
	canary.Object["spec"].(map[string]any)["autoscalerRef"] = scalerRef("ScaledObject", "podinfo")
	return canary
}

func (a *api) remove(resource schema.GroupVersionResource, name string, path ...string) {
	a.t.Helper()
	u := a.get(resource, name)
	unstructured.RemoveNestedField(u.Object, path...)
	a.put(u)
}

// paused is what the ScaledObject of the target is told, empty if it is told nothing.
func (a *api) paused() string {
	a.t.Helper()
	return a.get(kedaResource, "podinfo").GetAnnotations()[pausedReplicas]
}

func (l *loop) untilForgotten(scalers int) {
	l.t.Helper()
	l.until("the record of the former autoscaler to go", func() bool { return len(l.api.canary("podinfo").Status.Rollout.Scalers) == scalers })
}

// A ScaledObject that a Canary at rest comes to refer to would bring pods up that nobody needs.
func TestScalerAddedAtRestIsPaused(t *testing.T) { synctest.Test(t, testScalerAddedAtRestIsPaused) }

func testScalerAddedAtRestIsPaused(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := initialized(t, a)
	a.put(scaledObject())
	a.reset()
	a.edit(canaryResource, "podinfo", scalerRef("ScaledObject", "podinfo"), "spec", "autoscalerRef")
	l.until("the pause", func() bool { return a.paused() == "0" })
	l.until("the copy", func() bool { return a.exists(kedaResource, primaryOf("podinfo")) })
	l.untilForgotten(1)
	l.atRest("podinfo")
	l.untilIdle()
	if n := a.times("patch deployments"); a.times("patch scaledobjects") != 1 || n != 0 {
		t.Errorf("calls %q, want one patch", a.recorded())
	}
	l.silent()
}

// A ScaledObject that a Canary no longer refers to is its user's again, and the next revision gets its pods.
func TestPreviousScalerHoldsNothing(t *testing.T) { synctest.Test(t, testPreviousScalerHoldsNothing) }

func testPreviousScalerHoldsNothing(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), scaledObject(), scaledCanary())
	l := initialized(t, a)
	if a.paused() != "0" {
		t.Fatalf("paused %q", a.paused())
	}
	a.remove(canaryResource, "podinfo", "spec", "autoscalerRef")
	l.until("the pause to be taken back", func() bool { return a.paused() == "" })
	l.until("the copy to go", func() bool { return !a.exists(kedaResource, primaryOf("podinfo")) })
	l.untilForgotten(0)
	l.silent()
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	if a.paused() != "" {
		t.Errorf("paused %q", a.paused())
	}
}

// The same goes for another kind of autoscaler, while the user keeps the old one.
func TestPreviousKindOfScalerHoldsNothing(t *testing.T) {
	synctest.Test(t, testPreviousKindOfScalerHoldsNothing)
}

func testPreviousKindOfScalerHoldsNothing(t *testing.T) {
	hpa := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
		"metadata": map[string]any{"name": "podinfo", "namespace": "test", "uid": "uid-hpa"},
		"spec": map[string]any{
			"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
			"minReplicas":    int64(2), "maxReplicas": int64(4),
		},
	}}
	a := newAPI(t, readyDeployment("podinfo", 2), scaledObject(), hpa, scaledCanary())
	l := initialized(t, a)
	a.edit(canaryResource, "podinfo", scalerRef("HorizontalPodAutoscaler", "podinfo"), "spec", "autoscalerRef")
	l.until("the pause to be taken back", func() bool { return a.paused() == "" })
	l.until("the copy to be replaced", func() bool {
		return !a.exists(kedaResource, primaryOf("podinfo")) && a.exists(scalerResource, primaryOf("podinfo"))
	})
	l.untilForgotten(1)
	l.silent()
}

// A pause that is not ours stays, and so does that of a ScaledObject which another Canary refers to by now. One that is gone
// holds up nothing.
func TestPreviousScalerThatIsNotOurs(t *testing.T) {
	for name, change := range map[string]func(*api){
		"paused by its user": func(a *api) {
			a.edit(kedaResource, "podinfo", "1", "metadata", "annotations", pausedReplicas)
		},
		"another Canary's": func(a *api) {
			other := canaryFor("backend")
			other.Object["spec"].(map[string]any)["autoscalerRef"] = scalerRef("ScaledObject", "podinfo")
			other.Object["spec"].(map[string]any)["suspend"] = true
			a.put(other)
		},
		"gone": func(a *api) {
			if err := a.client.Tracker().Delete(kedaResource, "test", "podinfo"); err != nil {
				a.t.Fatal(err)
			}
		},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			a := newAPI(t, readyDeployment("podinfo", 2), scaledObject(), scaledCanary())
			l := initialized(t, a)
			l.end()
			change(a)
			a.remove(canaryResource, "podinfo", "spec", "autoscalerRef")
			a.reset()
			l = newLoop(t, a, 1).start()
			l.until("the copy to go", func() bool { return !a.exists(kedaResource, primaryOf("podinfo")) })
			l.untilForgotten(0)
			if slices.Contains(a.recorded(), "patch scaledobjects") {
				t.Errorf("calls %q, want the ScaledObject to be left alone", a.recorded())
			}
		}))
	}
}

// A deletion hands the target back to its autoscaler even if the Canary stopped to refer to that right before.
func TestDeletionResumesPreviousScaler(t *testing.T) {
	synctest.Test(t, testDeletionResumesPreviousScaler)
}

func testDeletionResumesPreviousScaler(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), scaledObject(), scaledCanary())
	l := initialized(t, a)
	l.end()
	a.remove(canaryResource, "podinfo", "spec", "autoscalerRef")
	a.delete("podinfo")
	l = newLoop(t, a, 1).start()
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
	if a.paused() != "" || replicasOf(a, "podinfo") != 2 {
		t.Errorf("paused %q, %d pods", a.paused(), replicasOf(a, "podinfo"))
	}
}
