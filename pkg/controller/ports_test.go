package controller

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/rollout"
)

// sliceOf is what the API server says of the ready pods behind a Service: whether any has the port that it asks for by name.
func sliceOf(service string, served bool) *unstructured.Unstructured {
	var ports []any
	if served {
		ports = []any{map[string]any{"name": "http", "port": int64(15000), "protocol": "TCP"}}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": map[string]any{
			"name": service + "-abcde", "namespace": "test", "labels": map[string]any{"kubernetes.io/service-name": service},
		},
		"endpoints": []any{map[string]any{"conditions": map[string]any{"ready": true}}},
		"ports":     ports,
	}}
}

// Invariant 1: requests go to a canary as long as its ready pods have the port that the Services ask for, which a webhook adds to
// them, and no longer.
func TestCanaryThatLosesItsPort(t *testing.T) { synctest.Test(t, testCanaryThatLosesItsPort) }

func testCanaryThatLosesItsPort(t *testing.T) {
	canary := canaryFor("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["provider"] = "istio"
	spec["service"].(map[string]any)["targetPort"] = "web"
	spec["analysis"] = map[string]any{"interval": "10s", "threshold": int64(9), "stepWeight": int64(50), "maxWeight": int64(50)}
	withWebhooks(canary, map[string]any{"name": "promote", "type": "confirm-promotion", "url": "http://hook.test/"})
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), canary, sliceOf("podinfo-primary", true))
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	a.serve("discovery.k8s.io/v1", "endpointslices")
	l := newLoop(t, a, 1)
	l.hooks.set(func(_ context.Context, h v1beta1.CanaryWebhook) hook.Result {
		return hook.Result{Passed: h.Type != v1beta1.ConfirmPromotionHook}
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	leads := func(weight int64) func() bool {
		return func() bool {
			_, routed := a.canaryWeights()
			return routed == weight && int64(a.canary("podinfo").Status.CanaryWeight) == weight
		}
	}
	says := func(text string) func() bool {
		return func() bool {
			h := l.healthy("podinfo")
			return h.Reason == string(rollout.ReasonCanaryNotReady) && strings.Contains(h.Message, text)
		}
	}

	a.paint("podinfo", "blue")
	l.until("a wait for endpoints of the canary", says("no ready endpoint"))
	a.put(sliceOf("podinfo-canary", true))
	l.until("half of the traffic on the canary", leads(50))

	lost := l.clock.Now()
	a.put(sliceOf("podinfo-canary", false))
	l.until("all traffic on the primary", leads(0))
	if took := l.clock.Now().Sub(lost); took > time.Second || !says(`no ready pod has a TCP port named "web"`)() {
		t.Errorf("after %s the condition is %+v", took, l.healthy("podinfo"))
	}
	for range 30 {
		l.step()
		settle()
		if !leads(0)() {
			t.Fatalf("weight %d without endpoints", a.canary("podinfo").Status.CanaryWeight)
		}
	}
	a.put(sliceOf("podinfo-canary", true))
	l.until("the next try", leads(50))
}
