package services

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// checkNamed makes sure that the Services of a user, who has made the primary as well, each lead to the pods of their side and
// to no other. Weights of a route that leads to them would mean something else. What selects nothing has endpoints that
// somebody else cares for.
func checkNamed(c *v1beta1.Canary, in Input, live router.Live) error {
	_, primary, canary := Refs(c)
	for _, side := range []struct {
		ref         router.Ref
		field, kind string
		own, other  map[string]string
	}{
		{primary, "spec.service.primaryName", "primary " + c.GetPrimaryName(), in.PrimaryPods, in.Pods},
		{canary, "spec.service.canaryName", "target " + c.Spec.TargetRef.Name, in.Pods, in.PrimaryPods},
	} {
		service, err := live.Get(side.ref)
		if err != nil {
			return fmt.Errorf("%s: %w", side.ref, err)
		}
		fault := func(format string, args ...any) error {
			return &router.FieldError{Field: side.field, Message: fmt.Sprintf("%s ", side.ref) + fmt.Sprintf(format, args...)}
		}
		if service == nil {
			return fault("does not exist: create it so that it selects the pods of the %s, or correct the name", side.kind)
		}
		selector := selectorOf(service)
		switch {
		case stringField(service, "type") == string(corev1.ServiceTypeExternalName):
			return fault("leads out of the cluster (type ExternalName): make it select the pods of the %s", side.kind)
		case len(selector) == 0:
		case side.own != nil && !within(selector, side.own):
			return fault("selects %s, which are not the pods of the %s: correct its selector, or the name", labels.Set(selector), side.kind)
		case side.other != nil && within(selector, side.other):
			return fault("selects %s, which are the pods of both sides: select by a label in which they differ", labels.Set(selector))
		}
	}
	return nil
}
