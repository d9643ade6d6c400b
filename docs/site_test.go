package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every page is in the navigation of the site, once, and in the table of contents that readers of the repository have.
func TestEveryPageIsInTheNavigation(t *testing.T) {
	config, err := os.ReadFile("../mkdocs.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, nav, found := strings.Cut(string(config), "\nnav:\n")
	if !found {
		t.Fatal("mkdocs.yml has no navigation")
	}
	var listed, existing []string
	for _, entry := range regexp.MustCompile(`(?m)^ *- (\S+\.md)$`).FindAllStringSubmatch(nav, -1) {
		listed = append(listed, entry[1])
	}
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			existing = append(existing, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(listed)
	slices.Sort(existing)
	if !slices.Equal(listed, existing) {
		t.Errorf("the navigation of mkdocs.yml has\n%q, there are\n%q", listed, existing)
	}
	for index, folder := range map[string]string{"README.md": ".", "tutorials/README.md": "tutorials", "metrics-backends/README.md": "metrics-backends"} {
		text, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range existing {
			if filepath.Dir(page) == folder && page != index && !strings.Contains(string(text), "]("+filepath.Base(page)+")") {
				t.Errorf("%s does not lead to %s", index, page)
			}
		}
	}
}
