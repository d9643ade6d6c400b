package workload

import (
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// renaming is the value that a label of the pods of a target has on those of its primary. It is the value itself where that is
// the same.
type renaming func(label, value string) string

// byName renames the selector labels of a copy. As in Flagger, the name of the Deployment counts and not the value of the label.
func byName(name string, selectorLabels []string) renaming {
	return func(label, value string) string {
		if value == name && slices.Contains(selectorLabels, label) {
			return name + v1beta1.PrimarySuffix
		}
		return value
	}
}

// byLabels renames what target and primary are told apart by.
func byLabels(target, primary map[string]any) renaming {
	return func(label, value string) string {
		if theirs, ok := primary[label].(string); ok && target[label] == value {
			return theirs
		}
		return value
	}
}

// spreadPrimary makes the pods of the primary keep away from each other instead of from those of the target, in a pod spec
// that is changed in place: where anti-affinity or a spread constraint selects the target, it selects the primary. As in
// Flagger, only the first match in a list of values is changed, and pod affinity is left alone.
func spreadPrimary(podSpec map[string]any, rename renaming) {
	antiAffinity := mapAt(podSpec, "affinity", "podAntiAffinity")
	for _, item := range listAt(antiAffinity, "requiredDuringSchedulingIgnoredDuringExecution") {
		if term, ok := item.(map[string]any); ok {
			renameInSelector(mapAt(term, "labelSelector"), rename)
		}
	}
	for _, item := range listAt(antiAffinity, "preferredDuringSchedulingIgnoredDuringExecution") {
		if term, ok := item.(map[string]any); ok {
			renameInSelector(mapAt(term, "podAffinityTerm", "labelSelector"), rename)
		}
	}
	for _, item := range listAt(podSpec, "topologySpreadConstraints") {
		if constraint, ok := item.(map[string]any); ok {
			renameInSelector(mapAt(constraint, "labelSelector"), rename)
		}
	}
}

func renameInSelector(selector map[string]any, rename renaming) {
	for _, item := range listAt(selector, "matchExpressions") {
		expression, _ := item.(map[string]any)
		values := listAt(expression, "values")
		for i := range values {
			value, _ := values[i].(string)
			if other := rename(stringAt(expression, "key"), value); other != value {
				values[i] = other
				break
			}
		}
	}
	matchLabels := mapAt(selector, "matchLabels")
	for label := range matchLabels {
		if value, ok := matchLabels[label].(string); ok {
			matchLabels[label] = rename(label, value)
		}
	}
}
