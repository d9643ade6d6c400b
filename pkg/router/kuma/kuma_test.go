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

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: kuma.New(),
		CRDs:     &conformance.CRDs{Origin: "kumahq/kuma v2.14.3", File: "kuma.yaml"},
		Match:    conformance.HeaderMatches(),
		Foreign: map[string][]conformance.Field{"TrafficRoute": {
			{Path: []string{"spec", "conf", "loadBalancer"}, Value: map[string]any{"roundRobin": map[string]any{}}},
		}},
		Unowned: true,
		Golden:  true,
	})
}

func in(namespace string) *v1beta1.Canary {
	return conformance.Podinfo(func(c *v1beta1.Canary) { c.Namespace = namespace })
}

func newBench(t *testing.T, namespace string) *conformance.Bench {
	return conformance.NewBench(t, kuma.New(), in(namespace))
}

func expect(b *conformance.Bench, weight int32) {
	b.Helper()
	if got, err := b.Provider.Read(b.Canary, b.Store); err != nil || got.Traffic.Canary != weight {
		b.Errorf("%s: Read() = %+v, %v; want %d", b.Canary.Namespace, got, err, weight)
	}
}

// Applications of one name in two namespaces had one object in Flagger, and fought over it.
func Test19_SameNameInTwoNamespaces(t *testing.T) {
	a := newBench(t, "a")
	b := a.Of(in("b"))
	for weight := int32(0); weight <= 100; weight += 50 {
		a.Apply(router.Traffic{Primary: 100 - weight, Canary: weight})
		b.Apply(router.Traffic{Primary: weight, Canary: 100 - weight})
		expect(a, weight)
		expect(b, 100-weight)
	}
	first, second := a.Apply(router.Traffic{Primary: 100}), b.Apply(router.Traffic{Primary: 100})
	if first["TrafficRoute podinfo"] == nil || second["TrafficRoute podinfo.b"] == nil {
		t.Errorf("routes %v and %v", first, second)
	}
	// The other keeps its route when the plain name is free again.
	ref := kuma.New().Resources()[0]
	ref.Name = "podinfo"
	b.Store.Remove(ref)
	if again := b.Apply(router.Traffic{Primary: 100}); again["TrafficRoute podinfo.b"] == nil {
		t.Errorf("route %v, want podinfo.b", again)
	}
}

// No garbage collector knows whose a cluster-scoped object is. In Flagger it stayed for ever.
func Test19_RouteGoesWithTheCanary(t *testing.T) {
	a := newBench(t, "a")
	b := a.Of(in("b"))
	a.Apply(router.Traffic{Primary: 100})
	b.Apply(router.Traffic{Primary: 100})
	outline, err := router.Outline(a.Canary, a.Provider, "podinfo", a.Store)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := router.Remaining(a.Canary, outline, a.Store)
	if err == nil {
		err = router.NewApplier(a.Store, a.Store).Delete(t.Context(), a.Canary, refs)
	}
	if err != nil || len(refs) != 1 {
		t.Fatalf("remaining %v, %v; want one", refs, err)
	}
	if _, err := a.Provider.Read(a.Canary, a.Store); !errors.Is(err, router.ErrNotFound) {
		t.Errorf("Read(): %v, want nothing", err)
	}
	expect(b, 0)
}

// A route that Flagger left is ours, and goes with the Canary. One that a user made is given back.
func Test19_RouteOfFlaggerIsOurs(t *testing.T) {
	for _, flagger := range []bool{true, false} {
		b := newBench(t, "a")
		objects, err := b.Provider.Render(b.Canary, router.Traffic{Primary: 60, Canary: 40}, b.Store)
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
		if err := b.Store.Put(objects[0].Ref, left); err != nil {
			t.Fatal(err)
		}
		b.Apply(router.Traffic{Primary: 70, Canary: 30})
		expect(b, 30)
		objects, err = b.Provider.Render(b.Canary, router.Traffic{Primary: 100}, b.Store)
		if err != nil {
			t.Fatal(err)
		}
		refs, err := router.Remaining(b.Canary, objects, b.Store)
		if err != nil || (len(refs) == 1) != flagger {
			t.Errorf("left by Flagger %t: remaining %v, %v", flagger, refs, err)
		}
	}
}

func TestMesh(t *testing.T) {
	for annotation, want := range map[string]string{"": "default", "edge": "edge"} {
		b := newBench(t, "a")
		if annotation != "" {
			b.Canary.Annotations = map[string]string{kuma.MeshAnnotation: annotation}
		}
		o := b.Apply(router.Traffic{Primary: 100})["TrafficRoute podinfo"]
		if o.Object["mesh"] != want {
			t.Errorf("annotation %q: mesh %v", annotation, o.Object["mesh"])
		}
	}
}

// Flagger ignored a match, and sent everybody to the canary.
func TestMatchesOfAnABTest(t *testing.T) {
	c := in("a")
	c.Spec.Analysis.Match = conformance.HeaderMatches()
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
