package kuma_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/kuma"
)

func headers() []v1beta1.AnalysisMatch {
	return []v1beta1.AnalysisMatch{
		{Headers: map[string]v1beta1.StringMatch{
			"x-a": {Exact: "1"}, "x-b": {Regex: "y+"}, "x-c": {Prefix: "a."}, "x-d": {Suffix: ".z"}, "x-e": {},
		}},
		{Headers: map[string]v1beta1.StringMatch{"y": {Exact: "3"}}},
	}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: kuma.New(),
		CRDs:     &conformance.CRDs{Origin: "kumahq/kuma v2.14.3", File: "kuma.yaml"},
		Match:    headers(),
		Foreign: map[string][]conformance.Field{"TrafficRoute": {
			{Path: []string{"spec", "conf", "loadBalancer"}, Value: map[string]any{"roundRobin": map[string]any{}}},
		}},
		Unowned: true,
		Golden:  true,
	})
}

// world applies what the provider renders.
type world struct {
	*testing.T
	p       kuma.Provider
	store   *conformance.Store
	applier *router.Applier
}

func newWorld(t *testing.T) *world {
	store := conformance.NewStore(nil)
	return &world{T: t, store: store, applier: router.NewApplier(store, store)}
}

func in(namespace string) *v1beta1.Canary {
	c := conformance.Podinfo()
	c.Namespace = namespace
	return c
}

func (w *world) apply(c *v1beta1.Canary, traffic router.Traffic) router.Ref {
	w.Helper()
	objects, err := w.p.Render(c, traffic, w.store)
	if err == nil {
		err = w.applier.Apply(w.Context(), c, objects)
	}
	if err != nil {
		w.Fatal(err)
	}
	return objects[0].Ref
}

func (w *world) expect(c *v1beta1.Canary, weight int32) {
	w.Helper()
	if got, err := w.p.Read(c, w.store); err != nil || got.Traffic.Canary != weight {
		w.Errorf("%s: Read() = %+v, %v; want %d", c.Namespace, got, err, weight)
	}
}

// Applications of one name in two namespaces had one object in Flagger, and fought over it.
func Test19_SameNameInTwoNamespaces(t *testing.T) {
	w := newWorld(t)
	a, b := in("a"), in("b")
	for weight := int32(0); weight <= 100; weight += 50 {
		w.apply(a, router.Traffic{Primary: 100 - weight, Canary: weight})
		w.apply(b, router.Traffic{Primary: weight, Canary: 100 - weight})
		w.expect(a, weight)
		w.expect(b, 100-weight)
	}
	first, second := w.apply(a, router.Traffic{Primary: 100}), w.apply(b, router.Traffic{Primary: 100})
	if first.Name != "podinfo" || second.Name != "podinfo.b" {
		t.Errorf("routes %s and %s", first, second)
	}
	// The other keeps its route when the plain name is free again.
	w.store.Remove(first)
	if again := w.apply(b, router.Traffic{Primary: 100}); again != second {
		t.Errorf("route %s, want %s", again, second)
	}
}

// No garbage collector knows whose a cluster-scoped object is. In Flagger it stayed for ever.
func Test19_RouteGoesWithTheCanary(t *testing.T) {
	w := newWorld(t)
	a, b := in("a"), in("b")
	w.apply(a, router.Traffic{Primary: 100})
	w.apply(b, router.Traffic{Primary: 100})
	outline, err := router.Outline(a, w.p, "podinfo", w.store)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := router.Remaining(a, outline, w.store)
	if err == nil {
		err = w.applier.Delete(t.Context(), a, refs)
	}
	if err != nil || len(refs) != 1 {
		t.Fatalf("remaining %v, %v; want one", refs, err)
	}
	if _, err := w.p.Read(a, w.store); !errors.Is(err, router.ErrNotFound) {
		t.Errorf("Read(): %v, want nothing", err)
	}
	w.expect(b, 0)
}

// A route that Flagger left is ours, and goes with the Canary. One that a user made is given back.
func Test19_RouteOfFlaggerIsOurs(t *testing.T) {
	for _, flagger := range []bool{true, false} {
		w, c := newWorld(t), in("a")
		objects, err := w.p.Render(c, router.Traffic{Primary: 60, Canary: 40}, w.store)
		if err != nil {
			t.Fatal(err)
		}
		left := objects[0].Wanted.DeepCopy()
		if !flagger {
			left.SetAnnotations(nil)
			unstructured.RemoveNestedField(left.Object, "spec", "conf")
			if err := unstructured.SetNestedStringMap(left.Object, map[string]string{"kuma.io/service": "x"}, "spec", "conf", "destination"); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.store.Put(objects[0].Ref, left); err != nil {
			t.Fatal(err)
		}
		w.apply(c, router.Traffic{Primary: 70, Canary: 30})
		w.expect(c, 30)
		objects, err = w.p.Render(c, router.Traffic{Primary: 100}, w.store)
		if err != nil {
			t.Fatal(err)
		}
		refs, err := router.Remaining(c, objects, w.store)
		if err != nil || (len(refs) == 1) != flagger {
			t.Errorf("left by Flagger %t: remaining %v, %v", flagger, refs, err)
		}
	}
}

func TestMesh(t *testing.T) {
	for annotation, want := range map[string]string{"": "default", "edge": "edge"} {
		w, c := newWorld(t), in("a")
		if annotation != "" {
			c.Annotations = map[string]string{kuma.MeshAnnotation: annotation}
		}
		o, err := w.store.Get(w.apply(c, router.Traffic{Primary: 100}))
		if err != nil || o.Object["mesh"] != want {
			t.Errorf("annotation %q: mesh %v, %v", annotation, o.Object["mesh"], err)
		}
	}
}

// Flagger ignored a match, and sent everybody to the canary.
func TestMatchesOfAnABTest(t *testing.T) {
	c := in("a")
	c.Spec.Analysis.Match = headers()
	objects, err := kuma.New().Render(c, router.Traffic{Canary: 100, Matched: true}, conformance.NewStore(nil))
	if err != nil {
		t.Fatal(err)
	}
	http, _, err := unstructured.NestedSlice(objects[0].Wanted.Object, "spec", "conf", "http")
	if err != nil || len(http) != 2 {
		t.Fatalf("http %v, %v; want two matches", http, err)
	}
	match, _, err := unstructured.NestedMap(http[0].(map[string]any), "match", "headers")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"x-a": map[string]any{"exact": "1"}, "x-b": map[string]any{"regex": "y+"}, "x-c": map[string]any{"prefix": "a."},
		"x-d": map[string]any{"regex": `.*\.z`}, "x-e": map[string]any{"regex": ".*"},
	}
	if diff := cmp.Diff(want, match); diff != "" {
		t.Errorf("match (-want +got):\n%s", diff)
	}
}

func TestUnservedMatches(t *testing.T) {
	for field, match := range map[string]v1beta1.AnalysisMatch{
		"spec.analysis.match[0]":              {},
		"spec.analysis.match[0].sourceLabels": {SourceLabels: map[string]string{"app": "x"}},
		"spec.analysis.match[0].queryParams":  {QueryParams: map[string]v1beta1.StringMatch{"v": {Exact: "1"}}},
	} {
		c := in("a")
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{match}
		_, err := kuma.New().Render(c, router.Traffic{Primary: 100}, conformance.NewStore(nil))
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
	}
}
