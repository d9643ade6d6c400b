package smi_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/smi"
)

func versions() []smi.Version { return []smi.Version{smi.V1Alpha1, smi.V1Alpha2, smi.V1Alpha3} }

func suite(version smi.Version) conformance.Case {
	return conformance.Case{
		Provider: smi.New(version, smi.Options{}),
		CRDs:     &conformance.CRDs{Origin: "linkerd/linkerd-smi v0.2.7", File: "smi.yaml"},
		Foreign: map[string][]conformance.Field{"TrafficSplit": {
			{Path: []string{"metadata", "annotations", "example.com/split"}, Value: "x"},
		}},
	}
}

func TestConformance(t *testing.T) {
	for _, version := range versions() {
		t.Run(string(version), func(t *testing.T) {
			c := suite(version)
			c.Golden = version == smi.V1Alpha1
			conformance.Run(t, c)
		})
	}
}

func TestConformanceUnowned(t *testing.T) {
	conformance.Run(t, conformance.Case{Provider: smi.New(smi.V1Alpha2, smi.Options{Unowned: true}), Unowned: true})
}

func render(t *testing.T, p *smi.Provider, shape func(*v1beta1.Canary)) *unstructured.Unstructured {
	t.Helper()
	c := conformance.Podinfo()
	if shape != nil {
		shape(c)
	}
	objects, err := p.Render(c, router.Traffic{Primary: 70, Canary: 30}, conformance.NewStore(nil))
	if err != nil {
		t.Fatal(err)
	}
	return objects[0].Wanted
}

func TestFormOfWeights(t *testing.T) {
	for version, want := range map[smi.Version][]any{
		smi.V1Alpha1: {"30", "70"}, smi.V1Alpha2: {int64(30), int64(70)}, smi.V1Alpha3: {int64(30), int64(70)},
	} {
		o := render(t, smi.New(version, smi.Options{}), nil)
		if o.GetAPIVersion() != "split.smi-spec.io/"+string(version) {
			t.Errorf("%s: apiVersion %s", version, o.GetAPIVersion())
		}
		backends, _, err := unstructured.NestedSlice(o.Object, "spec", "backends")
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"podinfo-canary", "podinfo-primary"} {
			if diff := cmp.Diff(map[string]any{"service": name, "weight": want[i]}, backends[i]); diff != "" {
				t.Errorf("%s: backend %d (-want +got):\n%s", version, i, diff)
			}
		}
	}
}

func TestWeightsAreReadInAnyForm(t *testing.T) {
	for name, test := range map[string]struct {
		primary, canary any
		want            int32
	}{
		"strings":    {"70", "30", 30},
		"integers":   {int64(70), int64(30), 30},
		"floats":     {70.0, 30.0, 30},
		"both zero":  {"0", "0", -1},
		"no numbers": {"x", "30", -1},
		"no percent": {"700", "300", -1},
	} {
		p, store := smi.New(smi.V1Alpha1, smi.Options{}), conformance.NewStore(nil)
		o := render(t, p, nil)
		o.Object["spec"].(map[string]any)["backends"] = []any{
			// The order is nobody's promise.
			map[string]any{"service": "podinfo-primary", "weight": test.primary},
			map[string]any{"service": "other", "weight": "5"},
			map[string]any{"service": "podinfo-canary", "weight": test.canary},
		}
		ref := p.Resources()[0]
		ref.Namespace, ref.Name = "test", "podinfo"
		if err := store.Put(ref, o); err != nil {
			t.Fatal(err)
		}
		observed, err := p.Read(conformance.Podinfo(), store)
		if test.want < 0 {
			if !errors.Is(err, router.ErrUnreadable) {
				t.Errorf("%s: Read() = %+v, %v; want ErrUnreadable", name, observed, err)
			}
		} else if err != nil || observed.Traffic.Canary != test.want {
			t.Errorf("%s: Read() = %+v, %v; want %d", name, observed, err, test.want)
		}
	}
}

func TestGatewaysOfIstio(t *testing.T) {
	gateways := func(c *v1beta1.Canary) { c.Spec.Service.Gateways = []string{"public", "mesh"} }
	for mesh, want := range map[string]string{"istio": `["public","mesh"]`, "linkerd": ""} {
		o := render(t, smi.New(smi.V1Alpha1, smi.Options{Mesh: mesh}), gateways)
		if got := o.GetAnnotations()["VirtualService.v1alpha3.networking.istio.io/spec.gateways"]; got != want {
			t.Errorf("%s: annotation %q, want %q", mesh, got, want)
		}
	}
}

// matches of a user restrict what is split. In Flagger they went with the next change of the spec.
func TestMatchesOfTheUserStay(t *testing.T) {
	p, store := smi.New(smi.V1Alpha3, smi.Options{}), conformance.NewStore(nil)
	c, applier := conformance.Podinfo(), router.NewApplier(store, store)
	matches := []any{map[string]any{"kind": "HTTPRouteGroup", "name": "metrics"}}
	var ref router.Ref
	for weight := int32(0); weight <= 100; weight += 50 {
		objects, err := p.Render(c, router.Traffic{Primary: 100 - weight, Canary: weight}, store)
		if err == nil {
			err = applier.Apply(t.Context(), c, objects)
		}
		if err != nil {
			t.Fatal(err)
		}
		if weight > 0 {
			o, err := store.Get(ref)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(matches, o.Object["spec"].(map[string]any)["matches"]); diff != "" {
				t.Errorf("weight %d: matches (-want +got):\n%s", weight, diff)
			}
			continue
		}
		ref = objects[0].Ref
		if err := store.Edit(ref, func(o *unstructured.Unstructured) { o.Object["spec"].(map[string]any)["matches"] = matches }); err != nil {
			t.Fatal(err)
		}
	}
}
