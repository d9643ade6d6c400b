package router

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Fields returns the JSON form of a value as unstructured content: whole numbers are int64.
func Fields(value any) (map[string]any, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", value, err)
	}
	fields := map[string]any{}
	if err := utiljson.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("%T: %w", value, err)
	}
	return fields, nil
}

// Decode fills a typed object from unstructured content by way of its JSON form.
func Decode(fields map[string]any, into any) error {
	raw, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// Unmanaged returns what a user has added to the first item of a list: its fields but for ours. A list is wanted as a whole, so
// that this has to be wanted along with it. It is empty where the live object, which may be nil, has no such item.
func Unmanaged(live *unstructured.Unstructured, list []string, ours ...string) map[string]any {
	users := map[string]any{}
	if live == nil {
		return users
	}
	items, _, err := unstructured.NestedFieldNoCopy(live.Object, list...)
	if all, ok := items.([]any); err == nil && ok && len(all) > 0 {
		first, _ := all[0].(map[string]any) //nolint:errcheck // what is no object has no fields
		for name, value := range first {
			if !slices.Contains(ours, name) {
				users[name] = runtime.DeepCopyJSONValue(value)
			}
		}
	}
	return users
}
