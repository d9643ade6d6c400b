package metrics

import (
	"text/template"
	"text/template/parse"
)

// bounded refuses what could make the execution of a template endless, such as {{ range 1000000000000 }}. Whoever may
// write a MetricTemplate could otherwise keep the operator busy for all Canaries.
func bounded(t *template.Template) error {
	if len(t.Templates()) > 1 {
		return errUnbounded
	}
	if t.Tree == nil || t.Root == nil {
		return nil
	}
	return boundedList(t.Root)
}

func boundedList(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		if err := boundedNode(node); err != nil {
			return err
		}
	}
	return nil
}

func boundedNode(node parse.Node) error {
	var branch *parse.BranchNode
	switch n := node.(type) {
	case *parse.RangeNode, *parse.TemplateNode:
		return errUnbounded
	case *parse.IfNode:
		branch = &n.BranchNode
	case *parse.WithNode:
		branch = &n.BranchNode
	default:
		return nil
	}
	if err := boundedList(branch.List); err != nil {
		return err
	}
	return boundedList(branch.ElseList)
}
