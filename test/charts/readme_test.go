package charts

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// value is one that values.yaml explains.
type value struct {
	path, meaning string
	standard      any
}

// valuesIn are the values of a chart in their order. Each leaf has a comment that begins with "--", or is part of something that has.
func valuesIn(t *testing.T, chart string) []value {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(chartFolder, chart, "values.yaml"))), &document); err != nil {
		t.Fatal(err)
	}
	var all []value
	var walk func(prefix string, node *yaml.Node)
	walk = func(prefix string, node *yaml.Node) {
		for i := 0; i < len(node.Content); i += 2 {
			key, content := node.Content[i], node.Content[i+1]
			path := prefix + key.Value
			_, comment, ok := strings.Cut(key.HeadComment, "# -- ")
			if !ok {
				if content.Kind != yaml.MappingNode || len(content.Content) == 0 {
					t.Errorf("chart %s: value %s is not explained", chart, path)
				}
				walk(path+".", content)
				continue
			}
			v := value{path: path, meaning: strings.Join(strings.Fields(strings.ReplaceAll(comment, "\n#", "\n")), " ")}
			if err := content.Decode(&v.standard); err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
		}
	}
	walk("", document.Content[0])
	return all
}

// readme is the documentation of a chart.
func readme(t *testing.T, chart string) string {
	t.Helper()
	head := readFile(t, filepath.Join("testdata", "readme", chart+".md"))
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\n## Values\n\nWritten by `go -C test/charts test -run TestReadmes -update` from values.yaml. A name that is not here is refused.\n\n")
	b.WriteString("| Value | Default | Meaning |\n|---|---|---|\n")
	for _, v := range valuesIn(t, chart) {
		standard, err := json.Marshal(v.standard)
		if err != nil {
			t.Fatal(err)
		}
		cell := strings.ReplaceAll(string(standard), "|", "\\|")
		if len(cell) > 100 {
			cell = "see values.yaml"
		} else {
			cell = "`" + cell + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.path, cell, strings.ReplaceAll(v.meaning, "|", "\\|"))
	}
	return b.String()
}

func TestReadmes(t *testing.T) {
	for chart := range sets {
		golden(t, filepath.Join(chartFolder, chart, "README.md"), readme(t, chart))
	}
}
