// Package gloo shifts traffic with a RouteTable of Gloo, which a VirtualService of the user delegates to, and an Upstream for
// each side.
//
// Field reference: https://docs.solo.io/gloo-edge/latest/reference/api/.
package gloo

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// Options are the settings that come from flags.
type Options struct {
	// IncludeLabelPrefix are the prefixes of the labels that Upstreams take over from the one that spec.upstreamRef names. "*"
	// stands for all. Default: none.
	IncludeLabelPrefix []string
	// Unowned leaves out owner references, for an ingress in another cluster.
	Unowned bool
}

// Provider renders RouteTables and Upstreams.
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

// Resources are RouteTable, Upstream, and the Services whose selectors Upstreams repeat.
func (*Provider) Resources() []router.Ref {
	return []router.Ref{tableRef("", ""), upstreamRef("", ""), services.Ref("", "")}
}

// Sources are the Services of both sides and the Upstream whose settings are taken over.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref {
	names := router.NamesOf(c)
	refs := []router.Ref{services.Ref(c.Namespace, names.Primary), services.Ref(c.Namespace, names.Canary)}
	if model, ok := modelRef(c); ok {
		refs = append(refs, model)
	}
	return refs
}

func tableRef(namespace, name string) router.Ref {
	return router.RefTo("gateway.solo.io", "v1", "RouteTable", "routetables").Of(namespace, name)
}

// table is the RouteTable of a Canary, without what it holds.
func (p *Provider) table(c *v1beta1.Canary) router.Object {
	return router.Object{
		Ref:          tableRef(c.Namespace, router.NamesOf(c).Apex),
		Owned:        [][]string{{"spec", "routes"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}
}

// Outline is the RouteTable and the Upstreams that it leads to.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object {
	names := router.NamesOf(c)
	return []router.Object{p.upstream(c, names, names.Primary), p.upstream(c, names, names.Canary), p.table(c)}
}

// Render returns the Upstreams and then the RouteTable that leads to them.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, live router.Live) ([]router.Object, error) {
	objects, err := p.renderUpstreams(c, live)
	if err != nil {
		return nil, err
	}
	table := p.table(c)
	existing, err := live.Get(table.Ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", table.Ref, err)
	}
	routes, err := renderRoutes(c, t, existing)
	if err != nil {
		return nil, err
	}
	table.Wanted = router.NewWanted(c, table.Ref, map[string]any{"routes": routes})
	return append(objects, table), nil
}

// renderRoutes returns one route or, for an A/B test, one for the requests of the matches and one for all others. Options that a
// user has set on the first are those of all.
func renderRoutes(c *v1beta1.Canary, t router.Traffic, existing *unstructured.Unstructured) ([]any, error) {
	matchers, err := matchersOf(c)
	if err != nil {
		return nil, err
	}
	users := router.Unmanaged(existing, []string{"spec", "routes"},
		"inheritablePathMatchers", "matchers", "routeAction", "redirectAction", "delegateAction", "directResponseAction")
	if !t.Matched {
		return []any{renderRoute(c, t, nil, users)}, nil
	}
	return []any{
		renderRoute(c, t, matchers, users),
		renderRoute(c, router.Traffic{Primary: 100}, nil, users),
	}, nil
}

// renderRoute leaves out a weight of 0, as Gloo does when it stores a table.
func renderRoute(c *v1beta1.Canary, t router.Traffic, matchers []any, users map[string]any) map[string]any {
	names := router.NamesOf(c)
	var destinations []any
	for _, side := range []struct {
		service string
		weight  int32
	}{{names.Primary, t.Primary}, {names.Canary, t.Canary}} {
		destination := map[string]any{"destination": map[string]any{
			"upstream": map[string]any{"name": upstreamName(c, names, side.service), "namespace": c.Namespace},
		}}
		if side.weight != 0 {
			destination["weight"] = int64(side.weight)
		}
		destinations = append(destinations, destination)
	}
	route := maps.Clone(users)
	route["inheritablePathMatchers"] = true
	route["routeAction"] = map[string]any{"multi": map[string]any{"destinations": destinations}}
	if len(matchers) > 0 {
		route["matchers"] = matchers
	}
	return route
}

// Read takes the weights from the first route, which is the one that splits traffic.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref, names := p.table(c).Ref, router.NamesOf(c)
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	routes, _, err := unstructured.NestedSlice(o.Object, "spec", "routes")
	if err != nil || len(routes) == 0 {
		return router.Observed{}, fmt.Errorf("%s %w: it has no routes", ref, router.ErrUnreadable)
	}
	first, ok := routes[0].(map[string]any)
	if !ok {
		return router.Observed{}, fmt.Errorf("%s %w: its first route is no object", ref, router.ErrUnreadable)
	}
	destinations, _, err := unstructured.NestedSlice(first, "routeAction", "multi", "destinations")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", ref, router.ErrUnreadable, err)
	}
	var backends []any
	for _, item := range destinations {
		if destination, ok := item.(map[string]any); ok {
			name, _, _ := unstructured.NestedString(destination, "destination", "upstream", "name") //nolint:errcheck // no name is nobody's
			backends = append(backends, map[string]any{"name": name, "weight": destination["weight"]})
		}
	}
	weights := router.ServiceWeights(backends, "name")
	traffic, err := router.Split(ref, weights[upstreamName(c, names, names.Primary)], weights[upstreamName(c, names, names.Canary)])
	traffic.Matched = len(routes) > 1
	return router.Observed{Traffic: traffic, Settled: true}, err
}

// Advise warns of ports that are discovered and that no Upstream leads to.
func (*Provider) Advise(c *v1beta1.Canary, _ router.Live) []string {
	if !c.Spec.Service.PortDiscovery {
		return nil
	}
	return []string{fmt.Sprintf("Gloo routes port %d of Service %s alone: requests to the other ports that "+
		"spec.service.portDiscovery finds go by no route of the Canary", c.Spec.Service.Port, router.NamesOf(c).Apex)}
}
