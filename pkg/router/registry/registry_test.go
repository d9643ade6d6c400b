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
	for _, name := range []string{"", "gatewayapi", "appmesh:v1beta1", "crossover", "Istio", "istio2", "NGINX", "gloo"} {
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
			if !o.Unowned {
				t.Errorf("%s: %s has an owner, want none", name, o.Ref)
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

// podinfo is a Canary with what any provider needs.
func podinfo() *v1beta1.Canary {
	c := conformance.Podinfo()
	c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Name: "gateway"}}
	c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Name: "podinfo"}
	return c
}

// users are the objects that providers read, by kind.
var users = map[string]string{
	"Ingress": `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: podinfo, namespace: test, annotations: {kubernetes.io/ingress.class: nginx}}
spec:
  rules:
  - host: app.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: podinfo, port: {number: 9898}}}}]}
`,
}

// storeFor holds what a user has made for the podinfo Canary.
func storeFor(t *testing.T, provider router.Provider) *conformance.Store {
	t.Helper()
	store := conformance.NewStore(nil)
	for _, ref := range provider.Sources(podinfo()) {
		if manifest, ok := users[ref.Kind]; ok {
			if err := store.Put(ref, decode(t, manifest)); err != nil {
				t.Fatal(err)
			}
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
