package controller

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router/ingress"
)

var ingressResource = ingress.Ref("", "").Resource

// usersIngress leads all requests to the Service of podinfo.
func usersIngress() *unstructured.Unstructured {
	backend := map[string]any{"service": map[string]any{"name": "podinfo", "port": map[string]any{"number": int64(80)}}}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
		"metadata": map[string]any{"name": "edge", "namespace": "test", "uid": "uid-edge"},
		"spec": map[string]any{"rules": []any{map[string]any{"http": map[string]any{
			"paths": []any{map[string]any{"path": "/", "pathType": "Prefix", "backend": backend}},
		}}}},
	}}
}

// exposed returns the API with a Canary that the provider nginx serves.
func exposed(t *testing.T) *api {
	canary := revertible("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["provider"] = "nginx"
	spec["ingressRef"] = map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "edge"}
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), usersIngress(), canary)
	a.serve("networking.k8s.io/v1", "ingresses")
	return a
}

func (a *api) removeIngress(name string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.client.Tracker().Delete(ingressResource, "test", name); err != nil {
		a.t.Fatal(err)
	}
}

func (a *api) hasIngress(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.client.Tracker().Get(ingressResource, "test", name)
	return err == nil
}

// Whoever deletes everything at once deletes the Ingress as well, from which nothing can be rendered any more.
func TestDeletionWithTheUsersIngress(t *testing.T) { synctest.Test(t, testDeletionWithTheUsersIngress) }

func testDeletionWithTheUsersIngress(t *testing.T) {
	a := exposed(t)
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	a.removeIngress("edge")
	a.delete("podinfo")
	l.until("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
	if a.hasIngress("edge-canary") {
		t.Error("the canary Ingress is still there")
	}
	if got := selectorOf(a, "podinfo"); got["app"] != "podinfo" {
		t.Errorf("the Service selects %v, want the target", got)
	}
}

// An Ingress that is gone is told with the field that names it, and all goes on once it is back.
func TestMissingIngressIsTold(t *testing.T) { synctest.Test(t, testMissingIngressIsTold) }

func testMissingIngressIsTold(t *testing.T) {
	a := exposed(t)
	a.removeIngress("edge")
	l := newLoop(t, a, 1).start()
	l.until("the fault to be told", func() bool {
		healthy := l.healthy("podinfo")
		return healthy.Reason == string(rollout.ReasonInvalidSpec) && strings.Contains(healthy.Message, "spec.ingressRef.name: Ingress edge.test does not exist")
	})
	a.put(usersIngress())
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}

// What a provider sees in objects of the user is told, and stops nothing.
func TestAdviceOfTheProviderIsTold(t *testing.T) { synctest.Test(t, testAdviceOfTheProviderIsTold) }

func testAdviceOfTheProviderIsTold(t *testing.T) {
	a := exposed(t)
	a.edit(ingressResource, "edge", map[string]any{"nginx.ingress.kubernetes.io/configuration-snippet": "proxy_set_header l5d-dst-override x;"},
		"metadata", "annotations")
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the advice", func() bool {
		healthy := l.healthy("podinfo")
		return healthy.Status == corev1.ConditionTrue && strings.Contains(healthy.Message, "l5d-dst-override")
	})
}
