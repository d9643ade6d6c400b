package workload

import (
	"cmp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// selectorOf finds the label that tells the pods of a target from those of its primary: the first of the candidates that
// the target selects its pods by.
func selectorOf(target *unstructured.Unstructured, candidates []string) (Selector, *rollout.Problem) {
	matchLabels := mapAt(target.Object, "spec", "selector", "matchLabels")
	for _, label := range candidates {
		value, ok := matchLabels[label].(string)
		if !ok {
			continue
		}
		selector := Selector{Label: label, Value: value}
		return selector, checkSelector(target, selector)
	}
	return Selector{}, invalid("getSelectorLabel failed: %s spec.selector.matchLabels must contain one of %v: "+
		"add one of them to the %s, or name one that it has in the operator's flag -selector-labels",
		described(target), candidates, target.GetKind())
}

func checkSelector(target *unstructured.Unstructured, s Selector) *rollout.Problem {
	if s.Value == "" {
		return invalid("%s: label %s in spec.selector.matchLabels is empty, so the pods of the primary can't "+
			"be told apart: give it a value", described(target), s.Label)
	}
	errs := validation.IsValidLabelValue(s.PrimaryValue())
	if len(errs) == 0 {
		return nil
	}
	return invalid("%s: the pods of the primary would get the label %s=%s, which is not valid (%s): "+
		"use a value of at most %d characters in spec.selector.matchLabels",
		described(target), s.Label, s.PrimaryValue(), strings.Join(errs, "; "),
		validation.LabelValueMaxLength-len(v1beta1.PrimarySuffix))
}

// checkPrimaryName tells of a target whose name leaves no room for the suffix.
func checkPrimaryName(c *v1beta1.Canary) *rollout.Problem {
	limit := validation.DNS1123SubdomainMaxLength - len(v1beta1.PrimarySuffix)
	if len(c.Spec.TargetRef.Name) <= limit {
		return nil
	}
	return invalid("spec.targetRef.name: the primary would be named %s, which is longer than the %d characters that a name "+
		"may have: use a target whose name has at most %d", PrimaryName(c), validation.DNS1123SubdomainMaxLength, limit)
}

// checkPrimarySelector tells of a primary that selects other pods than the copy would have. The selector of a workload
// can't be changed, so every write would be refused.
func checkPrimarySelector(primary *unstructured.Unstructured, s Selector) *rollout.Problem {
	have := mapAt(primary.Object, "spec", "selector", "matchLabels")
	if len(have) == 1 && have[s.Label] == s.PrimaryValue() &&
		len(listAt(primary.Object, "spec", "selector", "matchExpressions")) == 0 {
		return nil
	}
	selects, _, _ := unstructured.NestedStringMap(primary.Object, "spec", "selector", "matchLabels")
	return invalid("%s exists, but selects its pods by %s and not by %s=%s alone: it was made when the target had another selector, with other "+
		"-selector-labels, or by somebody else. It stays as it is and goes on serving. Create the target anew with the former labels in "+
		"spec.selector.matchLabels or restore the flag, or remove the %s once it gets no traffic", described(primary),
		cmp.Or(labels.Set(selects).String(), "no label"), s.Label, s.PrimaryValue(), primary.GetKind())
}
