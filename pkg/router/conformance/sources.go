package conformance

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// sourcesOf returns the objects of users that the provider reads for a Canary, by their names.
func (c *Case) sourcesOf(t *testing.T, canary *v1beta1.Canary) map[router.Ref]*unstructured.Unstructured {
	t.Helper()
	if c.Sources == nil {
		return nil
	}
	refs, objects := c.Provider.Sources(canary), c.Sources(canary)
	if len(refs) != len(objects) {
		t.Fatalf("Sources() names %v, the case has %d objects", refs, len(objects))
	}
	sources := map[router.Ref]*unstructured.Unstructured{}
	for i, ref := range refs {
		sources[ref] = objects[i]
	}
	return sources
}

// store returns a store with what a user has made for a Canary.
func (c *Case) store(t *testing.T, canary *v1beta1.Canary) *Store {
	t.Helper()
	store := NewStore(nil)
	for ref, source := range c.sourcesOf(t, canary) {
		if err := store.Put(ref, source); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// source is an object of a user's, as it was sent and as it was stored.
type source struct{ sent, stored *unstructured.Unstructured }

// provideSources puts what the user has made for the present Canary into the store, and remembers it.
func (w *world) provideSources() {
	w.Helper()
	for ref, o := range w.c.sourcesOf(w.T, w.canary) {
		if cmp.Equal(w.sources[ref].sent, o) {
			continue
		}
		w.put(ref, o)
		w.sources[ref] = source{o, w.get(ref)}
	}
}

// expectSources checks that nobody has touched the objects of users.
func (w *world) expectSources() {
	w.Helper()
	for ref, users := range w.sources {
		if diff := cmp.Diff(users.stored, w.get(ref)); diff != "" {
			w.Errorf("%s belongs to the user, and was changed (-want +got):\n%s", ref, diff)
		}
	}
}
