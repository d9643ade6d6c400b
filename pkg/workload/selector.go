package workload

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// primarySelector is what a primary was made with: the one label that it selects its pods by. It is false for one that was made by
// somebody else, who may select them by anything.
func primarySelector(c *v1beta1.Canary, primary *unstructured.Unstructured) (Selector, bool) {
	owner := metav1.GetControllerOf(primary)
	if owner == nil || owner.Kind != "Canary" || owner.Name != c.Name || len(listAt(primary.Object, "spec", "selector", "matchExpressions")) > 0 {
		return Selector{}, false
	}
	have := selectorLabels(primary)
	for label, value := range have {
		target, ok := strings.CutSuffix(value, v1beta1.PrimarySuffix)
		return Selector{Label: label, Value: target}, ok && len(have) == 1
	}
	return Selector{}, false
}

func selectorLabels(primary *unstructured.Unstructured) map[string]string {
	have, _, _ := unstructured.NestedStringMap(primary.Object, "spec", "selector", "matchLabels")
	return have
}

// selects is whether a primary selects its pods as a copy of the target would.
func selects(primary *unstructured.Unstructured, s Selector) bool {
	have := selectorLabels(primary)
	return len(have) == 1 && have[s.Label] == s.PrimaryValue() && len(listAt(primary.Object, "spec", "selector", "matchExpressions")) == 0
}

// checkPrimarySelector tells of a primary that selects other pods than the copy would have, and is not known to be one of ours. The
// selector of a workload can't be changed, so every write would be refused.
func checkPrimarySelector(c *v1beta1.Canary, primary *unstructured.Unstructured, s Selector) *rollout.Problem {
	if _, ours := primarySelector(c, primary); ours || selects(primary, s) {
		return nil
	}
	return invalid("%s exists, but selects its pods by %s and not by %s=%s alone, and was not made for this Canary: it stays as it is. Remove the %s "+
		"once it gets no traffic, or rename it or the target", described(primary), labelsIn(primary), s.Label, s.PrimaryValue(), primary.GetKind())
}

// checkPrimary tells of a primary that is not the one of this Canary, or that can't be told from the target.
func (o *Observation) checkPrimary(c *v1beta1.Canary, target, primary *unstructured.Unstructured) *rollout.Problem {
	if c.HasOwnPrimary() {
		return checkNamed(primary)
	}
	var first problems
	first.add(checkOwner(c, primary))
	first.add(o.observePrimarySelector(c, target, primary))
	return first.problem
}

// selectorOfPrimary is what the primary was made with.
func (o *Observation) selectorOfPrimary() Selector {
	if o.PrimarySelector.Label != "" {
		return o.PrimarySelector
	}
	return o.Selector
}

// stayApart keeps the canary Service away from the pods of a primary that has just been replaced: they end while the canary serves.
func (o *Observation) stayApart(c *v1beta1.Canary, own map[string]string, replaced string) {
	promotes := c.Status.Phase == v1beta1.CanaryPhasePromoting || c.Status.Phase == v1beta1.CanaryPhaseFinalising
	if value := own[replaced]; promotes && value != "" && replaced != o.Selector.Label {
		o.Apart = map[string]string{replaced: value}
	}
}

func labelsIn(primary *unstructured.Unstructured) string {
	return cmp.Or(labels.Set(selectorLabels(primary)).String(), "no label")
}

// observePrimarySelector finds out what tells the pods of a primary, that was made when the target had another selector, from those of
// the target.
func (o *Observation) observePrimarySelector(c *v1beta1.Canary, target, primary *unstructured.Unstructured) *rollout.Problem {
	own := podLabels(target)
	if selects(primary, o.Selector) {
		o.stayApart(c, own, annotationAt(primary, replacedLabelAnnotation))
		return nil
	}
	made, ours := primarySelector(c, primary)
	if !ours {
		return checkPrimarySelector(c, primary, o.Selector)
	}
	o.PrimarySelector = made
	o.Primary.SelectorDiffers, o.Primary.StopsFirst = labelsIn(primary), true
	value, ok := own[made.Label]
	switch {
	case value == made.PrimaryValue():
		return invalid("%s: the pods of the target would get requests for %s, which selects %s too: use another value of the label %s in "+
			"spec.template.metadata.labels", described(target), described(primary), labelsIn(primary), made.Label)
	case podLabels(primary)[o.Selector.Label] != o.Selector.Value:
	case !ok:
		return invalid("%s: the pods of %s have the label %s=%s too and would get requests for the canary: add the label %s, with another value "+
			"than theirs, to spec.template.metadata.labels until %[2]s has been made anew", described(target), described(primary),
			o.Selector.Label, o.Selector.Value, made.Label)
	default:
		o.Apart = map[string]string{made.Label: value}
	}
	return nil
}
