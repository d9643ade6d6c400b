// Package match translates the conditions of a Canary into the matches of an HTTPRoute.
package match

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// cookieHeader is the request header that carries cookies.
const cookieHeader = "Cookie"

// Service translates spec.service.match. Conditions that an HTTPRoute can't express (scheme, authority, port and so
// on) are left out, and so is a match that nothing remains of.
func Service(c *v1beta1.Canary) ([]gatewayv1.HTTPRouteMatch, error) {
	var matches []gatewayv1.HTTPRouteMatch
	for i := range c.Spec.Service.Match {
		m := &c.Spec.Service.Match[i]
		field := fmt.Sprintf("spec.service.match[%d]", i)
		match, err := conditions(field, m.Headers, m.QueryParams)
		if err != nil {
			return nil, err
		}
		if match.Path, err = pathMatch(field, m.URI); err != nil {
			return nil, err
		}
		if match.Method, err = methodMatch(field, m.Method); err != nil {
			return nil, err
		}
		if match.Path != nil || match.Method != nil || len(match.Headers) > 0 || len(match.QueryParams) > 0 {
			matches = append(matches, match)
		}
	}
	return matches, nil
}

// Analysis translates spec.analysis.match.
func Analysis(c *v1beta1.Canary) ([]gatewayv1.HTTPRouteMatch, error) {
	if err := (router.Conditions{System: "an HTTPRoute", QueryParams: true}).Check(c); err != nil {
		return nil, err
	}
	var matches []gatewayv1.HTTPRouteMatch
	for i, m := range c.GetAnalysis().Match {
		field := fmt.Sprintf("spec.analysis.match[%d]", i)
		match, err := conditions(field, m.Headers, m.QueryParams)
		if err != nil {
			return nil, err
		}
		matches = append(matches, match)
	}
	return matches, nil
}

// conditions translates matches on headers and query parameters, sorted by name so that two renderings are equal.
func conditions(field string, headers, params map[string]v1beta1.StringMatch) (gatewayv1.HTTPRouteMatch, error) {
	var match gatewayv1.HTTPRouteMatch
	err := eachMatch(field+".headers", headers, func(kind string, name gatewayv1.HTTPHeaderName, value string) {
		match.Headers = append(match.Headers, gatewayv1.HTTPHeaderMatch{
			Type: ptr.To(gatewayv1.HeaderMatchType(kind)), Name: name, Value: value,
		})
	})
	if err != nil {
		return match, err
	}
	return match, eachMatch(field+".queryParams", params, func(kind string, name gatewayv1.HTTPHeaderName, value string) {
		match.QueryParams = append(match.QueryParams, gatewayv1.HTTPQueryParamMatch{
			Type: ptr.To(gatewayv1.QueryParamMatchType(kind)), Name: name, Value: value,
		})
	})
}

// eachMatch calls add with the kind of each match, which headers and query parameters have the same words for.
func eachMatch(field string, all map[string]v1beta1.StringMatch, add func(kind string, name gatewayv1.HTTPHeaderName, value string)) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch m := all[name]; {
		case m.Exact != "":
			add(string(gatewayv1.HeaderMatchExact), gatewayv1.HTTPHeaderName(name), m.Exact)
		case m.Regex != "":
			add(string(gatewayv1.HeaderMatchRegularExpression), gatewayv1.HTTPHeaderName(name), m.Regex)
		default:
			return &router.FieldError{
				Field:   fmt.Sprintf("%s[%s]", field, name),
				Message: "an HTTPRoute has neither prefix nor suffix here: use exact or regex",
			}
		}
	}
	return nil
}

func pathMatch(field string, m *v1beta1.StringMatch) (*gatewayv1.HTTPPathMatch, error) {
	if m == nil {
		return nil, nil
	}
	path := func(kind gatewayv1.PathMatchType, value string) (*gatewayv1.HTTPPathMatch, error) {
		return &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}, nil
	}
	switch {
	case m.Regex != "":
		return path(gatewayv1.PathMatchRegularExpression, m.Regex)
	case m.Exact != "":
		return path(gatewayv1.PathMatchExact, m.Exact)
	case m.Prefix != "":
		return path(gatewayv1.PathMatchPathPrefix, m.Prefix)
	default:
		return nil, &router.FieldError{
			Field: field + ".uri", Message: "an HTTPRoute matches paths by exact, prefix or regex: use one of them",
		}
	}
}

func methodMatch(field string, m *v1beta1.StringMatch) (*gatewayv1.HTTPMethod, error) {
	if m == nil {
		return nil, nil
	}
	if m.Exact == "" {
		return nil, &router.FieldError{Field: field + ".method", Message: "an HTTPRoute matches whole methods: use exact"}
	}
	method := gatewayv1.HTTPMethod(m.Exact)
	return &method, nil
}

// Merge returns the requests that meet both a condition of the analysis and one of the Service. Headers and query
// parameters of the analysis take the place of those of the Service.
func Merge(analysis, service []gatewayv1.HTTPRouteMatch) []gatewayv1.HTTPRouteMatch {
	if len(analysis) == 0 {
		return service
	}
	if len(service) == 0 {
		return analysis
	}
	var merged []gatewayv1.HTTPRouteMatch
	for _, a := range analysis {
		for _, s := range service {
			match := *s.DeepCopy()
			if len(a.Headers) > 0 {
				match.Headers = a.Headers
			}
			if len(a.QueryParams) > 0 {
				match.QueryParams = a.QueryParams
			}
			merged = append(merged, match)
		}
	}
	return merged
}

// WithCookie adds a condition on the Cookie header to each match.
func WithCookie(pattern string, service []gatewayv1.HTTPRouteMatch) []gatewayv1.HTTPRouteMatch {
	kind := gatewayv1.HeaderMatchRegularExpression
	cookie := gatewayv1.HTTPHeaderMatch{Type: &kind, Name: cookieHeader, Value: pattern}
	if len(service) == 0 {
		return []gatewayv1.HTTPRouteMatch{{Headers: []gatewayv1.HTTPHeaderMatch{cookie}}}
	}
	var pinned []gatewayv1.HTTPRouteMatch
	for _, s := range service {
		match := *s.DeepCopy()
		// A name may occur once only.
		match.Headers = slices.DeleteFunc(match.Headers, func(h gatewayv1.HTTPHeaderMatch) bool {
			return h.Name == cookieHeader
		})
		match.Headers = append(match.Headers, cookie)
		pinned = append(pinned, match)
	}
	return pinned
}

// Complete spells out what the API server would fill in: a match has a path, and a rule has a match.
func Complete(matches []gatewayv1.HTTPRouteMatch) []gatewayv1.HTTPRouteMatch {
	kind, root := gatewayv1.PathMatchPathPrefix, "/"
	everything := &gatewayv1.HTTPPathMatch{Type: &kind, Value: &root}
	if len(matches) == 0 {
		return []gatewayv1.HTTPRouteMatch{{Path: everything}}
	}
	full := slices.Clone(matches)
	for i := range full {
		if full[i].Path == nil {
			full[i].Path = everything
		}
	}
	return full
}
