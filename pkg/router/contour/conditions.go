package contour

import (
	"fmt"
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
func matchConditions(c *v1beta1.Canary, match v1beta1.AnalysisMatch, field string) ([]any, error) {
	if len(match.SourceLabels) > 0 {
		return nil, &router.FieldError{
			Field:   field + ".sourceLabels",
			Message: "Contour can't match the labels of the client: match headers or query parameters instead",
		}
	}
	var conditions []any
	for _, name := range slices.Sorted(maps.Keys(match.Headers)) {
		conditions = append(conditions, map[string]any{"header": headerCondition(name, match.Headers[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(match.QueryParams)) {
		conditions = append(conditions, map[string]any{"queryParameter": queryCondition(name, match.QueryParams[name])})
	}
	if len(conditions) == 0 {
		return nil, &router.FieldError{
			Field:   field,
			Message: "has no condition, so that every request would meet it: add headers or queryParams, or remove it",
		}
	}
	first, ok := conditions[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: first condition is no object", field)
	}
	first["prefix"] = router.PathPrefix(c)
	return conditions, nil
}

// headerCondition: Contour has neither prefix nor suffix for headers, so both become "contains".
func headerCondition(name string, m v1beta1.StringMatch) map[string]any {
	condition := map[string]any{"name": name}
	switch {
	case m.Exact != "":
		condition["exact"] = m.Exact
	case m.Prefix != "":
		condition["contains"] = m.Prefix
	case m.Suffix != "":
		condition["contains"] = m.Suffix
	case m.Regex != "":
		condition["regex"] = m.Regex
	default:
		condition["present"] = true
	}
	return condition
}

func queryCondition(name string, m v1beta1.StringMatch) map[string]any {
	condition := map[string]any{"name": name}
	switch {
	case m.Exact != "":
		condition["exact"] = m.Exact
	case m.Prefix != "":
		condition["prefix"] = m.Prefix
	case m.Suffix != "":
		condition["suffix"] = m.Suffix
	case m.Regex != "":
		condition["regex"] = m.Regex
	default:
		condition["present"] = true
	}
	return condition
}
