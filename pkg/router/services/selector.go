package services

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
)

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
