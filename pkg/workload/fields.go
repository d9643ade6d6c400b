package workload

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The readers below share what they return with the object: a cached object must not be changed, and copying whole
// templates on each look would be most of the cost of a pass.

// valueAt is nil where there is none. Unlike unstructured.NestedFieldNoCopy it says nothing of what is in the way, and so takes no memory.
func valueAt(obj map[string]any, path ...string) any {
	var value any = obj
	for _, field := range path {
		fields, _ := value.(map[string]any)
		value = fields[field]
	}
	return value
}

// annotationAt is empty where there is none.
func annotationAt(u *unstructured.Unstructured, name string) string {
	return stringAt(u.Object, "metadata", "annotations", name)
}

func mapAt(obj map[string]any, path ...string) map[string]any {
	m, _ := valueAt(obj, path...).(map[string]any)
	return m
}

func listAt(obj map[string]any, path ...string) []any {
	l, _ := valueAt(obj, path...).([]any)
	return l
}

func stringAt(obj map[string]any, path ...string) string {
	s, _ := valueAt(obj, path...).(string)
	return s
}

// intAt returns a number, or the fallback where there is none. Numbers are float64 in objects that did not come from the
// API machinery's decoder.
func intAt(obj map[string]any, fallback int64, path ...string) int64 {
	switch n := valueAt(obj, path...).(type) {
	case int64:
		return n
	case int32:
		return int64(n)
	case int:
		return int64(n)
	case float64:
		return int64(n)
	}
	return fallback
}

// withoutNulls returns a copy of the value, which shares nothing with it, without the fields that are null. Older API servers
// spell out metadata.creationTimestamp: null in a template and newer ones do not, which must not make it another template.
func withoutNulls(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, field := range v {
			if field != nil {
				out[key] = withoutNulls(field)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withoutNulls(v[i])
		}
		return out
	}
	return value
}

// boolAt is false where there is none.
func boolAt(obj map[string]any, path ...string) bool {
	b, _ := valueAt(obj, path...).(bool)
	return b
}
