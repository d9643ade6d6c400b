package router_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
)

// an update carried the whole object in an old type, and erased every field that is newer.
func TestA13_FieldsFromTheFutureSurvive(t *testing.T) {
	store := conformance.NewStore(nil)
	put(t, store, thing("x"), nil, map[string]any{"a": "old", "deep": map[string]any{"b": "old", "new": "kept"}, "newer": []any{"kept"}})
	applier := router.NewApplier(store, store)
	wanted := map[string]any{"a": "1", "deep": map[string]any{"b": "2"}}
	if err := applier.Apply(ctx, conformance.Podinfo(), []router.Object{object("x", wanted)}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": "1", "deep": map[string]any{"b": "2", "new": "kept"}, "newer": []any{"kept"}}
	if diff := cmp.Diff(want, get(t, store, thing("x")).Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}
