package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

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

// twoClusters is a loop whose mesh is in another cluster than its workloads.
func twoClusters(t *testing.T, a, mesh *api) *loop {
	return newLoop(t, a, 1, func(c *Config) {
		cluster := mesh.cluster()
		c.Mesh, c.Providers = &cluster, registry.New(registry.Config{Unowned: true})
	})
}

// An Ingress is in the cluster of the Service that it leads to, and so is the one for the canary: it goes with the Canary.
func TestIngressesAreWithTheWorkloads(t *testing.T) {
	synctest.Test(t, testIngressesAreWithTheWorkloads)
}

func testIngressesAreWithTheWorkloads(t *testing.T) {
	a, mesh := exposed(t), newAPI(t)
	mesh.serve("networking.k8s.io/v1", "ingresses")
	l := twoClusters(t, a, mesh).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	if !a.exists(ingressResource, "edge-canary") || mesh.exists(ingressResource, "edge-canary") {
		t.Fatal("the Ingress for the canary is not where that of the user is")
	}
	if owner := metav1.GetControllerOf(a.get(ingressResource, "edge-canary")); owner == nil || owner.UID != "uid-podinfo" {
		t.Errorf("the Ingress for the canary has the owner %v, want the Canary", owner)
	}
	l.atRest("podinfo")
	if calls := mesh.recorded(); len(calls) > 0 {
		t.Errorf("calls %q in the cluster of the mesh", calls)
	}
}

// A provider may need both clusters: its objects are in that of the mesh, the Services that it reads with the workloads.
func TestSourcesAreWithTheWorkloads(t *testing.T) { synctest.Test(t, testSourcesAreWithTheWorkloads) }

func testSourcesAreWithTheWorkloads(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "appmesh:v1beta2"
	a, mesh := newAPI(t, readyDeployment("podinfo", 2), canary), newAPI(t)
	mesh.serve("appmesh.k8s.aws/v1beta2", "virtualnodes", "virtualrouters", "virtualservices")
	l := twoClusters(t, a, mesh).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	if !slices.Contains(mesh.recorded(), "create virtualrouters") || slices.Contains(mesh.recorded(), "create services") {
		t.Errorf("calls %q in the cluster of the mesh", mesh.recorded())
	}
	nodes := schema.GroupVersionResource{Group: "appmesh.k8s.aws", Version: "v1beta2", Resource: "virtualnodes"}
	selector, _, _ := unstructured.NestedStringMap(mesh.get(nodes, "podinfo-primary").Object, "spec", "podSelector", "matchLabels")
	if selector["app"] != "podinfo-primary" {
		t.Errorf("the node of the primary selects %v, want what its Service does", selector)
	}
}

// Routes in another cluster outlive a Canary that goes while nobody can read them. So it stays, says why, and goes once they are gone.
func TestDeletionWaitsForTheMesh(t *testing.T) {
	for _, reverts := range []bool{false, true} {
		for _, known := range []bool{false, true} {
			name := fmt.Sprintf("reverts=%t,known=%t", reverts, known)
			t.Run(name, inBubble(func(t *testing.T) { testDeletionWaitsForTheMesh(t, reverts, known) }))
		}
	}
}

func testDeletionWaitsForTheMesh(t *testing.T, reverts, known bool) {
	canary := revertible("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["provider"], spec["revertOnDeletion"] = "istio", reverts
	a, mesh := newAPI(t, readyDeployment("podinfo", 2), canary), newAPI(t)
	mesh.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	l := twoClusters(t, a, mesh).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")

	away := errors.New("connection refused")
	if known {
		mesh.failWith(func(string) error { return away })
	} else {
		// An operator that starts now has seen nothing of the mesh.
		l.end()
		mesh.served.Fail(away)
		l = twoClusters(t, a, mesh).start()
	}
	a.delete("podinfo")
	held := func() bool {
		return slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	}
	l.until("the reason to be told", func() bool {
		message := l.healthy("podinfo").Message
		return strings.Contains(message, "connection refused") && strings.Contains(message, v1beta1.Finalizer) || !held()
	})
	for range 60 {
		l.step()
	}
	if !held() || !mesh.exists(virtualServices, "podinfo") {
		t.Fatalf("finalizer %t, routes %t while the mesh is away", held(), mesh.exists(virtualServices, "podinfo"))
	}
	mesh.failWith(nil)
	mesh.served.Fail(nil)
	l.until("the finalizer to go", func() bool { return !held() })
	if mesh.exists(virtualServices, "podinfo") {
		t.Error("the routes are still there")
	}
}
