// Package docs holds the documentation, and tests that keep it true.
package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// entries are the numbers that docs/guarantees.md has a line for.
func entries() []string {
	var all []string
	for _, group := range []struct {
		format string
		last   int
	}{{"A-%02d", 24}, {"B-%02d", 34}, {"C-%02d", 14}, {"D-%02d", 6}, {"Incident B%d", 25}} {
		for n := 1; n <= group.last; n++ {
			all = append(all, fmt.Sprintf(group.format, n))
		}
	}
	return all
}

// testsBelow lists the tests of the repository as directory.Test.
func testsBelow(t *testing.T, roots ...string) map[string]bool {
	t.Helper()
	tests, name := map[string]bool{}, regexp.MustCompile(`^(Test|Fuzz)`)
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			// Of files in this folder the path has no folder.
			absolute, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && name.MatchString(f.Name.Name) {
					tests[filepath.Base(filepath.Dir(absolute))+"."+f.Name.Name] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tests
}

// proofs demands that each test that a cell names exists, and that it names one.
func proofs(t *testing.T, tests map[string]bool, entry, cell string) {
	t.Helper()
	named := regexp.MustCompile("`([a-z0-9]+\\.(?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(cell, -1)
	if len(named) == 0 {
		t.Errorf("%s names no test", entry)
	}
	for _, n := range named {
		if !tests[n[1]] {
			t.Errorf("%s names %s, which does not exist", entry, n[1])
		}
	}
}

// TestWaits holds the table of waits to the same.
func TestWaits(t *testing.T) {
	page, err := os.ReadFile("guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## What ends each wait\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| ([A-Z].+\.) \| ([A-Z].+\.) \| (.+) \|$`).FindAllStringSubmatch(section, -1)
	if !found || len(rows) == 0 || len(rows) != strings.Count(section, "\n| ")-1 {
		t.Fatalf("%d rows of sentences in a table of %d", len(rows), strings.Count(section, "\n| ")-1)
	}
	tests := testsBelow(t, "../pkg", "../cmd", "../test")
	for _, row := range rows {
		proofs(t, tests, row[1], row[3])
	}
}

// TestGuarantees fails when the page misses an entry, has one twice, or names a test that does not exist.
func TestGuarantees(t *testing.T) {
	page, err := os.ReadFile("guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsBelow(t, "../pkg", "../cmd", "../test")
	row := regexp.MustCompile(`(?m)^\| ([A-D]-\d\d|Incident B\d+) \| (.+) \| (.+) \|$`)
	seen := map[string]int{}
	for _, r := range row.FindAllStringSubmatch(string(page), -1) {
		entry, sentence, cell := r[1], r[2], r[3]
		seen[entry]++
		if !strings.HasSuffix(sentence, ".") {
			t.Errorf("%s: %q is no sentence", entry, sentence)
		}
		proofs(t, tests, entry, cell)
	}
	for _, entry := range entries() {
		if seen[entry] != 1 {
			t.Errorf("%s has %d lines", entry, seen[entry])
		}
	}
}

// TestNamedTestsExist fails when any row names a test that does not exist, whatever its table.
func TestNamedTestsExist(t *testing.T) {
	page, err := os.ReadFile("guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsBelow(t, ".", "../pkg", "../cmd", "../test", "../hack")
	for _, cells := range regexp.MustCompile(`(?m)^\|.* \| (`+"`"+`[^|]+) \|$`).FindAllStringSubmatch(string(page), -1) {
		proofs(t, tests, cells[0], cells[1])
	}
}
