package services

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// PrimaryUnfound is whether the primary Service is missing or selects other pods than the primary has, where it is ours to select them.
func PrimaryUnfound(c *v1beta1.Canary, in Input, live router.Live) (bool, error) {
	if !Managed(c) {
		return false, nil
	}
	_, ref, _ := Refs(c)
	selector, err := SelectorOf(ref, live)
	if err != nil {
		return false, err
	}
	by := in.primary()
	return selector[by.Label] != by.Value, nil
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
