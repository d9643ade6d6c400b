package controller

import (
	"slices"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/kuma"
)

var routeResource = kuma.New().Resources()[0].Resource

func (a *api) hasRoute() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.client.Tracker().Get(routeResource, "", "podinfo")
	return err == nil
}

// A cluster-scoped route stayed for ever in Flagger, and led to a primary that was gone.
func TestRouteOfKumaGoesWithTheCanary(t *testing.T) {
	for _, reverts := range []bool{false, true} {
		canary := revertible("podinfo")
		spec := canary.Object["spec"].(map[string]any)
		spec["provider"], spec["revertOnDeletion"] = "kuma", reverts
		a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), canary)
		a.served.ServeCluster("kuma.io/v1alpha1", "trafficroutes")
		l := newLoop(t, a, 1).start()
		l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
		l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
		l.atRest("podinfo")
		held := func() bool {
			return slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
		}
		if !a.hasRoute() || !held() {
			t.Fatalf("reverts %t: route %t, finalizer %t", reverts, a.hasRoute(), held())
		}
		a.delete("podinfo")
		l.until("the finalizer to go", func() bool { return !held() })
		if a.hasRoute() {
			t.Errorf("reverts %t: the route is still there", reverts)
		}
	}
}
