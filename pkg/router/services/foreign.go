package services

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// checkForeign refuses to take over a Service that leads to pods of somebody else: it would lead to those of the Canary from
// then on. A Service that selects nothing serves nobody whom that could hurt, and one that was taken over before is repaired.
func checkForeign(c *v1beta1.Canary, in Input, current *unstructured.Unstructured) error {
	if current == nil || router.ControlOf(c, current) != router.Foreign || leads(c) ||
		stringField(current, "type") == string(corev1.ServiceTypeExternalName) {
		return nil
	}
	selector := selectorOf(current)
	primary, by := maps.Clone(in.Pods), in.primary()
	if primary == nil {
		primary = map[string]string{}
	}
	primary[by.Label] = by.Value
	if len(selector) == 0 || within(selector, in.Pods) || within(selector, primary) ||
		selectsBy(current, in.Label, in.Value) {
		return nil
	}
	return &router.FieldError{Field: "spec.service.name", Message: fmt.Sprintf(
		"Service %s.%s exists, no Canary owns it, and it selects %s, which are not the pods of %s %s: it is left alone. Set a name "+
			"that no other Service has, or make the Service select the pods of %s first",
		current.GetName(), current.GetNamespace(), labels.Set(selector), c.Spec.TargetRef.Kind, c.Spec.TargetRef.Name,
		c.Spec.TargetRef.Name)}
}

// CheckForeignCopy is the same for the copies of a Service target: it refuses to turn a Service into one that selects other
// pods than the target.
func CheckForeignCopy(c *v1beta1.Canary, target, current *unstructured.Unstructured) error {
	if current == nil || router.ControlOf(c, current) != router.Foreign || leads(c) ||
		stringField(current, "type") == string(corev1.ServiceTypeExternalName) {
		return nil
	}
	selector := selectorOf(current)
	if len(selector) == 0 || maps.Equal(selector, selectorOf(target)) {
		return nil
	}
	return &router.FieldError{Field: "spec.targetRef.name", Message: fmt.Sprintf(
		"Service %s.%s exists, no Canary owns it, and it selects %s, which are not the pods of Service %s: it is left alone. "+
			"Rename one of the two Services", current.GetName(), current.GetNamespace(), labels.Set(selector), target.GetName())}
}

// leads is whether the Canary has made Services under its present name before.
func leads(c *v1beta1.Canary) bool {
	record := c.Status.Rollout
	return record != nil && len(record.Routing) > 0 && record.Routing[0].Service == router.NamesOf(c).Apex
}

func selectorOf(service *unstructured.Unstructured) map[string]string {
	selector, _, err := unstructured.NestedStringMap(service.Object, "spec", "selector")
	if err != nil {
		return nil
	}
	return selector
}

// selectsPrimary is whether a Service selects the pods of a primary alone, of that which is there or of one that is gone: the target may
// have had another label.
func selectsPrimary(service *unstructured.Unstructured, in Input) bool {
	if by := in.primary(); selectsBy(service, by.Label, by.Value) {
		return true
	}
	selector := selectorOf(service)
	for _, value := range selector {
		return len(selector) == 1 && strings.HasSuffix(value, v1beta1.PrimarySuffix) && !within(selector, in.Pods)
	}
	return false
}

// selectsBy is whether a Service selects its pods by one label alone.
func selectsBy(service *unstructured.Unstructured, label, value string) bool {
	return maps.Equal(selectorOf(service), map[string]string{label: value})
}

// within is whether pods with these labels are selected.
func within(selector, pods map[string]string) bool {
	for key, value := range selector {
		if have, ok := pods[key]; !ok || have != value {
			return false
		}
	}
	return true
}
