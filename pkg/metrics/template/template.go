// Package template renders the queries of metrics, which are written in the language of text/template.
//
// The parser is that of text/template, the evaluator is not: text/template calls methods by names that only show when it runs, so a
// program with it keeps every exported method of every type, which was a fifth of the operator. The values of a query have no methods:
// they are nil, bool, int, uint8 (a byte of a text), float64, complex128, string and map[string]string. For those, this package gives
// the same texts and the same errors as text/template does with missingkey=error.
//
// Whoever may write a MetricTemplate could keep the operator busy for all Canaries with a template that calls itself or counts to a
// trillion, or use up its memory with one that doubles a text again and again. So each rendering has a budget as well.
package template

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"text/template/parse"
)

// queryName is what errors call a text, but for the templates that it defines.
const queryName = "query"

// Limits are what one rendering may use.
type Limits struct {
	// Budget is how much it may do. A unit is about a node of the template or an argument of a function, or 64 bytes of a text that
	// a function makes.
	Budget int
	// Size is the most, in bytes, that the template may have, the text rendered from it, and each text on the way. The parser needs
	// more than a kilobyte of stack for a nested {{ if }} of eight bytes.
	Size int
}

// Func is a function that templates may call.
type Func struct {
	// params is how many arguments it takes, or takes at least if it is variadic.
	params   int
	variadic bool
	// texts is how many of its first arguments have to be texts.
	texts int
	// decides is set for functions that leave the rest of their arguments alone after one of which it is true, and return that one.
	decides func(arg any) bool
	// named is whether it gets the source of its first argument in front of the arguments.
	named bool
	call  func(args []any) (any, error)
}

// Value is a function without arguments that returns a value.
func Value[T bool | string | map[string]string](value T) Func {
	return exactly(0, func([]any) (any, error) { return value, nil })
}

// OfText is a function of one text.
func OfText(f func(string) string) Func {
	return Func{params: 1, texts: 1, call: func(args []any) (any, error) { return f(args[0].(string)), nil }}
}

func exactly(params int, call func(args []any) (any, error)) Func {
	return Func{params: params, call: call}
}

func atLeast(params int, call func(args []any) (any, error)) Func {
	return Func{params: params, variadic: true, call: call}
}

// rendering is what the templates of one text share.
type rendering struct {
	purse
	trees map[string]*parse.Tree
	funcs map[string]Func
	out   strings.Builder
}

// Render executes a text as a template, which may call these functions and those that are built into text/template.
func Render(text string, funcs map[string]Func, limits Limits) (string, error) {
	r := &rendering{purse: purse{left: limits.Budget, size: limits.Size}}
	if len(text) > r.size {
		return "", r.tooLong()
	}
	r.funcs = builtins(&r.purse)
	maps.Copy(r.funcs, funcs)
	known := make(map[string]any, len(r.funcs))
	for name, f := range r.funcs {
		known[name] = f
	}
	var err error
	if r.trees, err = parse.Parse(queryName, text, "", "", known); err != nil {
		return "", err
	}
	switch err := r.execute(r.trees[queryName], nil, 0); {
	case errors.Is(err, errBudget):
		return "", errBudget
	case err != nil:
		return "", err
	}
	return r.out.String(), nil
}

func (r *rendering) write(text string) error {
	if r.out.Len()+len(text) > r.size {
		return r.tooLong()
	}
	r.out.WriteString(text)
	return nil
}

func (r *rendering) tooLong() error {
	return fmt.Errorf("the query is longer than %d bytes", r.size)
}
