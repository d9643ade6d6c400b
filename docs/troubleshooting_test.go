package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources parses the Go files below a directory, but for those of tests.
func sources(t *testing.T, root string) []*ast.File {
	t.Helper()
	var files []*ast.File
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var verb = regexp.MustCompile(`%[-+ #0-9.]*[a-zA-Z]`)

// literal is the text of a string, also of one that is put together with +, with … for what differs from case to case. It is false
// for what has no text of its own.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return strings.ReplaceAll(verb.ReplaceAllString(s, "…"), "%%", "%"), err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		x, okX := literal(e.X)
		y, okY := literal(e.Y)
		return x + y, e.Op == token.ADD && (okX || okY)
	}
	return "…", false
}

// reasons are all constants of type ProblemReason, which are the reasons of the condition Healthy.
func reasons(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, file := range sources(t, "../pkg") {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			name, isName := spec.Type.(*ast.Ident)
			qualified, isQualified := spec.Type.(*ast.SelectorExpr)
			if isName && name.Name == "ProblemReason" || isQualified && qualified.Sel.Name == "ProblemReason" {
				if reason, ok := literal(spec.Values[0]); ok {
					all = append(all, reason)
				}
			}
			return true
		})
	}
	return all
}

// texts are the strings in the source below a directory that want asks for, from the expressions that it is shown.
func texts(t *testing.T, root string, want func(ast.Node) (ast.Expr, bool)) []string {
	t.Helper()
	var all []string
	for _, file := range sources(t, root) {
		ast.Inspect(file, func(n ast.Node) bool {
			if e, ok := want(n); ok {
				if text, ok := literal(e); ok && text != "…" {
					all = append(all, text)
				}
			}
			return true
		})
	}
	return all
}

// event is the text of an event that the rules write out, if a node has one: what is told as such, and what a gate is waited for with.
func event(n ast.Node) (ast.Expr, bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		callee, ok := n.Fun.(*ast.SelectorExpr)
		if ok && len(n.Args) > 0 && slices.Contains([]string{"normal", "warning", "promote", "fellBack"}, callee.Sel.Name) {
			return n.Args[0], true
		}
	case *ast.AssignStmt:
		if text, ok := literal(n.Rhs[0]); ok && strings.HasPrefix(text, "Halt ") {
			return n.Rhs[0], true
		}
	}
	return nil, false
}

// rows are the texts in the first column of the tables of a section.
func rows(t *testing.T, page, section string) []string {
	t.Helper()
	_, text, found := strings.Cut(page, "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var all []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .+ \\|$").FindAllStringSubmatch(text, -1) {
		all = append(all, row[1])
	}
	if !found || len(all) == 0 {
		t.Fatalf("the page has no tables in a section %s", section)
	}
	return all
}

// The page explains every reason of the condition Healthy in a section of its own, and none that does not exist.
func TestReasonsAreExplained(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	for _, heading := range regexp.MustCompile(`(?m)^### ([A-Z][A-Za-z]+)$`).FindAllStringSubmatch(string(page), -1) {
		explained = append(explained, heading[1])
	}
	existing := reasons(t)
	if len(existing) < 20 {
		t.Fatalf("the code has %d reasons", len(existing))
	}
	slices.Sort(explained)
	slices.Sort(existing)
	if !slices.Equal(explained, existing) {
		t.Errorf("the page explains\n%q, there are\n%q", explained, existing)
	}
}

// The tables of events have every text that the rules write out, and no other.
func TestEventsAreExplained(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	explained, existing := rows(t, string(page), "Events"), texts(t, "../pkg/rollout", event)
	if len(existing) < 40 {
		t.Fatalf("the rules have %d texts", len(existing))
	}
	for _, text := range existing {
		if !slices.Contains(explained, text) {
			t.Errorf("no row explains %q", text)
		}
	}
	for _, text := range explained {
		if !slices.Contains(existing, text) {
			t.Errorf("the rules say nothing like %q", text)
		}
	}
}

// What the page says of checks, the analysis says.
func TestTextsOfChecksExist(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	existing := texts(t, "../pkg/analysis", func(n ast.Node) (ast.Expr, bool) {
		e, ok := n.(ast.Expr)
		return e, ok
	})
	for _, text := range rows(t, string(page), "Checks") {
		if !slices.Contains(existing, text) {
			t.Errorf("the analysis says nothing like %q", text)
		}
	}
}
