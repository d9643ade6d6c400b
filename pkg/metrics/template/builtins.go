package template

import (
	"errors"
	"fmt"
	"html"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// noValue is how templates print nil.
const noValue = "<no value>"

// builtins are the functions of text/template.
func builtins(p *purse) map[string]Func {
	return map[string]Func{
		"and": lastUnless(func(arg any) bool { return !truth(arg) }),
		"or":  lastUnless(truth),
		"not": exactly(1, func(args []any) (any, error) { return !truth(args[0]), nil }),

		"eq": atLeast(1, func(args []any) (any, error) { return equal(args[0], args[1:]...) }),
		"ne": exactly(2, func(args []any) (any, error) { return not(equal(args[0], args[1])) }),
		"lt": exactly(2, func(args []any) (any, error) { return less(args[0], args[1]) }),
		"le": exactly(2, func(args []any) (any, error) { return lessOrEqual(args[0], args[1]) }),
		"gt": exactly(2, func(args []any) (any, error) { return not(lessOrEqual(args[0], args[1])) }),
		"ge": exactly(2, func(args []any) (any, error) { return not(less(args[0], args[1])) }),

		"index": atLeast(1, index),
		"slice": atLeast(1, slice),
		"len":   exactly(1, length),
		"call":  {params: 1, variadic: true, named: true, call: callValue},

		"print":    p.textOf(fmt.Sprint),
		"println":  p.textOf(fmt.Sprintln),
		"printf":   p.printf(),
		"html":     p.textOf(func(args ...any) string { return escapeHTML(joined(args)) }),
		"js":       p.textOf(func(args ...any) string { return escapeJS(joined(args)) }),
		"urlquery": p.textOf(func(args ...any) string { return url.QueryEscape(joined(args)) }),
	}
}

// lastUnless returns the first argument that decides, or the last.
func lastUnless(decides func(arg any) bool) Func {
	f := atLeast(1, func(args []any) (any, error) { return args[len(args)-1], nil })
	f.decides = decides
	return f
}

func not(truth bool, err error) (bool, error) { return !truth, err }

// truth is whether a value is not the zero of its type.
func truth(value any) bool {
	switch v := value.(type) {
	case map[string]string:
		return len(v) > 0
	case nil:
		return false
	default:
		return v != false && v != 0 && v != uint8(0) && v != 0.0 && v != 0i && v != ""
	}
}

// callValue calls what is no function: there are no others among the values of a query.
func callValue(args []any) (any, error) {
	if args[1] == nil {
		return nil, errors.New("call of nil")
	}
	return nil, fmt.Errorf("non-function %s of type %T", args[0], args[1])
}

// firstSource is how text/template names the function that call was to call.
func (c invocation) firstSource() string {
	if len(c.args) > 0 {
		return c.args[0].String()
	}
	switch v := c.final.(type) {
	case string:
		return v
	case nil:
		return "<invalid Value>"
	default:
		return fmt.Sprintf("<%T Value>", v)
	}
}

func length(args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return len(v), nil
	case map[string]string:
		return len(v), nil
	case nil:
		return nil, errors.New("reflect: call of reflect.Value.Type on zero Value")
	default:
		return nil, fmt.Errorf("len of type %T", v)
	}
}

func index(args []any) (any, error) {
	item := args[0]
	if item == nil {
		return nil, errors.New("index of untyped nil")
	}
	for _, by := range args[1:] {
		switch v := item.(type) {
		case string:
			i, err := position(by, len(v))
			if err != nil {
				return nil, err
			}
			if i == len(v) {
				return nil, errors.New("reflect: string index out of range")
			}
			item = v[i]
		case map[string]string:
			key, ok := by.(string)
			switch {
			case by == nil:
				return nil, errors.New("value is nil; should be of type string")
			case !ok:
				return nil, fmt.Errorf("value has type %T; should be string", by)
			}
			item = v[key]
		default:
			return nil, fmt.Errorf("can't index item of type %T", item)
		}
	}
	return item, nil
}

func slice(args []any) (any, error) {
	item, indexes := args[0], args[1:]
	text, ok := item.(string)
	switch {
	case item == nil:
		return nil, errors.New("slice of untyped nil")
	case len(indexes) > 3:
		return nil, fmt.Errorf("too many slice indexes: %d", len(indexes))
	case !ok:
		return nil, fmt.Errorf("can't slice item of type %T", item)
	case len(indexes) == 3:
		return nil, errors.New("cannot 3-index slice a string")
	}
	bounds := [2]int{0, len(text)}
	for i, by := range indexes {
		var err error
		if bounds[i], err = position(by, len(text)); err != nil {
			return nil, err
		}
	}
	if bounds[0] > bounds[1] {
		return nil, fmt.Errorf("invalid slice index: %d > %d", bounds[0], bounds[1])
	}
	return text[bounds[0]:bounds[1]], nil
}

// position is an index into a text, or just behind it.
func position(by any, length int) (int, error) {
	i := 0
	switch v := by.(type) {
	case int:
		i = v
	case uint8:
		i = int(v)
	case nil:
		return 0, errors.New("cannot index slice/array with nil")
	default:
		return 0, fmt.Errorf("cannot index slice/array with type %T", v)
	}
	if i < 0 || i > length {
		return 0, fmt.Errorf("index out of range: %d", i)
	}
	return i, nil
}

// joined are the arguments of an escaper as one text. Unlike print, it has nil as templates print it.
func joined(args []any) string {
	for i, arg := range args {
		if arg == nil {
			args[i] = noValue
		}
	}
	return fmt.Sprint(args...)
}

func escapeHTML(text string) string {
	return strings.ReplaceAll(html.EscapeString(text), "\x00", "\uFFFD")
}

func escapeJS(text string) string {
	var b strings.Builder
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		switch {
		case strings.ContainsRune(`\'"`, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ', strings.ContainsRune(`<>&=`, r), r >= utf8.RuneSelf && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			// As it was, even if it is no UTF-8.
			b.WriteString(text[i : i+size])
		}
	}
	return b.String()
}
