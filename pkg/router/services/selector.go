package services

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Unfound are the sides whose Service is missing or selects other pods than they have, where it is ours to select them.
func Unfound(c *v1beta1.Canary, in Input, live router.Live) (primary, canary bool, err error) {
	if !Managed(c) {
		return false, false, nil
	}
	_, primaryRef, canaryRef := Refs(c)
	byPrimary, err := SelectorOf(primaryRef, live)
	if err != nil {
		return false, false, err
	}
	byCanary, err := SelectorOf(canaryRef, live)
	if err != nil {
		return false, false, err
	}
	return byPrimary[in.primary().Label] != in.primary().Value, byCanary[in.Label] != in.Value, nil
}

// SelectorOf is what a Service selects, nothing while it does not exist.
func SelectorOf(ref router.Ref, live router.Live) (map[string]any, error) {
	service, err := live.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if service == nil {
		return nil, nil
	}
	selector, _, err := unstructured.NestedMap(service.Object, "spec", "selector")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return selector, nil
}
