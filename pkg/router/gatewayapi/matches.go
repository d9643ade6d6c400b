package gatewayapi

import (
	"fmt"
	"maps"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// cookieHeader is the request header that carries cookies.
const cookieHeader = "Cookie"

// serviceMatches translates spec.service.match. Conditions that an HTTPRoute can't express (scheme, authority, port and so
// on) are left out, and so is a match that nothing remains of.
func serviceMatches(c *v1beta1.Canary) ([]gatewayv1.HTTPRouteMatch, error) {
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

// analysisMatches translates spec.analysis.match.
func analysisMatches(c *v1beta1.Canary) ([]gatewayv1.HTTPRouteMatch, error) {
	var matches []gatewayv1.HTTPRouteMatch
	for i, m := range c.GetAnalysis().Match {
		field := fmt.Sprintf("spec.analysis.match[%d]", i)
		if len(m.SourceLabels) > 0 {
			return nil, &router.FieldError{
				Field:   field + ".sourceLabels",
				Message: "an HTTPRoute can't match the labels of the client: match headers or query parameters instead",
			}
		}
		match, err := conditions(field, m.Headers, m.QueryParams)
		if err != nil {
			return nil, err
		}
		if len(match.Headers) == 0 && len(match.QueryParams) == 0 {
			return nil, &router.FieldError{
				Field:   field,
				Message: "has no condition, so that every request would meet it: add headers or queryParams, or remove it",
			}
		}
		matches = append(matches, match)
	}
	return matches, nil
}

// conditions translates matches on headers and query parameters, sorted by name so that two renderings are equal.
func conditions(field string, headers, params map[string]v1beta1.StringMatch) (gatewayv1.HTTPRouteMatch, error) {
	var match gatewayv1.HTTPRouteMatch
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		exact, value, err := stringMatch(fmt.Sprintf("%s.headers[%s]", field, name), headers[name])
		if err != nil {
			return match, err
		}
		kind := gatewayv1.HeaderMatchRegularExpression
		if exact {
			kind = gatewayv1.HeaderMatchExact
		}
		match.Headers = append(match.Headers, gatewayv1.HTTPHeaderMatch{
			Type: &kind, Name: gatewayv1.HTTPHeaderName(name), Value: value,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		exact, value, err := stringMatch(fmt.Sprintf("%s.queryParams[%s]", field, name), params[name])
		if err != nil {
			return match, err
		}
		kind := gatewayv1.QueryParamMatchRegularExpression
		if exact {
			kind = gatewayv1.QueryParamMatchExact
		}
		match.QueryParams = append(match.QueryParams, gatewayv1.HTTPQueryParamMatch{
			Type: &kind, Name: gatewayv1.HTTPHeaderName(name), Value: value,
		})
	}
	return match, nil
}

func stringMatch(field string, m v1beta1.StringMatch) (exact bool, value string, err error) {
	switch {
	case m.Exact != "":
		return true, m.Exact, nil
	case m.Regex != "":
		return false, m.Regex, nil
	default:
		return false, "", &router.FieldError{Field: field, Message: "an HTTPRoute has neither prefix nor suffix here: use exact or regex"}
	}
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

// merge returns the requests that meet both a condition of the analysis and one of the Service. Headers and query
// parameters of the analysis take the place of those of the Service.
func merge(analysis, service []gatewayv1.HTTPRouteMatch) []gatewayv1.HTTPRouteMatch {
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

// withCookie adds a condition on the Cookie header to each match.
func withCookie(pattern string, service []gatewayv1.HTTPRouteMatch) []gatewayv1.HTTPRouteMatch {
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

// complete spells out what the API server would fill in: a match has a path, and a rule has a match.
func complete(matches []gatewayv1.HTTPRouteMatch) []gatewayv1.HTTPRouteMatch {
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
