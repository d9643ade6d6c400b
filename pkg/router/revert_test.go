package router_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
)

// revert gives one object back and checks that nothing remains to be done.
func revert(t *testing.T, store *conformance.Store, rendered router.Object) {
	t.Helper()
	applier := router.NewApplier(store, store)
	for i := range 2 {
		originals, err := router.Originals(conformance.Podinfo(), []router.Object{rendered}, store)
		if err != nil {
			t.Fatal(err)
		}
		if err := applier.Apply(ctx, conformance.Podinfo(), originals); err != nil {
			t.Fatal(err)
		}
		if writes := store.Writes(); i > 0 && len(writes) > 0 {
			t.Errorf("reverted once more by %v", writes)
		}
	}
}

// B7: an object that was taken over is given back as it was. What others changed meanwhile stays.
func TestIncidentB07_ObjectsAreGivenBack(t *testing.T) {
	type fields = map[string]any
	user := fields{"a": "user", "x": int64(1), "deep": fields{"b": int64(2), "c": "user"}}
	tests := map[string]struct {
		annotations map[string]string
		live, want  fields
	}{
		"kept by us":         {nil, user, fields{"a": "user", "x": "others", "deep": fields{"b": int64(2), "c": "user"}}},
		"kept by us, absent": {nil, fields{"x": int64(1)}, fields{"x": "others"}},
		"kept by kubectl": {map[string]string{router.KubectlAnnotation: `{"kind":"Thing","spec":{"a":"kubectl","deep":{"b":3}}}`}, user,
			fields{"a": "kubectl", "x": "others", "deep": fields{"b": int64(3), "c": "user"}}},
		"kubectl without spec": {map[string]string{router.KubectlAnnotation: `{"kind":"Thing"}`, router.OriginalAnnotation: `{"a":"kept"}`}, user,
			fields{"a": "kept", "x": "others"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store := conformance.NewStore(nil)
			put(t, store, thing("x"), test.annotations, test.live)
			rendered := object("x", map[string]any{"a": "ours", "deep": map[string]any{"b": "ours"}})
			rendered.KeepOriginal = true
			if err := router.NewApplier(store, store).Apply(ctx, conformance.Podinfo(), []router.Object{rendered}); err != nil {
				t.Fatal(err)
			}
			if err := store.Edit(thing("x"), func(o *unstructured.Unstructured) { o.Object["spec"].(map[string]any)["x"] = "others" }); err != nil {
				t.Fatal(err)
			}
			store.Writes()
			revert(t, store, rendered)
			got := get(t, store, thing("x"))
			if diff := cmp.Diff(test.want, got.Object["spec"]); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			if kept, ok := got.GetAnnotations()[router.OriginalAnnotation]; ok {
				t.Errorf("annotation stays: %s", kept)
			}
		})
	}
}

// The API server fills in defaults that kubectl never sent: they are no reason to write for ever.
func TestDefaultsOfTheServerAreNoDifferenceToTheOriginal(t *testing.T) {
	store := conformance.NewStore(nil)
	put(t, store, thing("x"), map[string]string{router.KubectlAnnotation: `{"spec":{"a":{"mine":"1"}}}`}, map[string]any{"a": "ours"})
	store.Mutate(func(o *unstructured.Unstructured) {
		if a, ok := o.Object["spec"].(map[string]any)["a"].(map[string]any); ok {
			a["default"] = "1"
		}
	})
	revert(t, store, object("x", map[string]any{"a": "ours"}))
}

func TestUnreadableOriginalIsNamed(t *testing.T) {
	store := conformance.NewStore(nil)
	put(t, store, thing("x"), map[string]string{router.OriginalAnnotation: "{"}, map[string]any{"a": "ours"})
	_, err := router.Originals(conformance.Podinfo(), []router.Object{object("x", nil)}, store)
	if err == nil || !strings.Contains(err.Error(), "Thing x.test: annotation "+router.OriginalAnnotation) {
		t.Errorf("Originals(): %v, want it to name object and annotation", err)
	}
}

// Objects that the Canary made go before their users, and those of others stay.
func TestOwnObjectsAreDeleted(t *testing.T) {
	store := conformance.NewStore(nil)
	applier := router.NewApplier(store, store)
	rendered := []router.Object{object("backend", nil), object("route", nil), object("mine", nil), object("rival", nil)}
	if err := applier.Apply(ctx, conformance.Podinfo(), rendered[:2]); err != nil {
		t.Fatal(err)
	}
	put(t, store, thing("mine"), nil, map[string]any{})
	rival := router.NewObject(thing("rival"), nil, nil, nil)
	other := conformance.Podinfo()
	other.Name = "rival"
	rival.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(other, v1beta1.SchemeGroupVersion.WithKind("Canary"))})
	if err := store.Put(thing("rival"), rival); err != nil {
		t.Fatal(err)
	}
	refs, err := router.Remaining(conformance.Podinfo(), rendered, store)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]router.Ref{thing("route"), thing("backend")}, refs); diff != "" {
		t.Fatalf("remaining (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := applier.Delete(ctx, conformance.Podinfo(), append(refs, thing("mine"), thing("rival"))); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"route": false, "backend": false, "mine": true, "rival": true} {
		if o, err := store.Get(thing(name)); err != nil || (o != nil) != want {
			t.Errorf("%s: %v, %v, want it to exist: %t", name, o, err, want)
		}
	}
}
