package controller

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A Canary that was replaced, or restored from a backup, has another UID. What it made would be deleted by the garbage collector,
// the primary with its pods first of all.
func TestRecreatedCanaryOwnsWhatItHas(t *testing.T) {
	for name, status := range map[string]bool{"without its status": false, "with its status": true} {
		t.Run(name, inBubble(func(t *testing.T) {
			testRecreated(t, status)
		}))
	}
}

func testRecreated(t *testing.T, withStatus bool) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["autoscalerRef"] = scalerRef("ScaledObject", "podinfo")
	a := newAPI(t, readingSettings("podinfo"), settings(), scaledObject(), canary)
	l := newLoop(t, a, 1).trackConfigs().start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	l.end()
	if withStatus {
		canary = a.get(canaryResource, "podinfo")
	}
	if err := a.client.Tracker().Delete(canaryResource, "test", "podinfo"); err != nil {
		t.Fatal(err)
	}
	canary.SetUID("uid-new")
	a.put(canary)
	a.reset()

	l = newLoop(t, a, 1).trackConfigs().start()
	made := map[schema.GroupVersionResource]string{
		deploymentResource: "podinfo-primary", configMapResource: "settings-primary", kedaResource: "podinfo-primary", serviceResource: "podinfo-primary",
	}
	owned := func(resource schema.GroupVersionResource) bool {
		return ownerOf(a.get(resource, made[resource])) == "uid-new"
	}
	for resource, name := range made {
		l.until("the owner of "+resource.Resource+" "+name, func() bool { return owned(resource) })
	}
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	l.untilIdle()
	for _, call := range []string{"update deployments", "update configmaps"} {
		if n := a.times(call); n != 1 {
			t.Errorf("%d of %q in %q, want one", n, call, a.recorded())
		}
	}
	if replicasOf(a, "podinfo-primary") != 2 {
		t.Errorf("the primary has %d pods", replicasOf(a, "podinfo-primary"))
	}
	if slices.Contains(a.recorded(), "create deployments") {
		t.Errorf("calls %q, want the primary to stay", a.recorded())
	}
	l.silent()
}

func ownerOf(u *unstructured.Unstructured) string {
	for _, owner := range u.GetOwnerReferences() {
		return string(owner.UID)
	}
	return ""
}
