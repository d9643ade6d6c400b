package workload

import (
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// spreadPrimary makes the pods of the primary keep away from each other instead of from those of the target, in a pod spec
// that is changed in place: where anti-affinity or a spread constraint selects the name of the target by one of the
// selector labels, it selects that of the primary. As in Flagger, the name of the Deployment counts and not the value of
// the label, only the first match in a list of values is changed, and pod affinity is left alone.
func spreadPrimary(podSpec map[string]any, name string, selectorLabels []string) {
	antiAffinity := mapAt(podSpec, "affinity", "podAntiAffinity")
	for _, item := range listAt(antiAffinity, "requiredDuringSchedulingIgnoredDuringExecution") {
		if term, ok := item.(map[string]any); ok {
			renameInSelector(mapAt(term, "labelSelector"), name, selectorLabels)
		}
	}
	for _, item := range listAt(antiAffinity, "preferredDuringSchedulingIgnoredDuringExecution") {
		if term, ok := item.(map[string]any); ok {
			renameInSelector(mapAt(term, "podAffinityTerm", "labelSelector"), name, selectorLabels)
		}
	}
	for _, item := range listAt(podSpec, "topologySpreadConstraints") {
		if constraint, ok := item.(map[string]any); ok {
			renameInSelector(mapAt(constraint, "labelSelector"), name, selectorLabels)
		}
	}
}

func renameInSelector(selector map[string]any, name string, selectorLabels []string) {
	for _, item := range listAt(selector, "matchExpressions") {
		expression, _ := item.(map[string]any)
		if !slices.Contains(selectorLabels, stringAt(expression, "key")) {
			continue
		}
		values := listAt(expression, "values")
		if i := slices.Index(values, any(name)); i >= 0 {
			values[i] = name + v1beta1.PrimarySuffix
		}
	}
	matchLabels := mapAt(selector, "matchLabels")
	for _, label := range selectorLabels {
		if matchLabels[label] == name {
			matchLabels[label] = name + v1beta1.PrimarySuffix
		}
	}
}
