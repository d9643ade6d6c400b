// Package traefik shifts traffic with a weighted TraefikService, which IngressRoutes of the user refer to by name.
//
// Field reference: https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/crd/http/traefikservice/.
package traefik

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Options are the settings that come from flags.
type Options struct {
	// Unowned leaves out owner references, for an ingress in another cluster.
	Unowned bool
}

// Provider renders TraefikServices.
type Provider struct{ options Options }

var _ router.Provider = (*Provider)(nil)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities is weights alone.
func (*Provider) Abilities() router.Abilities { return router.Abilities{Routes: true, Weights: true} }

// Resources is TraefikService.
func (*Provider) Resources() []router.Ref { return []router.Ref{ref("", "")} }

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

func ref(namespace, name string) router.Ref {
	return router.Ref{
		Resource:  schema.GroupVersionResource{Group: "traefik.io", Version: "v1alpha1", Resource: "traefikservices"},
		Kind:      "TraefikService",
		Namespace: namespace,
		Name:      name,
	}
}

// Render returns the TraefikService. Sticky sessions and whatever else it holds beside the list of services stay.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, _ router.Live) ([]router.Object, error) {
	names := router.NamesOf(c)
	services := []any{renderService(c, names.Primary, t.Primary)}
	if t.Canary > 0 {
		services = append(services, renderService(c, names.Canary, t.Canary))
	}
	service := ref(c.Namespace, names.Apex)
	return []router.Object{{
		Ref:          service,
		Wanted:       router.NewWanted(c, service, map[string]any{"weighted": map[string]any{"services": services}}),
		Owned:        [][]string{{"spec", "weighted", "services"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}}, nil
}

// renderService writes a weight of 0 too: Traefik takes a missing one for 1.
func renderService(c *v1beta1.Canary, name string, weight int32) map[string]any {
	return map[string]any{
		"name":      name,
		"namespace": c.Namespace,
		"port":      int64(c.Spec.Service.Port),
		"weight":    int64(weight),
	}
}

// Read takes the weights from the list of services. A canary that is not listed has none.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	names := router.NamesOf(c)
	service := ref(c.Namespace, names.Apex)
	o, err := router.MustGet(live, service)
	if err != nil {
		return router.Observed{}, err
	}
	services, _, err := unstructured.NestedSlice(o.Object, "spec", "weighted", "services")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", service, router.ErrUnreadable, err)
	}
	weights := router.ServiceWeights(services, "name")
	traffic, err := router.Split(service, weights[names.Primary], weights[names.Canary])
	return router.Observed{Traffic: traffic, Settled: true}, err
}
