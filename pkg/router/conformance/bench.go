package conformance

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Bench is a store with what one provider makes for one Canary, for tests of what only that provider does.
type Bench struct {
	*testing.T
	Provider router.Provider
	Canary   *v1beta1.Canary
	Store    *Store
	applier  *router.Applier
}

// NewBench returns a bench with an empty store.
func NewBench(t *testing.T, provider router.Provider, canary *v1beta1.Canary) *Bench {
	store := NewStore(nil)
	return &Bench{T: t, Provider: provider, Canary: canary, Store: store, applier: router.NewApplier(store, store)}
}

// Put creates or replaces objects of users, one for each that Provider.Sources names, in that order.
func (b *Bench) Put(sources ...*unstructured.Unstructured) {
	b.Helper()
	for i, ref := range b.Provider.Sources(b.Canary) {
		if err := b.Store.Put(ref, sources[i]); err != nil {
			b.Fatal(err)
		}
	}
}

// Apply makes the traffic so, and returns the objects as they are stored then, by their kinds and names with a space between.
func (b *Bench) Apply(traffic router.Traffic) map[string]*unstructured.Unstructured {
	b.Helper()
	objects, err := b.TryApply(traffic)
	if err != nil {
		b.Fatal(err)
	}
	stored := map[string]*unstructured.Unstructured{}
	for _, o := range objects {
		live, err := b.Store.Get(o.Ref)
		if err != nil {
			b.Fatal(err)
		}
		stored[o.Ref.Kind+" "+o.Ref.Name] = live
	}
	return stored
}

// TryApply makes the traffic so, as far as it gets, and returns what was wanted.
func (b *Bench) TryApply(traffic router.Traffic) ([]router.Object, error) {
	objects, err := b.Provider.Render(b.Canary, traffic, b.Store)
	if err != nil {
		return nil, err
	}
	return objects, b.applier.Apply(b.Context(), b.Canary, objects)
}

// Of returns a bench for another Canary in the same store.
func (b *Bench) Of(canary *v1beta1.Canary) *Bench {
	other := *b
	other.Canary = canary
	return &other
}

// At is the value at a path of an object, nil if there is none.
func At(t testing.TB, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	value, _, err := unstructured.NestedFieldCopy(o.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Selecting is a Service in the namespace of Podinfo.
func Selecting(name string, selector map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name, "namespace": "test"},
		"spec": map[string]any{"selector": selector, "ports": []any{map[string]any{"port": int64(9898)}}},
	}}
}

// HeaderMatches are two matches on headers alone, the first with every form of condition.
func HeaderMatches() []v1beta1.AnalysisMatch {
	return []v1beta1.AnalysisMatch{
		{Headers: map[string]v1beta1.StringMatch{
			"x-b": {Regex: "y+"}, "x-a": {Exact: "1"}, "x-c": {Prefix: "a."}, "x-d": {Suffix: ".z"}, "x-e": {},
		}},
		{Headers: map[string]v1beta1.StringMatch{"y": {Exact: "3"}}},
	}
}

// RunEither runs the cases of a provider that leaves out owner references on request: with them, golden files among the cases, and
// without.
func RunEither(t *testing.T, suite func(unowned bool) Case) {
	for name, unowned := range map[string]bool{"Owned": false, "Unowned": true} {
		t.Run(name, func(t *testing.T) {
			c := suite(unowned)
			c.Unowned, c.Golden = unowned, !unowned
			Run(t, c)
		})
	}
}
