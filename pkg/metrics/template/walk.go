package template

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"text/template/parse"
)

// maxDepth is how many templates may call each other at a time, as in text/template. It is for those with a larger budget than needs be.
const maxDepth = 100_000

// state is a template that is being executed. Functions here keep the order in which text/template looks at nodes: the last of them is
// the place that an error names.
type state struct {
	*rendering
	tree  *parse.Tree
	node  parse.Node
	vars  []variable
	depth int
}

type variable struct {
	name  string
	value any
}

// flow is how the execution goes on after a node.
type flow int

const (
	onward flow = iota
	broken
	continued
)

// execute runs a template, which sees none of the variables of its caller.
func (r *rendering) execute(tree *parse.Tree, dot any, depth int) error {
	s := &state{rendering: r, tree: tree, vars: []variable{{"$", dot}}, depth: depth}
	_, err := s.walk(dot, tree.Root)
	return err
}

func (s *state) at(node parse.Node) { s.node = node }

func (s *state) errorf(format string, args ...any) error {
	place, source := s.tree.ErrorContext(s.node)
	return fmt.Errorf("template: %s: executing %q at <%s>: %w", place, s.tree.Name, source, fmt.Errorf(format, args...))
}

func (s *state) walk(dot any, node parse.Node) (flow, error) {
	s.at(node)
	switch n := node.(type) {
	case *parse.ListNode:
		return s.walkList(dot, n)
	case *parse.TextNode:
		return onward, s.write(string(n.Text))
	case *parse.ActionNode:
		return onward, s.walkAction(dot, n)
	case *parse.IfNode:
		return s.walkBranch(dot, &n.BranchNode)
	case *parse.WithNode:
		return s.walkBranch(dot, &n.BranchNode)
	case *parse.RangeNode:
		return s.walkRange(dot, n)
	case *parse.TemplateNode:
		return onward, s.walkTemplate(dot, n)
	case *parse.BreakNode:
		return broken, nil
	case *parse.ContinueNode:
		return continued, nil
	default:
		return onward, s.errorf("unknown node: %s", node)
	}
}

func (s *state) walkList(dot any, list *parse.ListNode) (flow, error) {
	if err := s.spend(listCost + len(list.Nodes)); err != nil {
		return onward, err
	}
	for _, node := range list.Nodes {
		if f, err := s.walk(dot, node); f != onward || err != nil {
			return f, err
		}
	}
	return onward, nil
}

func (s *state) walkAction(dot any, n *parse.ActionNode) error {
	value, err := s.pipeline(dot, n.Pipe)
	switch text, isText := value.(string); {
	case err != nil:
		return err
	case len(n.Pipe.Decl) > 0:
		return nil
	case value == nil:
		return s.write(noValue)
	case isText:
		return s.write(text)
	default:
		return s.write(fmt.Sprint(value))
	}
}

func (s *state) walkBranch(dot any, n *parse.BranchNode) (flow, error) {
	defer s.pop(len(s.vars))
	value, err := s.pipeline(dot, n.Pipe)
	switch {
	case err != nil:
		return onward, err
	case truth(value) && n.NodeType == parse.NodeWith:
		return s.walk(value, n.List)
	case truth(value):
		return s.walk(dot, n.List)
	case n.ElseList != nil:
		return s.walk(dot, n.ElseList)
	}
	return onward, nil
}

func (s *state) walkRange(dot any, n *parse.RangeNode) (flow, error) {
	defer s.pop(len(s.vars))
	over, err := s.pipeline(dot, n.Pipe)
	if err != nil {
		return onward, err
	}
	turns, err := s.turns(n.Pipe, over)
	if err != nil {
		return onward, err
	}
	none := true
	for index, element := range turns {
		none = false
		if f, err := s.turn(n, index, element); f == broken || err != nil {
			return onward, err
		}
	}
	if !none || n.ElseList == nil {
		return onward, nil
	}
	f, err := s.walk(dot, n.ElseList)
	if f == broken {
		// It was meant for the loop around this one, but text/template lets it end here.
		f = onward
	}
	return f, err
}

// turns are the indexes and elements that a loop goes through. Numbers have no indexes.
func (s *state) turns(pipe *parse.PipeNode, over any) (iter.Seq2[any, any], error) {
	switch v := over.(type) {
	case nil:
		return func(func(any, any) bool) {}, nil
	case map[string]string:
		// Sorting is for all keys, even if the loop is left at the first of them.
		if err := s.spend(len(v)); err != nil {
			return nil, err
		}
		return sorted(v), nil
	case int, uint8:
		if len(pipe.Decl) > 1 {
			return nil, s.errorf("can't use %v to iterate over more than one variable", v)
		}
		if n, ok := v.(uint8); ok {
			return upTo(n), nil
		}
		return upTo(v.(int)), nil
	default:
		return nil, s.errorf("range can't iterate over %v", v)
	}
}

func sorted(m map[string]string) iter.Seq2[any, any] {
	return func(yield func(any, any) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

func upTo[T int | uint8](n T) iter.Seq2[any, any] {
	return func(yield func(any, any) bool) {
		for i := T(0); i < n; i++ {
			if !yield(nil, i) {
				return
			}
		}
	}
}

func (s *state) turn(n *parse.RangeNode, index, element any) (flow, error) {
	defer s.pop(len(s.vars))
	// A single variable is the element.
	given := []any{index, element}[2-len(n.Pipe.Decl):]
	for i, declared := range n.Pipe.Decl {
		if !n.Pipe.IsAssign {
			// The pipeline of the loop has left them on top.
			s.vars[len(s.vars)-len(given)+i].value = given[i]
			continue
		}
		if err := s.assign(declared.Ident[0], given[i]); err != nil {
			return onward, err
		}
	}
	return s.walk(element, n.List)
}

func (s *state) walkTemplate(dot any, n *parse.TemplateNode) error {
	tree := s.trees[n.Name]
	if tree == nil {
		return s.errorf("template %q not defined", n.Name)
	}
	if s.depth == maxDepth {
		return s.errorf("exceeded maximum template depth (%v)", maxDepth)
	}
	dot, err := s.pipeline(dot, n.Pipe)
	if err != nil {
		return err
	}
	return s.execute(tree, dot, s.depth+1)
}

func (s *state) declare(name string, value any) {
	s.vars = append(s.vars, variable{name, value})
}

// pop forgets the variables that were declared since there were as many.
func (s *state) pop(count int) { s.vars = s.vars[:count] }

func (s *state) assign(name string, value any) error {
	v, err := s.lookUp(name)
	if err != nil {
		return err
	}
	v.value = value
	return nil
}

// lookUp finds a variable. The parser knows those of a branch in its else as well, where they were never declared.
func (s *state) lookUp(name string) (*variable, error) {
	for i := range slices.Backward(s.vars) {
		if s.vars[i].name == name {
			return &s.vars[i], nil
		}
	}
	return nil, s.errorf("undefined variable: %s", name)
}
