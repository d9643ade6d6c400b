package controller

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// usersRoute is a VirtualService with a rule of somebody else and one for each pair of Services, with these weights.
func usersRoute(primary, canary int64, pairs ...[2]string) *unstructured.Unstructured {
	rules := []any{map[string]any{
		"match": []any{map[string]any{"uri": map[string]any{"prefix": "/docs"}}},
		"route": []any{map[string]any{"destination": map[string]any{"host": "docs"}, "weight": int64(100)}},
	}}
	for _, pair := range pairs {
		rules = append(rules, map[string]any{
			"name": pair[0], "timeout": "5s",
			"route": []any{
				map[string]any{"destination": map[string]any{"host": pair[0]}, "weight": primary},
				map[string]any{"destination": map[string]any{"host": pair[1]}, "weight": canary},
			},
		})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
		"metadata": map[string]any{"name": "edge", "namespace": "test", "uid": "uid-edge"},
		"spec":     map[string]any{"hosts": []any{"example.com"}, "http": rules},
	}}
}

// ownCanary rolls out <name>-canary, with <name> as the primary, Services of both names, and the weights in the route edge.
func ownCanary(name string) *unstructured.Unstructured {
	canary := revertible(name)
	target := map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": name + "-canary"}
	primary := map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
	canary.Object["spec"] = map[string]any{
		"provider": "istio", "targetRef": target, "primaryRef": primary, "revertOnDeletion": true,
		"routeRef": map[string]any{"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "name": "edge"},
		"service":  map[string]any{"port": int64(80), "primaryName": name, "canaryName": name + "-canary"},
		"analysis": map[string]any{"interval": "10s", "threshold": int64(2), "stepWeight": int64(30), "maxWeight": int64(60)},
	}
	return canary
}

// withOwn is an API with what the users of these names have made.
func withOwn(t *testing.T, route *unstructured.Unstructured, names ...string) *api {
	a := newAPI(t, route)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	for _, name := range names {
		for _, side := range []string{name, name + "-canary"} {
			a.put(readyDeployment(side, 2))
			a.put(usersService(side))
		}
		a.put(ownCanary(name))
	}
	return a
}

func (a *api) edge() []any {
	rules, _, _ := unstructured.NestedSlice(a.get(virtualServices, "edge").Object, "spec", "http")
	return rules
}

// split is what a rule of the route gives to its backends.
func (a *api) split(rule int) string {
	route, _ := a.edge()[rule].(map[string]any)["route"].([]any)
	var weights []string
	for _, item := range route {
		weights = append(weights, fmt.Sprint(item.(map[string]any)["weight"]))
	}
	return strings.Join(weights, "/")
}

// bare is the route without what is ours: weights, and what every write changes.
func (a *api) bare() map[string]any {
	u := a.get(virtualServices, "edge")
	rules := a.edge()
	for _, rule := range rules {
		for _, item := range rule.(map[string]any)["route"].([]any) {
			delete(item.(map[string]any), "weight")
		}
	}
	u.Object["spec"].(map[string]any)["http"] = rules
	u.SetAnnotations(nil)
	u.SetResourceVersion("")
	u.SetGeneration(0)
	return u.Object
}

func imageOf(a *api, name string) string {
	image, _, _ := unstructured.NestedString(a.get(deploymentResource, name).Object, "spec", "template", "metadata", "annotations", "image")
	return image
}

// A user's own primary serves as it is while the target is taken down, gets what passed its analysis, and keeps everything else.
func TestOwnPrimaryAndRoute(t *testing.T) { inBubble(testOwnPrimaryAndRoute)(t) }

func testOwnPrimaryAndRoute(t *testing.T) {
	a := withOwn(t, usersRoute(50, 50, [2]string{"web", "web-canary"}), "web")
	before, bare := a.get(deploymentResource, "web"), a.bare()
	l := newLoop(t, a, 1).start()
	l.untilPhase("web", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "web-canary") == 0 })
	if got := a.split(1); got != "100/0" {
		t.Errorf("weights %s of the primary and a canary without pods, want 100/0", got)
	}
	if got := len(a.deployments()); got != 2 {
		t.Errorf("Deployments %v, want those of the user", a.deployments())
	}

	a.edit(deploymentResource, "web-canary", "web:2", "spec", "template", "metadata", "annotations", "image")
	l.until("the first step", func() bool { return a.split(1) == "70/30" })
	if got := imageOf(a, "web"); got != "" {
		t.Errorf("the primary runs %q, which is not analyzed", got)
	}
	l.untilPhase("web", v1beta1.CanaryPhaseSucceeded)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "web-canary") == 0 })
	l.atRest("web")
	after := a.get(deploymentResource, "web")
	if imageOf(a, "web") != "web:2" || a.split(1) != "100/0" {
		t.Errorf("the primary runs %q with the weights %s", imageOf(a, "web"), a.split(1))
	}
	for _, path := range [][]string{{"spec", "selector"}, {"spec", "replicas"}, {"spec", "template", "metadata", "labels"}, {"metadata", "labels"}} {
		was, _, _ := unstructured.NestedFieldNoCopy(before.Object, path...)
		is, _, _ := unstructured.NestedFieldNoCopy(after.Object, path...)
		if !reflect.DeepEqual(was, is) {
			t.Errorf("%v of the primary was %v and is %v", path, was, is)
		}
	}
	if owners := after.GetOwnerReferences(); len(owners) > 0 {
		t.Errorf("owners of the primary %v, want none", owners)
	}
	if diff := cmp.Diff(bare, a.bare()); diff != "" {
		t.Errorf("more than weights was changed (-want +got):\n%s", diff)
	}
	services := []string{"web", "web-canary"}
	for _, name := range append(services, "web-canary-primary", "web-canary-canary") {
		if a.exists(serviceResource, name) != slices.Contains(services, name) {
			t.Errorf("Service %s exists: %t", name, a.exists(serviceResource, name))
		}
	}

	a.delete("web")
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "web").GetFinalizers(), v1beta1.Finalizer)
	})
	if a.split(1) != "50/50" || replicasOf(a, "web-canary") != 2 || replicasOf(a, "web") != 2 {
		t.Errorf("given back: weights %s, %d and %d pods, want 50/50 with 2 each", a.split(1), replicasOf(a, "web"), replicasOf(a, "web-canary"))
	}
	if diff := cmp.Diff(bare, a.bare()); diff != "" || len(a.get(virtualServices, "edge").GetAnnotations()) > 0 {
		t.Errorf("more than weights was given back (-want +got):\n%s", diff)
	}
}

// A primary that differs from its target when it is named is the baseline: the target is a new revision, which is analyzed.
func TestOwnPrimaryThatDiffersIsTheBaseline(t *testing.T) {
	inBubble(testOwnPrimaryThatDiffersIsTheBaseline)(t)
}

func testOwnPrimaryThatDiffersIsTheBaseline(t *testing.T) {
	a := withOwn(t, usersRoute(100, 0, [2]string{"web", "web-canary"}), "web")
	a.edit(deploymentResource, "web-canary", "web:2", "spec", "template", "metadata", "annotations", "image")
	l := newLoop(t, a, 1).start()
	l.until("an analysis", func() bool { return a.split(1) == "70/30" })
	if got := imageOf(a, "web"); got != "" {
		t.Errorf("the primary runs %q before the analysis is done", got)
	}
	l.untilPhase("web", v1beta1.CanaryPhaseSucceeded)
	if got := imageOf(a, "web"); got != "web:2" {
		t.Errorf("the primary runs %q after the analysis", got)
	}
}

// Whoever changes other things in the route during a run keeps them, and weights come back to the present step.
func TestOwnRouteThatItsUserEdits(t *testing.T) { inBubble(testOwnRouteThatItsUserEdits)(t) }

func testOwnRouteThatItsUserEdits(t *testing.T) {
	a := withOwn(t, usersRoute(100, 0, [2]string{"web", "web-canary"}, [2]string{"shop", "shop-canary"}), "web", "shop")
	l := newLoop(t, a, 2).start()
	l.until("both to be initialized", func() bool {
		return l.phase("web") == v1beta1.CanaryPhaseInitialized && l.phase("shop") == v1beta1.CanaryPhaseInitialized
	})
	a.edit(deploymentResource, "web-canary", "web:2", "spec", "template", "metadata", "annotations", "image")
	l.until("the first step", func() bool { return a.split(1) == "70/30" })
	if got := a.split(2); got != "100/0" {
		t.Errorf("the other Canary has %s, want 100/0", got)
	}
	edited := a.edge()
	edited[1].(map[string]any)["timeout"] = "9s"
	edited[0], edited[1] = edited[1], edited[0]
	for _, item := range edited[0].(map[string]any)["route"].([]any) {
		item.(map[string]any)["weight"] = int64(50)
	}
	a.edit(virtualServices, "edge", runtime.DeepCopyJSONValue(edited), "spec", "http")
	bare := a.bare()
	l.until("the weights to be repaired", func() bool { return a.split(0) == "70/30" || a.split(0) == "40/60" })
	if diff := cmp.Diff(bare, a.bare()); diff != "" {
		t.Errorf("more than weights was repaired (-want +got):\n%s", diff)
	}
	a.edit(deploymentResource, "shop-canary", "shop:2", "spec", "template", "metadata", "annotations", "image")
	for _, name := range []string{"web", "shop"} {
		l.untilPhase(name, v1beta1.CanaryPhaseSucceeded)
	}
	if a.split(0) != "100/0" || a.split(2) != "100/0" || imageOf(a, "web") != "web:2" || imageOf(a, "shop") != "shop:2" {
		t.Errorf("weights %s and %s, images %s and %s", a.split(0), a.split(2), imageOf(a, "web"), imageOf(a, "shop"))
	}
	if diff := cmp.Diff(bare, a.bare()); diff != "" {
		t.Errorf("more than weights was changed (-want +got):\n%s", diff)
	}
}

// A route that is named no more leads nothing to a canary without pods.
func TestOwnRouteThatIsNamedNoMore(t *testing.T) { inBubble(testOwnRouteThatIsNamedNoMore)(t) }

func testOwnRouteThatIsNamedNoMore(t *testing.T) {
	a := withOwn(t, usersRoute(100, 0, [2]string{"web", "web-canary"}), "web")
	other := usersRoute(100, 0, [2]string{"web", "web-canary"})
	other.SetName("other")
	other.SetUID("uid-other")
	a.put(other)
	l := newLoop(t, a, 1).start()
	l.untilPhase("web", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "web-canary", "web:2", "spec", "template", "metadata", "annotations", "image")
	l.until("the first step", func() bool { return a.split(1) == "70/30" })
	a.edit(canaryResource, "web", "other", "spec", "routeRef", "name")
	l.until("the former route to lead to the primary", func() bool { return a.split(1) == "100/0" })
	if phase := l.phase("web"); phase != v1beta1.CanaryPhaseProgressing {
		t.Errorf("phase %s, want the run to go on by the other route", phase)
	}
	l.untilPhase("web", v1beta1.CanaryPhaseSucceeded)
	l.until("the record to go", func() bool {
		return slices.Equal(a.canary("web").Status.Rollout.Routing, []v1beta1.RoutingRef{{Service: "web-canary", Provider: "istio", Route: "other"}})
	})
	if len(a.get(virtualServices, "edge").GetAnnotations()) > 0 {
		t.Errorf("annotations %v are left on the former route", a.get(virtualServices, "edge").GetAnnotations())
	}
}

// What can't work is told, with the field, and changes nothing.
func TestOwnPrimaryThatCannotWork(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(a *api)
		want   string
		reason rollout.ProblemReason
	}{
		"no primary": {func(a *api) { a.vanish("web") }, "spec.primaryRef: Deployment web.test does not exist", rollout.ReasonInvalidSpec},
		"owned primary": {func(a *api) {
			a.edit(deploymentResource, "web", []any{map[string]any{"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "web", "uid": "uid-web", "controller": true}},
				"metadata", "ownerReferences")
		}, "spec.primaryRef: deployment web.test belongs to Canary web, and it goes with that", rollout.ReasonInvalidSpec},
		"Service of both sides": {func(a *api) {
			a.edit(serviceResource, "web", map[string]any{"tier": "a"}, "spec", "selector")
			for _, side := range []string{"web", "web-canary"} {
				a.edit(deploymentResource, side, "a", "spec", "template", "metadata", "labels", "tier")
			}
		}, "spec.service.primaryName: Service web.test selects tier=a, which are the pods of both sides", rollout.ReasonInvalidSpec},
		"Services swapped": {func(a *api) { a.edit(serviceResource, "web", "web-canary", "spec", "selector", "app") },
			"spec.service.primaryName: Service web.test selects app=web-canary, which are not the pods of the primary web", rollout.ReasonInvalidSpec},
		"no rule": {func(a *api) { a.edit(virtualServices, "edge", a.edge()[:1], "spec", "http") },
			"spec.routeRef.name: VirtualService edge.test has no rule with the backends web and web-canary", rollout.ReasonInvalidSpec},
		"another's target": {func(a *api) {
			other := canaryFor("web")
			other.SetName("older")
			other.SetUID("uid-older")
			other.SetCreationTimestamp(a.canary("web").CreationTimestamp)
			a.edit(canaryResource, "web", "2026-01-02T03:04:05Z", "metadata", "creationTimestamp")
			a.put(other)
		}, "spec.primaryRef: canary older.test has the same workload web as its primary or its target", rollout.ReasonDuplicateTarget},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			a := withOwn(t, usersRoute(50, 50, [2]string{"web", "web-canary"}), "web")
			test.spoil(a)
			l := newLoop(t, a, 1).start()
			l.until("a condition", func() bool { return l.healthy("web").Reason == string(test.reason) })
			if got := l.healthy("web").Message; !strings.HasPrefix(got, test.want) {
				t.Errorf("message %q, want %q", got, test.want)
			}
			if replicasOf(a, "web-canary") != 2 {
				t.Errorf("the target has %d pods, want 2", replicasOf(a, "web-canary"))
			}
		}))
	}
}

// vanish deletes a Deployment.
func (a *api) vanish(name string) {
	a.t.Helper()
	if err := a.client.Tracker().Delete(deploymentResource, "test", name); err != nil {
		a.t.Fatal(err)
	}
}

// A route of the user's takes the place of the one that the operator made, which goes, and the other way round: then the user's is
// left with all traffic on the primary.
func TestOwnRouteInPlaceOfOurs(t *testing.T) { inBubble(testOwnRouteInPlaceOfOurs)(t) }

func testOwnRouteInPlaceOfOurs(t *testing.T) {
	canary := revertible("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["provider"], spec["analysis"] = "istio", map[string]any{"interval": "10s", "threshold": int64(2), "stepWeight": int64(30), "maxWeight": int64(60)}
	a := newAPI(t, readyDeployment("podinfo", 2), usersRoute(50, 50, [2]string{"podinfo-primary", "podinfo-canary"}), canary)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	if got := a.split(1); got != "50/50" {
		t.Errorf("weights %s of a route that is not named, want 50/50", got)
	}
	a.edit(canaryResource, "podinfo", map[string]any{"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "name": "edge"}, "spec", "routeRef")
	l.until("the generated route to go", func() bool { return !a.exists(virtualServices, "podinfo") })
	if got := a.split(1); got != "100/0" {
		t.Errorf("weights %s when the other route is gone, want 100/0", got)
	}
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.until("the first step", func() bool { return a.split(1) == "70/30" })
	a.remove(canaryResource, "podinfo", "spec", "routeRef")
	l.until("the route to be left", func() bool { return a.split(1) == "100/0" })
	if !a.exists(virtualServices, "podinfo") {
		t.Error("there is no route in its place")
	}
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	l.retired(v1beta1.RoutingRef{Service: "podinfo", Provider: "istio"})
}
