package contour

import (
	"maps"
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

func plainConditions(c *v1beta1.Canary) []any {
	return []any{map[string]any{"prefix": router.PathPrefix(c)}}
}

// matchConditions returns what a request has to meet, all of it. The prefix stands in the first condition only, because
// Contour refuses a second one. Conditions are sorted by name, so that two renderings are equal.
func matchConditions(c *v1beta1.Canary, match v1beta1.AnalysisMatch) []any {
	var conditions []any
	for _, name := range slices.Sorted(maps.Keys(match.Headers)) {
		conditions = append(conditions, map[string]any{"header": condition(name, match.Headers[name], "contains", "contains")})
	}
	for _, name := range slices.Sorted(maps.Keys(match.QueryParams)) {
		conditions = append(conditions, map[string]any{"queryParameter": condition(name, match.QueryParams[name], "prefix", "suffix")})
	}
	conditions[0].(map[string]any)["prefix"] = router.PathPrefix(c) //nolint:errcheck // every match has a condition
	return conditions
}

// condition is that on a header or a query parameter. Contour has neither prefix nor suffix for headers, so both become
// "contains".
func condition(name string, m v1beta1.StringMatch, prefix, suffix string) map[string]any {
	condition := map[string]any{"name": name}
	switch {
	case m.Exact != "":
		condition["exact"] = m.Exact
	case m.Prefix != "":
		condition[prefix] = m.Prefix
	case m.Suffix != "":
		condition[suffix] = m.Suffix
	case m.Regex != "":
		condition["regex"] = m.Regex
	default:
		condition["present"] = true
	}
	return condition
}
