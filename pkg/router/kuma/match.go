package kuma

import (
	"regexp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// matchesOf returns the matches of the analysis in the form of a TrafficRoute, which knows those of headers alone.
func matchesOf(c *v1beta1.Canary) ([]any, error) {
	if err := (router.Conditions{System: "Kuma"}).Check(c); err != nil {
		return nil, err
	}
	var all []any
	for _, m := range c.GetAnalysis().Match {
		headers := map[string]any{}
		for name, value := range m.Headers {
			headers[name] = matcher(value)
		}
		all = append(all, map[string]any{"headers": headers})
	}
	return all, nil
}

// matcher: a regular expression has to fit the whole value.
func matcher(m v1beta1.StringMatch) map[string]any {
	switch {
	case m.Exact != "":
		return map[string]any{"exact": m.Exact}
	case m.Prefix != "":
		return map[string]any{"prefix": m.Prefix}
	case m.Suffix != "":
		return map[string]any{"regex": ".*" + regexp.QuoteMeta(m.Suffix)}
	case m.Regex != "":
		return map[string]any{"regex": m.Regex}
	default:
		return map[string]any{"regex": ".*"}
	}
}
