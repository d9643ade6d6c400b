package routes

import (
	"maps"
	"regexp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// cookieHeader is the request header that carries cookies.
const cookieHeader = "Cookie"

// serviceMatches returns spec.service.match as it is.
func serviceMatches(c *v1beta1.Canary) ([]any, error) {
	var matches []any
	for i := range c.Spec.Service.Match {
		m := c.Spec.Service.Match[i].DeepCopy()
		for _, s := range []*v1beta1.StringMatch{m.URI, m.Scheme, m.Method, m.Authority} {
			if s != nil {
				*s = withoutSuffix(*s)
			}
		}
		m.Headers = withoutSuffixes(m.Headers)
		m.WithoutHeaders = withoutSuffixes(m.WithoutHeaders)
		m.QueryParams = withoutSuffixes(m.QueryParams)
		fields, err := router.Fields(m)
		if err != nil {
			return nil, err
		}
		matches = append(matches, fields)
	}
	return matches, nil
}

// analysisMatches returns spec.analysis.match.
func analysisMatches(c *v1beta1.Canary) ([]any, error) {
	if err := (router.Conditions{System: "Istio", QueryParams: true, SourceLabels: true}).Check(c); err != nil {
		return nil, err
	}
	var matches []any
	for _, m := range c.GetAnalysis().Match {
		m.Headers = withoutSuffixes(m.Headers)
		m.QueryParams = withoutSuffixes(m.QueryParams)
		fields, err := router.Fields(m)
		if err != nil {
			return nil, err
		}
		matches = append(matches, fields)
	}
	return matches, nil
}

// withoutSuffix replaces the form that Istio does not have by a regular expression.
func withoutSuffix(m v1beta1.StringMatch) v1beta1.StringMatch {
	if m.Suffix == "" {
		return m
	}
	return v1beta1.StringMatch{Regex: ".*" + regexp.QuoteMeta(m.Suffix)}
}

func withoutSuffixes(all map[string]v1beta1.StringMatch) map[string]v1beta1.StringMatch {
	plain := maps.Clone(all)
	for name, m := range plain {
		plain[name] = withoutSuffix(m)
	}
	return plain
}

// merge returns the requests that meet both a condition of the analysis and one of the Service. Fields that an analysis can
// set take the place of those of the Service.
func merge(analysis, service []any) []any {
	if len(service) == 0 {
		return analysis
	}
	var merged []any
	for _, a := range analysis {
		for _, s := range service {
			match := cloneMap(s)
			maps.Copy(match, cloneMap(a))
			merged = append(merged, match)
		}
	}
	return merged
}

// withCookie adds a condition on the Cookie header to each match.
func withCookie(pattern string, service []any) []any {
	if len(service) == 0 {
		service = []any{map[string]any{}}
	}
	var pinned []any
	for _, s := range service {
		match := cloneMap(s)
		headers := cloneMap(match["headers"])
		headers[cookieHeader] = map[string]any{"regex": pattern}
		match["headers"] = headers
		pinned = append(pinned, match)
	}
	return pinned
}
