package fingerprint

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// canonical appends the canonical form of a decoded JSON value to out. Accepted are the types that unstructured objects and
// encoding/json use.
func canonical(out []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(out, "null"...), nil
	case bool:
		return strconv.AppendBool(out, v), nil
	case string:
		return canonicalString(out, v), nil
	case map[string]any:
		return canonicalObject(out, v)
	case []any:
		return canonicalArray(out, v)
	default:
		return canonicalNumber(out, v)
	}
}

func canonicalObject(out []byte, object map[string]any) ([]byte, error) {
	out = append(out, '{')
	first := true
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if object[name] == nil {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(canonicalString(out, name), ':')
		var err error
		if out, err = canonical(out, object[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return append(out, '}'), nil
}

func canonicalArray(out []byte, array []any) ([]byte, error) {
	out = append(out, '[')
	for i, item := range array {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = canonical(out, item); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(out, ']'), nil
}

func canonicalString(out []byte, s string) []byte {
	out = append(out, '"')
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r < ' ':
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = utf8.AppendRune(out, r)
		}
		s = s[size:]
	}
	return append(out, '"')
}

func canonicalNumber(out []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case int64:
		return strconv.AppendInt(out, v, 10), nil
	case int32:
		return strconv.AppendInt(out, int64(v), 10), nil
	case int:
		return strconv.AppendInt(out, int64(v), 10), nil
	case float64:
		return canonicalFloat(out, v)
	case json.Number:
		return canonicalLiteral(out, v.String())
	}
	return nil, fmt.Errorf("type %T does not occur in JSON", value)
}

func canonicalLiteral(out []byte, literal string) ([]byte, error) {
	if i, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return strconv.AppendInt(out, i, 10), nil
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(literal), 64)
	if err != nil {
		return nil, fmt.Errorf("number %q: %w", literal, err)
	}
	return canonicalFloat(out, f)
}

func canonicalFloat(out []byte, f float64) ([]byte, error) {
	// Above 2^53 not every integer is a double, so two different ones could become equal.
	const exact = 1 << 53
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, fmt.Errorf("number %v does not occur in JSON", f)
	case f == math.Trunc(f) && math.Abs(f) < exact:
		return strconv.AppendInt(out, int64(f), 10), nil
	}
	return strconv.AppendFloat(out, f, 'g', -1, 64), nil
}
