package services_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// B7: the Service of a user selects his pods again, and the rest of it stays as it is. Our own are left to the garbage
// collector.
func TestIncidentB07_ServiceIsGivenBack(t *testing.T) {
	known := input()
	tests := map[string]struct {
		kubectl string
		input   services.Input
		want    map[string]string
	}{
		"made by a client":            {"", known, map[string]string{"app": "podinfo"}},
		"made by kubectl":             {`{"spec":{"selector":{"app":"podinfo","tier":"web"}}}`, known, map[string]string{"app": "podinfo", "tier": "web"}},
		"kubectl knows of none":       {`{"spec":{"type":"ExternalName"}}`, known, map[string]string{"app": "podinfo"}},
		"target gone, by kubectl":     {`{"spec":{"selector":{"tier":"web"}}}`, services.Input{}, map[string]string{"tier": "web"}},
		"target gone, nothing to say": {"", services.Input{}, map[string]string{"app": "podinfo-primary"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(usersService)
			if test.kubectl != "" {
				w.edit("podinfo", []string{"metadata", "annotations", router.KubectlAnnotation}, test.kubectl)
			}
			w.apply()
			ports, _, _ := unstructured.NestedSlice(w.get("podinfo").Object, "spec", "ports")
			for i := range 2 {
				originals, err := services.Originals(w.canary, test.input, w.store)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range originals {
					if o.Ref.Name != "podinfo" {
						t.Errorf("%s is to be given back, which is ours", o.Ref)
					}
				}
				if err := w.applier.Apply(t.Context(), w.canary, originals); err != nil {
					t.Fatal(err)
				}
				if writes := w.store.Writes(); i > 0 && len(writes) > 0 {
					t.Errorf("given back once more by %v", writes)
				}
			}
			got := w.get("podinfo").Object
			selector, _, err := unstructured.NestedStringMap(got, "spec", "selector")
			if diff := cmp.Diff(test.want, selector); diff != "" || err != nil {
				t.Errorf("selector (-want +got): %v\n%s", err, diff)
			}
			after, _, _ := unstructured.NestedSlice(got, "spec", "ports")
			if diff := cmp.Diff(ports, after); diff != "" {
				t.Errorf("ports (-before +after):\n%s", diff)
			}
		})
	}
}
