package metrics

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
)

// Whoever may write a MetricTemplate could keep the operator busy for all Canaries with a template that calls itself or counts to
// a trillion, or use up its memory with one that doubles a text again and again. So each rendering has a budget.

const (
	// budget is what one rendering may spend. It takes a fraction of a second to spend, and ten thousand turns of an empty loop.
	budget = 100_000
	// listCost is what it costs to begin with a block: each turn of a loop, each call of a template. Those are what nests, so it
	// bounds the stack as well.
	listCost = 10
	// bytesPerUnit is how much text a unit makes.
	bytesPerUnit = 64
	// bytesPerCall is how long the shortest call and argument of a pipeline is, each of which costs a unit.
	bytesPerCall = 2
	// spendFunction is called at the head of each block. Queries can't call it: they are parsed without it.
	spendFunction = "spend"
	// growth is the most by which the verbs of printf, html, js and urlquery lengthen a text.
	growth = 12
)

var errBudget = errors.New("the query takes too long to render: range over less, and let no template call itself without end")

// purse is the budget of one rendering.
type purse struct{ left int }

func (p *purse) spend(cost int) (string, error) {
	if p.left -= cost; p.left < 0 {
		return "", errBudget
	}
	return "", nil
}

// metered makes a parsed template pay for what it does from here on.
func metered(t *template.Template) (*template.Template, error) {
	p := &purse{left: budget}
	t.Funcs(template.FuncMap{spendFunction: p.spend})
	for _, defined := range t.Templates() {
		if defined.Tree == nil {
			continue
		}
		if err := meterList(defined.Root); err != nil {
			return nil, err
		}
	}
	return t.Funcs(p.texts()), nil
}

func meterList(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	cost := listCost + len(list.Nodes)
	for _, node := range list.Nodes {
		var branch *parse.BranchNode
		switch n := node.(type) {
		case *parse.ActionNode:
			cost += len(n.Pipe.String()) / bytesPerCall
			continue
		case *parse.TemplateNode:
			cost += len(n.String()) / bytesPerCall
			continue
		case *parse.RangeNode:
			branch = &n.BranchNode
		case *parse.IfNode:
			branch = &n.BranchNode
		case *parse.WithNode:
			branch = &n.BranchNode
		default:
			continue
		}
		cost += len(branch.Pipe.String()) / bytesPerCall
		if err := meterList(branch.List); err != nil {
			return err
		}
		if err := meterList(branch.ElseList); err != nil {
			return err
		}
	}
	call := fmt.Sprintf("{{ %s %d }}", spendFunction, cost)
	toll, err := template.New(spendFunction).Funcs(template.FuncMap{spendFunction: (*purse)(nil).spend}).Parse(call)
	if err != nil {
		return err
	}
	list.Nodes = append([]parse.Node{toll.Root.Nodes[0]}, list.Nodes...)
	return nil
}

// texts are the functions of text/template that make texts, paid for before they are made.
func (p *purse) texts() template.FuncMap {
	of := func(text func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) {
			return p.paid(growth*sizes(args), func() string { return text(args...) })
		}
	}
	return template.FuncMap{
		"print": of(fmt.Sprint), "println": of(fmt.Sprintln),
		"html": of(template.HTMLEscaper), "js": of(template.JSEscaper), "urlquery": of(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			// Each verb may be about the longest of the args, and has a width of its own.
			verb := growth*sizes(args) + widest(format, args)
			return p.paid(len(format)+strings.Count(format, "%")*verb, func() string { return fmt.Sprintf(format, args...) })
		},
	}
}

// paid makes a text that is at most as long as size.
func (p *purse) paid(size int, text func() string) (string, error) {
	made := ""
	if size <= growth*maxQuery {
		if _, err := p.spend(1 + size/bytesPerUnit); err != nil {
			return "", err
		}
		made = text()
	}
	if size > growth*maxQuery || len(made) > maxQuery {
		return "", fmt.Errorf("the query makes a text longer than %d bytes", maxQuery)
	}
	return made, nil
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
			n += len(key) + len(text) + 2
		}
		return n
	default:
		if v := reflect.ValueOf(value); v.Kind() == reflect.String {
			return v.Len()
		}
		// Numbers and the like.
		return 64
	}
}

// widest is the largest width or precision that a format asks for, in itself or by an argument.
func widest(format string, args []any) int {
	most, n := 0, 0
	for _, c := range format {
		if c < '0' || c > '9' {
			n = 0
			continue
		}
		n = min(n*10+int(c-'0'), maxQuery*growth)
		most = max(most, n)
	}
	if strings.Contains(format, "*") {
		for _, arg := range args {
			if v := reflect.ValueOf(arg); v.CanInt() {
				n := v.Int()
				most = max(most, int(min(max(n, -n), maxQuery*growth)))
			}
		}
	}
	return most
}
