package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

var destinationRules = virtualServices.GroupVersion().WithResource("destinationrules")

// behindIstio is the API with a Canary that has an autoscaler, weights and a Service with the ports of its target.
func behindIstio(t *testing.T) *api {
	canary := canaryFor("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["provider"] = "istio"
	spec["autoscalerRef"] = scalerRef("ScaledObject", "podinfo")
	spec["service"] = map[string]any{"port": int64(80), "targetPort": int64(9898), "portDiscovery": true}
	spec["analysis"] = map[string]any{"interval": "10s", "threshold": int64(1), "stepWeight": int64(20), "maxWeight": int64(60)}
	a := newAPI(t, readyDeployment("podinfo", 2), scaledObject(), canary)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	return a
}

// drop deletes an object as a user.
func (a *api) drop(resource schema.GroupVersionResource, name string) {
	a.t.Helper()
	if err := a.client.Tracker().Delete(resource, "test", name); err != nil {
		a.t.Fatal(err)
	}
}

// at is a field of an object as text, empty without the object or the field.
func (a *api) at(resource schema.GroupVersionResource, name string, path ...string) string {
	a.t.Helper()
	if !a.exists(resource, name) {
		return ""
	}
	value, ok, err := unstructured.NestedFieldNoCopy(a.get(resource, name).Object, path...)
	if err != nil || !ok {
		return ""
	}
	return fmt.Sprint(value)
}

// recalledChange is a change after passes that found all in place, and what has to come of it.
type recalledChange struct {
	given func(t *testing.T) *api
	edit  func(a *api)
	// read is what has to become want, or what it was if that is empty.
	read func(a *api) string
	want string
}

// What a pass takes over from the one before depends on much. A change of any of it is seen: of the objects that are wanted, of those
// that they are made from, of the Canary, and of its status.
func TestWhatChangedIsNotTakenOver(t *testing.T) {
	primary, backend := primaryOf("podinfo"), "podinfo-canary"
	field := func(resource schema.GroupVersionResource, name string, path ...string) func(*api) string {
		return func(a *api) string { return a.at(resource, name, path...) }
	}
	tests := map[string]recalledChange{
		"the Service of clients is edited": {behindIstio, func(a *api) {
			a.edit(serviceResource, "podinfo", map[string]any{"app": "other"}, "spec", "selector")
		}, field(serviceResource, "podinfo", "spec", "selector"), ""},
		"a Service is deleted": {behindIstio, func(a *api) { a.drop(serviceResource, backend) },
			field(serviceResource, backend, "spec", "selector"), ""},
		"a route is edited": {behindIstio, func(a *api) {
			a.edit(virtualServices, "podinfo", []any{}, "spec", "http")
		}, field(virtualServices, "podinfo", "spec", "http"), ""},
		"an object of the provider is deleted": {behindIstio, func(a *api) { a.drop(destinationRules, primary) },
			field(destinationRules, primary, "spec", "host"), ""},
		"an owner is taken away": {behindIstio, func(a *api) { a.remove(virtualServices, "podinfo", "metadata", "ownerReferences") },
			field(virtualServices, "podinfo", "metadata", "annotations", "kustomize.toolkit.fluxcd.io/reconcile"), ""},
		"the autoscaler of the primary is edited": {behindIstio, func(a *api) {
			a.edit(kedaResource, primary, int64(7), "spec", "minReplicaCount")
		}, field(kedaResource, primary, "spec", "minReplicaCount"), ""},
		"the autoscaler of the target is edited": {behindIstio, func(a *api) {
			a.edit(kedaResource, "podinfo", int64(7), "spec", "minReplicaCount")
		}, field(kedaResource, primary, "spec", "minReplicaCount"), "7"},
		"the spec of the Canary": {behindIstio, func(a *api) {
			a.edit(canaryResource, "podinfo", map[string]any{"labels": map[string]any{"team": "a"}}, "spec", "service", "apex")
		}, field(virtualServices, "podinfo", "metadata", "labels", "team"), "a"},
		"its provider": {behindIstio, func(a *api) { a.edit(canaryResource, "podinfo", "kubernetes", "spec", "provider") },
			func(a *api) string { return fmt.Sprint(a.exists(virtualServices, "podinfo")) }, "false"},
		"its weight, and the first write of the route fails": {behindIstio, func(a *api) {
			failed := false
			a.failWith(func(call string) error {
				if failed || call != "patch virtualservices" {
					return nil
				}
				failed = true
				return errors.New("down")
			})
			a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
		}, weightsOf, "80/20"},
		"its phase, in which the primary keeps a pod": {func(t *testing.T) *api {
			a := behindIstio(t)
			a.edit(kedaResource, "podinfo", int64(0), "spec", "minReplicaCount")
			return a
		}, func(a *api) {
			a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
		}, field(kedaResource, primary, "spec", "minReplicaCount"), "1"},
		"the ports of the target": {behindIstio, func(a *api) {
			a.edit(deploymentResource, "podinfo", []any{map[string]any{
				"name": "app", "image": "podinfo:1", "ports": []any{map[string]any{"name": "grpc", "containerPort": int64(9999)}},
			}}, "spec", "template", "spec", "containers")
		}, func(a *api) string {
			ports, _, err := unstructured.NestedSlice(a.get(serviceResource, backend).Object, "spec", "ports")
			return fmt.Sprint(len(ports), err)
		}, "2 <nil>"},
		"the Ingress of a user": {exposed, func(a *api) {
			a.edit(ingressResource, "edge", "special", "spec", "ingressClassName")
		}, field(ingressResource, "edge-canary", "spec", "ingressClassName"), "special"},
		"the route of a user": {func(t *testing.T) *api {
			return withOwn(t, usersRoute(100, 0, [2]string{"podinfo", backend}), "podinfo")
		}, func(a *api) {
			rules := a.edge()
			routes := rules[1].(map[string]any)["route"].([]any)
			routes[0].(map[string]any)["weight"], routes[1].(map[string]any)["weight"] = int64(50), int64(50)
			a.edit(virtualServices, "edge", rules, "spec", "http")
		}, func(a *api) string { return a.split(1) }, ""},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) { inBubble(func(t *testing.T) { testWhatChangedIsNotTakenOver(t, tests[name]) })(t) })
	}
}

func testWhatChangedIsNotTakenOver(t *testing.T, change recalledChange) {
	a := change.given(t)
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	l.untilIdle()
	before := l.takenOver.Load()
	l.queue.Add("test/podinfo")
	l.until("a pass that takes over what was found", func() bool { return l.takenOver.Load() >= before+2 })
	want := change.want
	if was := change.read(a); want == "" {
		want = was
	} else if was == want {
		t.Fatalf("it is %q from the start", want)
	}
	change.edit(a)
	l.until("it to be "+want, func() bool { return change.read(a) == want })
}

// weightsOf is what the VirtualService gives to both sides.
func weightsOf(a *api) string {
	rules, _, err := unstructured.NestedSlice(a.get(virtualServices, "podinfo").Object, "spec", "http")
	if err != nil || len(rules) == 0 {
		return ""
	}
	weights := ""
	for i, backend := range rules[0].(map[string]any)["route"].([]any) {
		if i > 0 {
			weights += "/"
		}
		weights += fmt.Sprint(backend.(map[string]any)["weight"])
	}
	return weights
}

// scripted answers the reads of a Service one after the other.
type scripted []struct {
	version string
	err     error
}

func (s *scripted) Get(router.Ref) (*unstructured.Unstructured, error) {
	next := (*s)[0]
	*s = (*s)[1:]
	if next.version == "" {
		return nil, next.err
	}
	u := usersService("podinfo")
	u.SetResourceVersion(next.version)
	return u, next.err
}

// What changes while it is looked at, or can't be told from another state, is found anew by the next pass.
func TestUnsteadyReadsAreNotKept(t *testing.T) {
	service, unversioned := services.Ref("test", "podinfo"), usersService("podinfo")
	for name, c := range map[string]struct {
		reads    scripted
		unsteady bool
	}{
		"twice the same": {scripted{{version: "1"}, {version: "1"}}, false},
		"never there":    {scripted{{}, {}}, false},
		"changed":        {scripted{{version: "1"}, {version: "2"}}, true},
		"made":           {scripted{{}, {version: "1"}}, true},
		"deleted":        {scripted{{version: "1"}, {}}, true},
		"failed":         {scripted{{version: "1"}, {err: errors.New("down")}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{live: &c.reads}
			for range 2 {
				_, err := r.Get(service)
				if err != nil && !c.unsteady {
					t.Error(err)
				}
			}
			if r.unsteady != c.unsteady || len(r.reads) != 1 {
				t.Errorf("unsteady is %t with %d reads", r.unsteady, len(r.reads))
			}
		})
	}
	r := &recorder{live: liveOf{unversioned}}
	if _, err := r.Get(service); err != nil || !r.unsteady {
		t.Errorf("an object without a version is taken for steady, %v", err)
	}
}

// liveOf is a cluster with one object.
type liveOf struct{ object *unstructured.Unstructured }

func (l liveOf) Get(router.Ref) (*unstructured.Unstructured, error) { return l.object, nil }

// Time alone makes of a canary that is waited for one that is stuck. What was found before is not taken over then.
func TestDeadlinePassesWithoutNews(t *testing.T) { synctest.Test(t, testDeadlinePassesWithoutNews) }

func testDeadlinePassesWithoutNews(t *testing.T) {
	a := behindIstio(t)
	a.edit(canaryResource, "podinfo", int64(20), "spec", "progressDeadlineSeconds")
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.untilCalm("pods to be asked for", func() bool { return replicasOf(a, "podinfo") > 0 })
	unavailable := l.clock.Now().Add(-10 * time.Second).UTC().Format(time.RFC3339)
	a.edit(deploymentResource, "podinfo", map[string]any{
		"observedGeneration": a.get(deploymentResource, "podinfo").GetGeneration(), "replicas": int64(1), "updatedReplicas": int64(1),
		"conditions": []any{
			map[string]any{"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "lastUpdateTime": unavailable},
			map[string]any{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": unavailable},
		},
	}, "status")
	l.untilCalm("a rollback", func() bool { return a.canary("podinfo").Status.Rollout.Stage == "rollback" })
}

// D-06: a copy of a Service target that lost its owner is still the one that clients were led to.
func TestD06_CopyOfAServiceIsOwnedAgain(t *testing.T) {
	synctest.Test(t, testD06_CopyOfAServiceIsOwnedAgain)
}

func testD06_CopyOfAServiceIsOwnedAgain(t *testing.T) {
	canary, primary := canaryFor("podinfo"), primaryOf("podinfo")
	canary.Object["spec"].(map[string]any)["targetRef"] = map[string]any{"apiVersion": "v1", "kind": "Service", "name": "podinfo"}
	a := newAPI(t, usersService("podinfo"), canary)
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.remove(serviceResource, primary, "metadata", "ownerReferences")
	l.untilIdle()
	a.edit(serviceResource, "podinfo", "two", "spec", "selector", "app")
	l.until("the primary to be promoted", func() bool { return a.at(serviceResource, primary, "spec", "selector", "app") == "two" })
	if len(a.get(serviceResource, primary).GetOwnerReferences()) != 1 {
		t.Error("nobody owns the primary")
	}
}
