package router

import (
	"encoding/json"
	"fmt"

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
