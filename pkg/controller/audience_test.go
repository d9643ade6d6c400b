package controller

import (
	"slices"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "virtualservices"}

// canaryWeights returns what the canary gets by the VirtualService: of the requests that a header picks, and of all.
func (a *api) canaryWeights() (matched, all int64) {
	a.t.Helper()
	routes, _, err := unstructured.NestedSlice(a.get(virtualServices, "podinfo").Object, "spec", "http")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, item := range routes {
		route := item.(map[string]any)
		for _, d := range route["route"].([]any) {
			host, _, _ := unstructured.NestedString(d.(map[string]any), "destination", "host")
			weight, _, _ := unstructured.NestedInt64(d.(map[string]any), "weight")
			switch {
			case host != "podinfo-canary":
			case route["match"] != nil:
				matched = weight
			default:
				all = weight
			}
		}
	}
	return matched, all
}

// a spec without the match of the test under way leads nobody else to the canary, which is analyzed anew.
func TestA22_MatchRemovedUnderWay(t *testing.T) { synctest.Test(t, testA22_MatchRemovedUnderWay) }

func testA22_MatchRemovedUnderWay(t *testing.T) {
	canary := canaryFor("podinfo")
	analysis := map[string]any{"interval": "10s", "threshold": int64(5), "iterations": int64(3)}
	test := map[string]any{
		"interval": "10s", "threshold": int64(5), "iterations": int64(3),
		"match": []any{map[string]any{"headers": map[string]any{"x-user": map[string]any{"exact": "insider"}}}},
	}
	canary.Object["spec"].(map[string]any)["provider"] = "istio"
	canary.Object["spec"].(map[string]any)["analysis"] = test
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	l := initialized(t, a)

	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.until("the test", func() bool {
		matched, all := a.canaryWeights()
		if all > 0 {
			t.Fatal("everybody is led to the canary of a test")
		}
		return matched == 100 && a.canary("podinfo").Status.Iterations == 2
	})
	a.edit(canaryResource, "podinfo", analysis, "spec", "analysis")
	l.until("the blue/green analysis that takes the place of the test", func() bool {
		// In this order: the status is written before the routes.
		_, all := a.canaryWeights()
		status := a.canary("podinfo").Status
		if all > 0 && status.Iterations <= 3 && status.Phase == v1beta1.CanaryPhaseProgressing {
			t.Fatalf("%d%% of everybody are led to the canary at iteration %d", all, status.Iterations)
		}
		return status.Phase == v1beta1.CanaryPhaseSucceeded
	})
	l.atRest("podinfo")
	for _, want := range []string{"Strategy changed! Restarting analysis for podinfo.test", "Advance podinfo.test canary iteration 3/3", "Routing all traffic to canary"} {
		if !slices.Contains(l.messages(), want) {
			t.Errorf("no event %q in %q", want, l.messages())
		}
	}
}
