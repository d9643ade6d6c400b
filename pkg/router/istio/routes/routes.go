// Package routes translates a Canary and its traffic into the routes of a VirtualService.
package routes

import (
	"maps"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// HTTP returns the routes in the order in which a proxy has to try them: those that single out requests first, the
// one that splits the remaining traffic last. In an A/B test the first splits and the last is for all other requests.
func HTTP(c *v1beta1.Canary, t router.Traffic) ([]any, error) {
	base, err := baseRoute(c)
	if err != nil {
		return nil, err
	}
	service, err := serviceMatches(c)
	if err != nil {
		return nil, err
	}
	picked, err := analysisMatches(c)
	if err != nil {
		return nil, err
	}
	always, err := router.CanaryMatches(c, analysisMatches)
	if err != nil {
		return nil, err
	}
	names := router.NamesOf(c)
	build := func(matches []any, destinations ...any) map[string]any {
		route := maps.Clone(base)
		if len(matches) > 0 {
			route["match"] = matches
		}
		route["route"] = destinations
		return route
	}
	primary, canary := destination(c, names.Primary, t.Primary), destination(c, names.Canary, t.Canary)
	if t.Matched {
		return []any{
			mirrored(c, t, build(merge(picked, service), primary, canary)),
			build(service, destination(c, names.Primary, 100)),
		}, nil
	}
	affinity := router.AffinityOf(c, t)
	var routes []any
	if t.SharesOut() && len(always) > 0 {
		routes = append(routes, build(merge(always, service),
			destination(c, names.Primary, 0), destination(c, names.Canary, 100)))
	}
	if affinity.Pinned() {
		routes = append(routes, build(withCookie(affinity.CanaryPattern(), service),
			destination(c, names.Primary, 0), destination(c, names.Canary, 100)))
		canary["headers"] = addCookie(nil, affinity.SetCanary())
	}
	if affinity.PrimaryPinned() {
		routes = append(routes, build(withCookie(affinity.PrimaryPattern(), service),
			destination(c, names.Primary, 100), destination(c, names.Canary, 0)))
		primary["headers"] = addCookie(nil, affinity.SetPrimary())
	}
	if affinity.Dropping() {
		drop := build(withCookie(affinity.PreviousPattern(), service), primary, canary)
		drop["headers"] = addCookie(base["headers"], affinity.Drop())
		routes = append(routes, drop)
	}
	return append(routes, mirrored(c, t, build(service, primary, canary))), nil
}

// baseRoute holds what all routes have in common.
func baseRoute(c *v1beta1.Canary) (map[string]any, error) {
	s := &c.Spec.Service
	route := map[string]any{}
	if s.Timeout != "" {
		route["timeout"] = s.Timeout
	}
	if s.Rewrite != nil {
		rewrite := map[string]any{}
		if s.Rewrite.URI != "" {
			rewrite["uri"] = s.Rewrite.URI
		}
		if s.Rewrite.Authority != "" {
			rewrite["authority"] = s.Rewrite.Authority
		}
		route["rewrite"] = rewrite
	}
	add := func(field string, set bool, value any) error {
		if !set {
			return nil
		}
		fields, err := router.Fields(value)
		route[field] = fields
		return err
	}
	if err := add("retries", s.Retries != nil, s.Retries); err != nil {
		return nil, err
	}
	if err := add("headers", s.Headers != nil, s.Headers); err != nil {
		return nil, err
	}
	return route, add("corsPolicy", s.CorsPolicy != nil, s.CorsPolicy)
}

func destination(c *v1beta1.Canary, host string, weight int32) map[string]any {
	target := map[string]any{"host": host}
	// A Service with several ports is ambiguous for requests from a gateway, which don't carry the port of the Service.
	if s := &c.Spec.Service; s.PortDiscovery && (s.Delegation || Gateways(c)[0] != Mesh) {
		target["port"] = map[string]any{"number": int64(s.Port)}
	}
	return map[string]any{"destination": target, "weight": int64(weight)}
}

// mirrored adds the copy of all requests to the canary, where the traffic asks for it.
func mirrored(c *v1beta1.Canary, t router.Traffic, route map[string]any) map[string]any {
	if !t.Mirror {
		return route
	}
	route["mirror"] = map[string]any{"host": router.NamesOf(c).Canary}
	if weight := c.GetAnalysis().MirrorWeight; weight > 0 {
		route["mirrorPercentage"] = map[string]any{"value": int64(weight)}
	}
	return route
}

// addCookie returns header operations, of a route or of a destination, with a Set-Cookie header for the answer added. The
// given operations are not changed: other routes share them.
func addCookie(operations any, header string) map[string]any {
	all := cloneMap(operations)
	response := cloneMap(all["response"])
	add := cloneMap(response["add"])
	add["Set-Cookie"] = header
	response["add"] = add
	all["response"] = response
	return all
}

func cloneMap(value any) map[string]any {
	if m, ok := value.(map[string]any); ok {
		return maps.Clone(m)
	}
	return map[string]any{}
}

// TCP returns the one route for connections. Of the matches only the ports mean something here.
func TCP(c *v1beta1.Canary, t router.Traffic) map[string]any {
	names := router.NamesOf(c)
	route := map[string]any{"route": []any{
		destination(c, names.Primary, t.Primary),
		destination(c, names.Canary, t.Canary),
	}}
	var matches []any
	for i := range c.Spec.Service.Match {
		if port := c.Spec.Service.Match[i].Port; port != 0 {
			matches = append(matches, map[string]any{"port": int64(port)})
		}
	}
	if len(matches) > 0 {
		route["match"] = matches
	}
	return route
}

// Mesh is the gateway that stands for all sidecars.
const Mesh = "mesh"

// Gateways are those that the VirtualService of a Canary is for.
func Gateways(c *v1beta1.Canary) []string {
	if len(c.Spec.Service.Gateways) == 0 {
		return []string{Mesh}
	}
	return c.Spec.Service.Gateways
}
