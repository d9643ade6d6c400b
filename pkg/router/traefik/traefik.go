// Package traefik shifts traffic with a weighted TraefikService, which IngressRoutes of the user refer to by name. An A/B test has
// an IngressRoute beside that of the user.
//
// Field reference: https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/crd/http/traefikservice/.
package traefik

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Options are the settings that come from flags.
type Options = router.Options

// Provider renders TraefikServices.
type Provider struct{ options Options }

var (
	_ router.Outliner = (*Provider)(nil)
	_ router.Adviser  = (*Provider)(nil)
)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities: weights, and A/B matches on headers and query parameters.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true, RE2: true}
}

// Resources is TraefikService and IngressRoute.
func (*Provider) Resources() []router.Ref {
	return []router.Ref{service("", ""), ingressRoute("", "")}
}

// Sources is the IngressRoute of the user, where the Canary names one.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref {
	if refName(c) == "" {
		return nil
	}
	return []router.Ref{ingressRoute(c.Namespace, refName(c))}
}

func service(namespace, name string) router.Ref {
	return ref("traefikservices", traefikService, namespace, name)
}

func ref(resource, kind, namespace, name string) router.Ref {
	return router.RefTo("traefik.io", "v1alpha1", kind, resource).Of(namespace, name)
}

// Outline is the TraefikService, and the IngressRoute that an A/B test has or had.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object {
	all := []router.Object{p.outline(c)}
	if refName(c) != "" {
		all = append(all, outlineInsiders(c, p.options.Unowned))
	}
	return all
}

func (p *Provider) outline(c *v1beta1.Canary) router.Object {
	return router.Object{
		Ref:          service(c.Namespace, router.NamesOf(c).Apex),
		Owned:        [][]string{{"spec", "weighted", "services"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}
}

// Render returns the TraefikService, and the IngressRoute of an A/B test. Sticky sessions and whatever else the former holds beside
// the list of services stay. It leads to the primary alone what an A/B test is not about.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	unmatched := t
	if t.Matched {
		unmatched = router.Traffic{Primary: 100}
	}
	o := p.outline(c)
	o.Wanted = router.NewWanted(c, o.Ref, map[string]any{"weighted": map[string]any{"services": renderServices(c, unmatched)}})
	needed, err := needsInsiders(c, sources)
	if err != nil || !needed {
		return []router.Object{o}, err
	}
	insiders, err := p.renderInsiders(c, t, sources)
	return append([]router.Object{o}, insiders...), err
}

// Advise tells of an A/B test to which no route of the user leads yet.
func (*Provider) Advise(c *v1beta1.Canary, sources router.Live) []string {
	if len(c.GetAnalysis().Match) == 0 || refName(c) == "" {
		return nil
	}
	if _, routes, err := userRoutes(c, sources); err == nil {
		if unled := notLed(c, routes); unled != nil {
			return []string{unled.Message}
		}
	}
	return nil
}

// needsInsiders is whether there is an A/B test, or was one.
func needsInsiders(c *v1beta1.Canary, sources router.Live) (bool, error) {
	if len(c.GetAnalysis().Match) > 0 {
		if refName(c) == "" {
			return false, &router.FieldError{Field: "spec.ingressRef", Message: fmt.Sprintf(
				"is missing: an A/B test needs the name of the IngressRoute that leads to the TraefikService %s", router.NamesOf(c).Apex)}
		}
		return true, nil
	}
	if refName(c) == "" {
		return false, nil
	}
	left, err := sources.Get(outlineInsiders(c, false).Ref)
	return left != nil, err
}

// renderServices lists the canary only while it gets requests: Traefik drops a route that leads to a Service without pods.
func renderServices(c *v1beta1.Canary, t router.Traffic) []any {
	names := router.NamesOf(c)
	services := []any{renderService(c, names.Primary, t.Primary)}
	if t.Canary > 0 {
		services = append(services, renderService(c, names.Canary, t.Canary))
	}
	return services
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

// Read takes the weights from the list of services, in an A/B test from that of its IngressRoute. A canary that is not listed has
// none.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	r := service(c.Namespace, router.NamesOf(c).Apex)
	o, err := router.MustGet(live, r)
	if err != nil {
		return router.Observed{}, err
	}
	services, _, err := unstructured.NestedSlice(o.Object, "spec", "weighted", "services")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", r, router.ErrUnreadable, err)
	}
	traffic, err := splitOf(c, r, services)
	if err != nil || refName(c) == "" {
		return router.Observed{Traffic: traffic, Settled: true}, err
	}
	matched, ok, err := readInsiders(c, live)
	if ok && traffic.Canary == 0 {
		traffic = matched
	}
	return router.Observed{Traffic: traffic, Settled: true}, err
}

func splitOf(c *v1beta1.Canary, ref router.Ref, services []any) (router.Traffic, error) {
	names, weights := router.NamesOf(c), router.ServiceWeights(services, "name")
	return router.Split(ref, weights[names.Primary], weights[names.Canary])
}
