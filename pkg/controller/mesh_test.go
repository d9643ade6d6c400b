package controller

import (
	"testing"
	"testing/synctest"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/registry"
)

// B-31 with -kubeconfig-service-mesh: routes in another cluster can have no owner reference, and go under their previous name all
// the same. Those of users stay.
func TestB31_PreviousRoutesOfAnotherClusterGo(t *testing.T) {
	synctest.Test(t, testB31_PreviousRoutesOfAnotherClusterGo)
}

func testB31_PreviousRoutesOfAnotherClusterGo(t *testing.T) {
	canary := revertible("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "istio"
	a, mesh := newAPI(t, readyDeployment("podinfo", 2), canary), newAPI(t)
	mesh.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	l := newLoop(t, a, 1, func(c *Config) {
		cluster := mesh.cluster()
		c.Mesh, c.Providers = &cluster, registry.New(registry.Config{Unowned: true})
	}).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	if !mesh.exists(virtualServices, "podinfo") || a.exists(virtualServices, "podinfo") {
		t.Fatal("the routes are not in the cluster of the mesh")
	}
	if owners := mesh.get(virtualServices, "podinfo").GetOwnerReferences(); len(owners) > 0 {
		t.Errorf("owners %v, whom nobody knows in that cluster", owners)
	}
	users := mesh.get(virtualServices, "podinfo")
	users.SetName("users")
	users.SetAnnotations(nil)
	if err := mesh.client.Tracker().Create(virtualServices, users, "test"); err != nil {
		t.Fatal(err)
	}

	a.edit(canaryResource, "podinfo", "web", "spec", "service", "name")
	l.until("the former routes to go", func() bool { return mesh.exists(virtualServices, "web") && !mesh.exists(virtualServices, "podinfo") })
	l.retired(v1beta1.RoutingRef{Service: "web", Provider: "istio"})
	l.silent()

	a.delete("podinfo")
	l.until("the routes to go with the Canary", func() bool { return !mesh.exists(virtualServices, "web") })
	if !mesh.exists(virtualServices, "users") {
		t.Error("routes of users are gone")
	}
}
