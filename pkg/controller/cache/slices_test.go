package cache

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A cluster has as many endpoints as pods. No more is kept of them than whether one is ready.
func TestSlicesKeepNoEndpoints(t *testing.T) {
	endpoint := func(ready any) any {
		return map[string]any{"addresses": []any{"10.0.0.1"}, "nodeName": "node-1", "conditions": map[string]any{"ready": ready}}
	}
	for name, test := range map[string]struct {
		endpoints []any
		ready     bool
	}{
		"none":         {[]any{}, false},
		"not ready":    {[]any{endpoint(false), endpoint(false)}, false},
		"one is ready": {[]any{endpoint(false), endpoint(true), endpoint(false)}, true},
		"not said":     {[]any{map[string]any{"addresses": []any{"10.0.0.1"}}}, true},
	} {
		kept, err := trim(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "endpoints": test.endpoints,
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := []any{map[string]any{"conditions": map[string]any{"ready": test.ready}}}
		if diff := cmp.Diff(want, kept.(*unstructured.Unstructured).Object["endpoints"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
