package router

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ErrNotFound is what Read returns, wrapped, when a routing object does not exist.
var ErrNotFound = errors.New("does not exist")

// ErrUnreadable is what Read returns, wrapped, when a routing object does not say how traffic is split between the two
// sides of the Canary.
var ErrUnreadable = errors.New("does not split traffic between primary and canary")

// MustGet is Live.Get for an object that Read needs.
func MustGet(live Live, ref Ref) (*unstructured.Unstructured, error) {
	o, err := live.Get(ref)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", ref, err)
	case o == nil:
		return nil, fmt.Errorf("%s %w", ref, ErrNotFound)
	}
	return o, nil
}

// Split returns the traffic of two weights that were read from an object. Both 0 is an error, and so is any pair that is
// not made of percents.
func Split(ref Ref, primary, canary int64) (Traffic, error) {
	if primary < 0 || canary < 0 || primary+canary != 100 {
		return Traffic{}, fmt.Errorf("%s %w: the weights are %d and %d", ref, ErrUnreadable, primary, canary)
	}
	return Traffic{Primary: int32(primary), Canary: int32(canary)}, nil
}

// ServiceWeights adds up, by the value of the field nameField, the weights in a list of backends. A missing weight is 0.
func ServiceWeights(backends []any, nameField string) map[string]int64 {
	weights := map[string]int64{}
	for _, item := range backends {
		backend, ok := item.(map[string]any)
		if !ok {
			continue
		}
		name, ok := backend[nameField].(string)
		if !ok {
			continue
		}
		weights[name] += Integer(backend["weight"])
	}
	return weights
}

// Integer reads a whole number from unstructured content, 0 if it is none.
func Integer(value any) int64 {
	switch n := value.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	default:
		return 0
	}
}
