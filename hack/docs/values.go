package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const valuesHead = `# Values of the charts

<!-- Generated from the READMEs of the charts by go run ./hack/docs. Do not edit. -->

[install.md](../install.md#helm) says which of them most installations set. A name that is not here is refused.
`

// valuesPage collects the tables that the charts have in their READMEs, which come from the comments in their values.yaml.
func valuesPage(charts string) (string, error) {
	files, err := filepath.Glob(filepath.Join(charts, "*", "README.md"))
	if err != nil {
		return "", err
	}
	var page strings.Builder
	page.WriteString(valuesHead)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		_, section, found := strings.Cut(string(raw), "\n## Values\n")
		_, table, begun := strings.Cut(section, "\n| ")
		table, _, _ = strings.Cut(table, "\n\n")
		if !found || !begun {
			return "", fmt.Errorf("%s has no table in a section Values", file)
		}
		fmt.Fprintf(&page, "\n## %s\n\n| %s\n", filepath.Base(filepath.Dir(file)), strings.TrimSpace(table))
	}
	return page.String(), nil
}
