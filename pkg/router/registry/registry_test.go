package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

func TestNames(t *testing.T) {
	r := registry.New(registry.Config{})
	names := r.Names()
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			t.Errorf("%s is listed twice", name)
		}
		seen[name] = true
		provider, err := r.Provider(name)
		if err != nil || provider == nil {
			t.Errorf("Provider(%q) = %v, %v", name, provider, err)
		}
	}
}

func TestVersionsOfGatewayAPI(t *testing.T) {
	r := registry.New(registry.Config{})
	// Flagger takes everything else that begins with gatewayapi:v1 for v1.
	for name, version := range map[string]string{
		"gatewayapi": "v1", "gatewayapi:v1": "v1", "gatewayapi:v1beta1": "v1beta1", "gatewayapi:v1alpha2": "v1", "gatewayapi:v1beta2": "v1",
	} {
		provider, err := r.Provider(name)
		if err != nil {
			t.Errorf("Provider(%q): %v", name, err)
			continue
		}
		if got := provider.Resources()[0].Resource.Version; got != version {
			t.Errorf("Provider(%q) has version %s, want %s", name, got, version)
		}
	}
}

// The mesh of a TrafficSplit stands after its version, and makes a difference for Istio.
func TestMeshesOfSMI(t *testing.T) {
	r := registry.New(registry.Config{})
	c := conformance.Podinfo()
	c.Spec.Service.Gateways = []string{"public"}
	for name, want := range map[string]struct {
		version  string
		gateways bool
	}{
		"linkerd": {"v1alpha1", false}, "osm": {"v1alpha2", false}, "smi:v1alpha1": {"v1alpha1", false}, "smi:v1alpha2:istio": {"v1alpha2", true},
		"smi:v1alpha3:istio": {"v1alpha3", true}, "smi:v1alpha1:linkerd": {"v1alpha1", false},
	} {
		provider, err := r.Provider(name)
		if err != nil {
			t.Errorf("Provider(%q): %v", name, err)
			continue
		}
		objects, err := provider.Render(c, router.Traffic{Primary: 100}, conformance.NewStore(nil))
		if err != nil {
			t.Fatal(err)
		}
		if o := objects[0]; o.Ref.Resource.Version != want.version || (len(o.Wanted.GetAnnotations()) > 0) != want.gateways {
			t.Errorf("%s: %s %v, want %+v", name, o.Ref.Resource, o.Wanted.GetAnnotations(), want)
		}
	}
}

func Test22_UnknownNamesAreErrors(t *testing.T) {
	r := registry.New(registry.Config{})
	for _, name := range []string{"", "gatewayapi2", "appmesh:v1beta1", "crossover", "Istio", "istio2", "NGINX", "smi:v1alpha4", "smi:v1alpha1:", "smi"} {
		_, err := r.Provider(name)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) || !strings.Contains(err.Error(), strings.Join(r.Names(), ", ")) {
			t.Errorf("Provider(%q): %v, want an error that lists all names", name, err)
		}
	}
}

func TestConfigReachesProviders(t *testing.T) {
	r := registry.New(registry.Config{IngressClass: "edge", AnnotationsPrefix: "edge.example.com", Unowned: true})
	for _, name := range r.Names() {
		provider, err := r.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range rendered(t, provider) {
			// The Service of Knative is the user's.
			if owned := router.WithWorkloads(o.Ref.Resource) && name != "knative"; o.Unowned == owned {
				t.Errorf("%s: %s has an owner: %t, want %t", name, o.Ref, !o.Unowned, owned)
			}
			if spec, ok := o.Wanted.Object["spec"].(map[string]any); name == "contour" && (!ok || spec["ingressClassName"] != "edge") {
				t.Errorf("%s: spec %v, want the ingress class", name, spec)
			}
			if annotations := o.Wanted.GetAnnotations(); name == "nginx" && annotations["edge.example.com/canary"] != "true" {
				t.Errorf("%s: annotations %v, want them with the prefix", name, annotations)
			}
		}
	}
}

// Flux neither reverts what the operator makes nor takes it for drift, whichever of its tools has sent the user's objects.
func TestFluxLeavesRoutesAlone(t *testing.T) {
	r := registry.New(registry.Config{})
	for _, name := range r.Names() {
		provider, err := r.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		// The Service of Knative is the user's.
		if name == "knative" {
			continue
		}
		store := storeFor(t, provider)
		objects := rendered(t, provider)
		if err := router.NewApplier(store, store).Apply(t.Context(), podinfo(), objects); err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			made, err := store.Get(o.Ref)
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range router.ToolkitAnnotations() {
				if got := made.GetAnnotations()[key]; got != value {
					t.Errorf("%s: %s has the annotation %s: %q, want %q", name, o.Ref, key, got, value)
				}
			}
		}
	}
}

// podinfo is a Canary with what any provider needs.
func podinfo() *v1beta1.Canary { return conformance.Podinfo(conformance.Routable) }

// storeFor holds what a user has made for the podinfo Canary.
func storeFor(t *testing.T, provider router.Provider) *conformance.Store {
	t.Helper()
	store := conformance.NewStore(nil)
	for ref, o := range conformance.Exposing(t, provider, podinfo()) {
		if err := store.Put(ref, o); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func rendered(t *testing.T, provider router.Provider) []router.Object {
	t.Helper()
	objects, err := provider.Render(podinfo(), router.Traffic{Primary: 100}, storeFor(t, provider))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
