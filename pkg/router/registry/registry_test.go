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
		"gatewayapi:v1": "v1", "gatewayapi:v1beta1": "v1beta1", "gatewayapi:v1alpha2": "v1", "gatewayapi:v1beta2": "v1",
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

func Test22_UnknownNamesAreErrors(t *testing.T) {
	r := registry.New(registry.Config{})
	for _, name := range []string{"", "gatewayapi", "appmesh:v1beta1", "crossover", "Istio", "istio2", "nginx", "gloo"} {
		_, err := r.Provider(name)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) || !strings.Contains(err.Error(), strings.Join(r.Names(), ", ")) {
			t.Errorf("Provider(%q): %v, want an error that lists all names", name, err)
		}
	}
}

func TestConfigReachesProviders(t *testing.T) {
	r := registry.New(registry.Config{IngressClass: "edge", Unowned: true})
	for _, name := range r.Names() {
		provider, err := r.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range rendered(t, provider) {
			if !o.Unowned {
				t.Errorf("%s: %s has an owner, want none", name, o.Ref)
			}
			if spec, ok := o.Wanted.Object["spec"].(map[string]any); name == "contour" && (!ok || spec["ingressClassName"] != "edge") {
				t.Errorf("%s: spec %v, want the ingress class", name, spec)
			}
		}
	}
}

func rendered(t *testing.T, provider router.Provider) []router.Object {
	t.Helper()
	c := conformance.Podinfo()
	c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Name: "gateway"}}
	objects, err := provider.Render(c, router.Traffic{Primary: 100}, conformance.NewStore(nil))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
