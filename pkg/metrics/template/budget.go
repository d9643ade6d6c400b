package template

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// listCost is what it costs to begin with a block: each turn of a loop, each call of a template. Those are what nests, so it
	// bounds the stack as well.
	listCost = 10
	// bytesPerUnit is how much text a unit makes.
	bytesPerUnit = 64
	// growth is the most by which the verbs of printf, html, js and urlquery lengthen a text. It is about the length of what printf
	// says of a verb without an argument, too: %!d(MISSING).
	growth = 12
	// numberSize is enough for the text of a number: with growth, for the 309 digits of 1e308 twice, as a complex number has.
	numberSize = 64
)

var errBudget = errors.New("the query takes too long to render: range over less, and let no template call itself without end")

// purse is the budget of one rendering.
type purse struct{ left, size int }

func (p *purse) spend(cost int) error {
	if p.left -= cost; p.left < 0 {
		return errBudget
	}
	return nil
}

// paid makes a text that is at most as long as size. It asks for the money first, so that no text is made that is refused for its length.
func (p *purse) paid(size int, text func() string) (any, error) {
	made := ""
	if size <= growth*p.size {
		if err := p.spend(1 + size/bytesPerUnit); err != nil {
			return nil, err
		}
		made = text()
	}
	if size > growth*p.size || len(made) > p.size {
		return nil, fmt.Errorf("the query makes a text longer than %d bytes", p.size)
	}
	return made, nil
}

// textOf makes a text of any arguments, paid for before it is made.
func (p *purse) textOf(text func(args ...any) string) Func {
	return atLeast(0, func(args []any) (any, error) {
		return p.paid(growth*sizes(args), func() string { return text(args...) })
	})
}

func (p *purse) printf() Func {
	f := atLeast(1, func(args []any) (any, error) {
		format, args := args[0].(string), args[1:]
		// Each verb may be about the longest of the arguments, and has a width of its own, in which it writes each key of a map.
		// Arguments without a verb are written at the end.
		verb := growth*(1+sizes(args)) + p.widest(format, args)*mostParts(args)
		size := len(format) + strings.Count(format, "%")*verb + growth*sizes(args)
		return p.paid(size, func() string { return fmt.Sprintf(format, args...) })
	})
	f.texts = 1
	return f
}

func sizes(args []any) int {
	n := len(args)
	for _, arg := range args {
		n += sizeOf(arg)
	}
	return n
}

// sizeOf is the length of the text of a value, before any verb lengthens it.
func sizeOf(value any) int {
	switch v := value.(type) {
	case string:
		return len(v)
	case map[string]string:
		n := 0
		for key, text := range v {
			// A verb that is not for texts says so of both.
			n += len(key) + len(text) + 4
		}
		return n
	default:
		return numberSize
	}
}

// mostParts is in how many parts the argument with the most is printed, each of which is as wide as the format says.
func mostParts(args []any) int {
	most := 1
	for _, arg := range args {
		switch v := arg.(type) {
		case map[string]string:
			most = max(most, 2*len(v))
		case complex128:
			most = max(most, 2)
		}
	}
	return most
}

// widest is the largest width or precision that the verbs of a format ask for, in themselves or by an argument.
func (p *purse) widest(format string, args []any) int {
	most, n, verb := 0, 0, false
	for _, c := range format {
		switch {
		case c == '%':
			verb, n = true, 0
		case verb && '0' <= c && c <= '9':
			n = min(n*10+int(c-'0'), p.size*growth)
			most = max(most, n)
		default:
			verb, n = verb && strings.ContainsRune("+-# .*[]", c), 0
		}
	}
	if !strings.Contains(format, "*") {
		return most
	}
	for _, arg := range args {
		switch n := arg.(type) {
		case int:
			most = max(most, min(max(n, -n), p.size*growth))
		case uint8:
			most = max(most, int(n))
		}
	}
	return most
}
