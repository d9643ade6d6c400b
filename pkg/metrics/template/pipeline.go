package template

import (
	"strings"
	"text/template/parse"
)

// missing is the final argument of the first command of a pipeline, which has no other in front of it. That is not nil.
type missing struct{}

func isMissing(value any) bool {
	_, ok := value.(missing)
	return ok
}

// pipeline evaluates commands, of which each gets the value of the one before as its final argument, and declares the variables in front
// of them.
func (s *state) pipeline(dot any, pipe *parse.PipeNode) (value any, err error) {
	if pipe == nil {
		return nil, nil
	}
	s.at(pipe)
	value = missing{}
	for _, command := range pipe.Cmds {
		if err := s.spend(1 + len(command.Args)); err != nil {
			return nil, err
		}
		if value, err = s.command(dot, command, value); err != nil {
			return nil, err
		}
	}
	for _, declared := range pipe.Decl {
		if !pipe.IsAssign {
			s.declare(declared.Ident[0], value)
			continue
		}
		if err := s.assign(declared.Ident[0], value); err != nil {
			return nil, err
		}
	}
	return value, nil
}

func (s *state) command(dot any, command *parse.CommandNode, final any) (any, error) {
	first, hasArgs := command.Args[0], len(command.Args) > 1 || !isMissing(final)
	switch n := first.(type) {
	case *parse.FieldNode:
		s.at(n)
		return s.fields(dot, n.Ident, hasArgs)
	case *parse.ChainNode:
		return s.chain(dot, n, hasArgs)
	case *parse.VariableNode:
		return s.variable(n, hasArgs)
	case *parse.IdentifierNode:
		s.at(n)
		return s.call(dot, invocation{n.Ident, command, command.Args[1:], final})
	case *parse.PipeNode:
		if hasArgs {
			return nil, s.notAFunction(first)
		}
		return s.pipeline(dot, n)
	}
	s.at(first)
	if hasArgs {
		return nil, s.notAFunction(first)
	}
	switch first.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.NilNode:
		return nil, s.errorf("nil is not a command")
	default:
		return s.constant(first)
	}
}

func (s *state) notAFunction(node parse.Node) error {
	return s.errorf("can't give argument to non-function %s", node)
}

// constant is the value of a number, text or bool where nothing tells which type it should have.
func (s *state) constant(node parse.Node) (any, error) {
	switch n := node.(type) {
	case *parse.BoolNode:
		return n.True, nil
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		return s.number(n)
	default:
		return nil, s.errorf("can't evaluate command %q", node)
	}
}

// number takes the type of a number from how it is written: there is no unsigned one.
func (s *state) number(n *parse.NumberNode) (any, error) {
	hex := strings.HasPrefix(strings.ToLower(n.Text), "0x") && !strings.ContainsAny(n.Text, "pP")
	char := strings.HasPrefix(n.Text, "'")
	switch {
	case n.IsComplex:
		return n.Complex128, nil
	case n.IsFloat && !hex && !char && strings.ContainsAny(n.Text, ".eEpP"):
		return n.Float64, nil
	case n.IsInt && int64(int(n.Int64)) == n.Int64:
		return int(n.Int64), nil
	default:
		return nil, s.errorf("%s overflows int", n.Text)
	}
}

// chain evaluates fields of what is in parentheses, or of what a function returns.
func (s *state) chain(dot any, n *parse.ChainNode, hasArgs bool) (any, error) {
	s.at(n)
	receiver, err := s.argument(dot, n.Node, false)
	if err != nil {
		return nil, err
	}
	return s.fields(receiver, n.Field, hasArgs)
}

func (s *state) variable(n *parse.VariableNode, hasArgs bool) (any, error) {
	s.at(n)
	v, err := s.lookUp(n.Ident[0])
	switch {
	case err != nil:
		return nil, err
	case len(n.Ident) > 1:
		return s.fields(v.value, n.Ident[1:], hasArgs)
	case hasArgs:
		return nil, s.notAFunction(n)
	}
	return v.value, nil
}

// fields looks up keys, one in what the other gave. Only the last of them could be given arguments, if it were a method.
func (s *state) fields(receiver any, names []string, hasArgs bool) (any, error) {
	for i, name := range names {
		if receiver == nil {
			return nil, s.errorf("nil data; no entry for key %q", name)
		}
		m, ok := receiver.(map[string]string)
		if !ok {
			return nil, s.errorf("can't evaluate field %s in type %T", name, receiver)
		}
		if hasArgs && i == len(names)-1 {
			return nil, s.errorf("%s is not a method but has arguments", name)
		}
		text, ok := m[name]
		if !ok {
			return nil, s.errorf("map has no entry for key %q", name)
		}
		receiver = text
	}
	return receiver, nil
}

// invocation is a call of a function in a template.
type invocation struct {
	name  string
	node  parse.Node
	args  []parse.Node
	final any
}

// given is how many arguments there are, with the one from the pipeline.
func (c invocation) given() int {
	if isMissing(c.final) {
		return len(c.args)
	}
	return len(c.args) + 1
}

func (s *state) call(dot any, c invocation) (any, error) {
	f := s.funcs[c.name]
	switch given := c.given(); {
	case f.variadic && given < f.params:
		return nil, s.errorf("wrong number of args for %s: want at least %d got %d", c.name, f.params, len(c.args))
	case !f.variadic && given != f.params:
		return nil, s.errorf("wrong number of args for %s: want %d got %d", c.name, f.params, given)
	}
	args := make([]any, 0, c.given()+1)
	if f.named {
		args = append(args, c.firstSource())
	}
	for i, node := range c.args {
		arg, err := s.argument(dot, node, i < f.texts)
		if err != nil || f.decides != nil && f.decides(arg) {
			return arg, err
		}
		args = append(args, arg)
	}
	if !isMissing(c.final) {
		if err := s.check(c.final, len(c.args) < f.texts); err != nil {
			return nil, err
		}
		args = append(args, c.final)
	}
	value, err := f.call(args)
	if err != nil {
		s.at(c.node)
		return nil, s.errorf("error calling %s: %w", c.name, err)
	}
	return value, nil
}

// argument evaluates an argument, which for some parameters has to be a text.
func (s *state) argument(dot any, node parse.Node, text bool) (value any, err error) {
	s.at(node)
	switch n := node.(type) {
	case *parse.DotNode:
		value = dot
	case *parse.NilNode:
		if text {
			return nil, s.errorf("cannot assign nil to string")
		}
	case *parse.FieldNode:
		value, err = s.fields(dot, n.Ident, false)
	case *parse.VariableNode:
		value, err = s.variable(n, false)
	case *parse.PipeNode:
		value, err = s.pipeline(dot, n)
	case *parse.IdentifierNode:
		value, err = s.call(dot, invocation{n.Ident, n, nil, missing{}})
	case *parse.ChainNode:
		value, err = s.chain(dot, n, false)
	default:
		if text && node.Type() != parse.NodeString {
			return nil, s.errorf("expected string; found %s", node)
		}
		value, err = s.constant(node)
	}
	if err != nil {
		return nil, err
	}
	return value, s.check(value, text)
}

// check refuses what is no text if it has to be one.
func (s *state) check(value any, text bool) error {
	if _, ok := value.(string); ok || !text {
		return nil
	}
	if value == nil {
		return s.errorf("invalid value; expected string")
	}
	return s.errorf("wrong type for value; expected string; got %T", value)
}
