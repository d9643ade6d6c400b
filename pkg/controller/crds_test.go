package controller

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// providersKinds are the kinds of lists of all that providers read and write, but for Services.
func providersKinds() map[schema.GroupVersionResource]string {
	kinds := map[schema.GroupVersionResource]string{}
	for _, ref := range providersResources() {
		if ref.Resource.Group != "" {
			kinds[ref.Resource] = ref.Kind + "List"
		}
	}
	return kinds
}

func providersResources() []router.Ref {
	var all []router.Ref
	providers := registry.New(registry.Config{})
	for _, name := range providers.Names() {
		if p, err := providers.Provider(name); err == nil {
			all = append(all, p.Resources()...)
		}
	}
	return all
}

// A Canary whose provider is not installed says so, with the resource, in a condition of a reason of its own. It goes on by itself
// once the CRD is there.
func TestProviderIsInstalledLater(t *testing.T) {
	providers := registry.New(registry.Config{})
	for _, name := range providers.Names() {
		p, err := providers.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		// Knative Services are the targets of their Canaries.
		if name == v1beta1.KnativeProvider || len(p.Resources()) == 0 {
			continue
		}
		t.Run(name, inBubble(func(t *testing.T) { testProviderIsInstalledLater(t, name, p) }))
	}
}

func testProviderIsInstalledLater(t *testing.T, name string, p router.Provider) {
	canary := routableCanary(t, name)
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1).start()
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(reasonRouterCRDMissing) })
	missing := p.Resources()[0].Resource
	exactly := fmt.Sprintf("the resource %s (%s)", missing.GroupResource(), missing.Version)
	if got := l.healthy("podinfo").Message; !strings.Contains(got, exactly) || !strings.Contains(got, "install what provides it") {
		t.Errorf("message %q, want one that names %s and what to do", got, exactly)
	}
	if got := replicasOf(a, "podinfo"); got != 2 {
		t.Errorf("the target was scaled to %d", got)
	}
	c := conformance.Podinfo(conformance.Routable)
	for ref, o := range conformance.Exposing(t, p, c) {
		if err := a.client.Tracker().Create(ref.Resource, o, ref.Namespace); err != nil {
			t.Fatal(err)
		}
	}
	installAll(a, p)
	l.until("the objects of the provider", func() bool { return exists(a, rendered(t, p, c)) })
}

// installAll has the API server serve all resources of a provider.
func installAll(a *api, p router.Provider) {
	served := map[string][]string{}
	for _, ref := range p.Resources() {
		if ref.Resource.Group != "" {
			version := ref.Resource.GroupVersion().String()
			served[version] = append(served[version], ref.Resource.Resource)
		}
	}
	for version, resources := range served {
		if strings.HasPrefix(version, "kuma.io/") {
			a.served.ServeCluster(version, resources...)
			continue
		}
		a.serve(version, resources...)
	}
}

// routableCanary is a Canary of a provider with all that it needs.
func routableCanary(t *testing.T, provider string) *unstructured.Unstructured {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(conformance.Podinfo(conformance.Routable))
	if err != nil {
		t.Fatal(err)
	}
	canary := canaryFor("podinfo")
	spec := fields["spec"].(map[string]any)
	spec["provider"] = provider
	canary.Object["spec"] = spec
	return canary
}

func rendered(t *testing.T, p router.Provider, c *v1beta1.Canary) []router.Object {
	t.Helper()
	objects, err := render(t, p, c, router.Traffic{Primary: 100})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func exists(a *api, objects []router.Object) bool {
	for _, o := range objects {
		if _, err := a.client.Tracker().Get(o.Ref.Resource, o.Ref.Namespace, o.Ref.Name); err != nil {
			return false
		}
	}
	return true
}
