package objects

// Equal compares what unstructured objects are made of, as reflect.DeepEqual does, without taking memory. Values that no decoder makes
// are not equal to anything.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && (a == nil) == (b == nil) && equalFields(a, b)
	case []any:
		b, ok := b.([]any)
		return ok && (a == nil) == (b == nil) && equalItems(a, b)
	case nil, bool, int64, float64, string:
		return a == b
	default:
		return false
	}
}

func equalFields(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || !Equal(value, other) {
			return false
		}
	}
	return true
}

func equalItems(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
