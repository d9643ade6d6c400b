package services

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Originals returns the Services of users that were taken over, with the selector that kubectl last applied, or else the
// one of the target's pods. A Service whose selector can't be told, because the target is gone, is left out.
func Originals(c *v1beta1.Canary, in Input, live router.Live) ([]router.Object, error) {
	if !Managed(c) {
		return nil, nil
	}
	names := router.NamesOf(c)
	var originals []router.Object
	for _, name := range []string{names.Apex, names.Canary, names.Primary} {
		ref := Ref(c.Namespace, name)
		current, err := live.Get(ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if current == nil || router.ControlOf(c, current) != router.Foreign {
			continue
		}
		selector, err := originalSelector(in, ref, current)
		if err != nil {
			return nil, err
		}
		if selector == nil {
			continue
		}
		originals = append(originals, router.Object{
			Ref:     ref,
			Wanted:  router.NewObject(ref, nil, nil, map[string]any{"selector": selector}),
			Owned:   [][]string{{"spec", "selector"}},
			Unowned: true,
		})
	}
	return originals, nil
}

// originalSelector is nil if nothing tells it.
func originalSelector(in Input, ref router.Ref, current *unstructured.Unstructured) (map[string]any, error) {
	spec, err := router.OriginalSpec(ref, current)
	if err != nil {
		return nil, err
	}
	if selector, ok := spec["selector"].(map[string]any); ok && len(selector) > 0 {
		return selector, nil
	}
	if in.Label == "" {
		return nil, nil
	}
	return map[string]any{in.Label: in.Value}, nil
}
