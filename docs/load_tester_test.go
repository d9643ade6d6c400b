package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/loadtester"
)

// The page describes every type of tasks and no other, and its Canaries are valid.
func TestLoadTester(t *testing.T) {
	page, err := os.ReadFile("load-tester.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\| Type \| Runs \| Answer \|\n(.*?)\n\n`).FindSubmatch(page)[1]
	var described []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllSubmatch(table, -1) {
		described = append(described, string(row[1]))
	}
	if types := loadtester.Types(); !slices.Equal(described, types) {
		t.Errorf("the page describes %q, there are %q", described, types)
	}
	canaries := regexp.MustCompile("(?s)```yaml\n(apiVersion: flagger.app/v1beta1\n.*?)```").FindAllSubmatch(page, -1)
	if len(canaries) != 2 {
		t.Errorf("%d Canaries", len(canaries))
	}
	for _, manifest := range canaries {
		c := &v1beta1.Canary{}
		if err := yaml.UnmarshalStrict(manifest[1], c); err != nil {
			t.Error(err)
		}
		if errs := v1beta1.Validate(c, v1beta1.ValidationOptions{}); len(errs) > 0 {
			t.Error(errs)
		}
	}
}

// TestLoadTesterGuarantees holds the table of guarantees to the same as the others.
func TestLoadTesterGuarantees(t *testing.T) {
	page, err := os.ReadFile("guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## The load tester\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| (\w+) \| [A-Z].+\. \| (.+) \|$`).FindAllStringSubmatch(section, -1)
	if len(rows) != 6 {
		t.Errorf("%d rows", len(rows))
	}
	tests := testsBelow(t, "../pkg", "../cmd", "../test")
	for _, row := range rows {
		proofs(t, tests, row[1], row[2])
	}
}
