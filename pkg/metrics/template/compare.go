package template

import (
	"errors"
	"fmt"
	"reflect"
)

var errBadComparison = errors.New("invalid type for comparison")

// basic is whether values of this type compare with each other.
func basic(value any) bool {
	switch value.(type) {
	case bool, int, uint8, float64, complex128, string:
		return true
	default:
		return false
	}
}

// integers are both values if they are int or uint8, which compare with each other.
func integers(a, b any) (x, y int, ok bool) {
	x, okA := integer(a)
	y, okB := integer(b)
	return x, y, okA && okB
}

func integer(value any) (int, bool) {
	switch v := value.(type) {
	case int:
		return v, true
	case uint8:
		return int(v), true
	default:
		return 0, false
	}
}

func sameType(a, b any) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b)
}

func incompatible(a, b any) error {
	return fmt.Errorf("incompatible types for comparison: %T and %T", a, b)
}

// equal is whether the first value is one of the others.
func equal(value any, others ...any) (bool, error) {
	if len(others) == 0 {
		return false, errors.New("missing argument for comparison")
	}
	for _, other := range others {
		if same, err := equalTo(value, other); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

func equalTo(a, b any) (bool, error) {
	if x, y, ok := integers(a, b); ok {
		return x == y, nil
	}
	switch {
	case basic(a) != basic(b):
		if a == nil || b == nil {
			return false, nil
		}
		return false, incompatible(a, b)
	case basic(a):
		if !sameType(a, b) {
			return false, incompatible(a, b)
		}
		return a == b, nil
	case isNil(a) || isNil(b):
		return isNil(a) == isNil(b), nil
	default:
		return false, fmt.Errorf("non-comparable type %s: %T", b, b)
	}
}

func isNil(value any) bool {
	m, ok := value.(map[string]string)
	return value == nil || ok && m == nil
}

func less(a, b any) (bool, error) {
	if !basic(a) || !basic(b) {
		return false, errBadComparison
	}
	if x, y, ok := integers(a, b); ok {
		return x < y, nil
	}
	if !sameType(a, b) {
		return false, incompatible(a, b)
	}
	switch x := a.(type) {
	case float64:
		return x < b.(float64), nil
	case string:
		return x < b.(string), nil
	default:
		return false, errBadComparison
	}
}

func lessOrEqual(a, b any) (bool, error) {
	if before, err := less(a, b); before || err != nil {
		return before, err
	}
	return equal(a, b)
}
