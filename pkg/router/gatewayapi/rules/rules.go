// Package rules translates a Canary and its traffic into the rules of an HTTPRoute, and reads the traffic back from them.
package rules

import (
	"fmt"
	"slices"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/gatewayapi/match"
)

const setCookie = "Set-Cookie"

// Render returns the rules in the order in which a gateway has to try them: those that single out requests first, the
// one that splits the remaining traffic last.
func Render(c *v1beta1.Canary, t router.Traffic) ([]gatewayv1.HTTPRouteRule, error) {
	matches, err := match.Service(c)
	if err != nil {
		return nil, err
	}
	picked, err := match.Analysis(c)
	if err != nil {
		return nil, err
	}
	always, err := router.CanaryMatches(c, match.Analysis)
	if err != nil {
		return nil, err
	}
	filters, err := serviceFilters(c)
	if err != nil {
		return nil, err
	}
	build := func(
		matches []gatewayv1.HTTPRouteMatch, filters []gatewayv1.HTTPRouteFilter, backends ...gatewayv1.HTTPBackendRef,
	) gatewayv1.HTTPRouteRule {
		return gatewayv1.HTTPRouteRule{
			Matches: match.Complete(matches), Filters: filters, BackendRefs: backends, Timeouts: timeouts(c),
		}
	}
	names := router.NamesOf(c)
	primary, canary := backend(c, names.Primary, t.Primary), backend(c, names.Canary, t.Canary)
	mirrored := filters
	if t.Mirror {
		mirrored = append(slices.Clone(filters), mirrorToCanary(c))
	}
	if t.Matched {
		return []gatewayv1.HTTPRouteRule{
			build(match.Merge(picked, matches), mirrored, primary, canary),
			build(matches, filters, backend(c, names.Primary, 100)),
		}, nil
	}
	affinity := router.AffinityOf(c, t)
	toCanary := []gatewayv1.HTTPBackendRef{backend(c, names.Primary, 0), backend(c, names.Canary, 100)}
	var rules []gatewayv1.HTTPRouteRule
	if t.SharesOut() && len(always) > 0 {
		rules = append(rules, build(match.Merge(always, matches), filters, toCanary...))
	}
	if affinity.Pinned() {
		rules = append(rules, build(match.WithCookie(affinity.CanaryPattern(), matches), filters, toCanary...))
		canary.Filters = []gatewayv1.HTTPRouteFilter{addCookie(affinity.SetCanary())}
	}
	if affinity.PrimaryPinned() {
		rules = append(rules, build(match.WithCookie(affinity.PrimaryPattern(), matches), filters,
			backend(c, names.Primary, 100), backend(c, names.Canary, 0)))
		primary.Filters = []gatewayv1.HTTPRouteFilter{addCookie(affinity.SetPrimary())}
	}
	if affinity.Dropping() {
		rules = append(rules, build(match.WithCookie(affinity.PreviousPattern(), matches),
			dropCookie(filters, affinity.Drop()), primary, canary))
	}
	return append(rules, build(matches, mirrored, primary, canary)), nil
}

func backend(c *v1beta1.Canary, name string, weight int32) gatewayv1.HTTPBackendRef {
	return gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{
		BackendObjectReference: serviceRef(c, name),
		Weight:                 &weight,
	}}
}

func serviceRef(c *v1beta1.Canary, name string) gatewayv1.BackendObjectReference {
	return gatewayv1.BackendObjectReference{
		Group: ptr.To(gatewayv1.Group("")),
		Kind:  ptr.To(gatewayv1.Kind("Service")),
		Name:  gatewayv1.ObjectName(name),
		Port:  &c.Spec.Service.Port,
	}
}

func timeouts(c *v1beta1.Canary) *gatewayv1.HTTPRouteTimeouts {
	service := &c.Spec.Service
	if service.Timeout == "" && service.BackendTimeout == "" {
		return nil
	}
	duration := func(text string) *gatewayv1.Duration {
		if text == "" {
			return nil
		}
		d := gatewayv1.Duration(text)
		return &d
	}
	return &gatewayv1.HTTPRouteTimeouts{
		Request:        duration(service.Timeout),
		BackendRequest: duration(service.BackendTimeout),
	}
}

// Read finds the traffic in the last rule that has both backends.
func Read(c *v1beta1.Canary, ref router.Ref, rules []gatewayv1.HTTPRouteRule) (router.Traffic, error) {
	names := router.NamesOf(c)
	for i := len(rules) - 1; i >= 0; i-- {
		primary := findBackend(&rules[i], names.Primary)
		canary := findBackend(&rules[i], names.Canary)
		if primary == nil || canary == nil {
			continue
		}
		t, err := router.Split(ref, int64(ptr.Deref(primary.Weight, 1)), int64(ptr.Deref(canary.Weight, 1)))
		if err != nil {
			return t, err
		}
		t.Mirror = mirrors(rules[i].Filters, names.Canary) > userMirrors(c, names.Canary)
		// What follows is for the primary alone.
		t.Matched = i < len(rules)-1
		if router.AffinityOf(c, t) != nil {
			t.Cookies = readCookies(rules, canary, primary)
		}
		return t, nil
	}
	return router.Traffic{}, fmt.Errorf("%s %w: no rule has both backends", ref, router.ErrUnreadable)
}

func findBackend(rule *gatewayv1.HTTPRouteRule, name string) *gatewayv1.HTTPBackendRef {
	at := slices.IndexFunc(rule.BackendRefs, func(b gatewayv1.HTTPBackendRef) bool {
		return string(b.Name) == name
	})
	if at < 0 {
		return nil
	}
	return &rule.BackendRefs[at]
}

func readCookies(rules []gatewayv1.HTTPRouteRule, canary, primary *gatewayv1.HTTPBackendRef) router.Cookies {
	cookies := router.Cookies{Canary: findCookie(canary.Filters, false), Primary: findCookie(primary.Filters, false)}
	if len(rules) > 1 {
		cookies.Previous = findCookie(rules[0].Filters, true)
	}
	return cookies
}
