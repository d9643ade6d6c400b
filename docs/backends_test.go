package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// Every back-end has a page with a template, whose query renders, and the index names it.
func TestMetricsBackends(t *testing.T) {
	index, err := os.ReadFile("metrics-backends/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, row := range regexp.MustCompile("(?m)^\\| \\[`(.+)`\\]\\((.+)\\.md\\)").FindAllStringSubmatch(string(index), -1) {
		if row[1] != row[2] {
			t.Errorf("%s leads to %s", row[1], row[2])
		}
		described = append(described, row[1])
	}
	slices.Sort(described)
	registry := metrics.NewRegistry(clock.RealClock{}, metrics.Cluster{})
	for name := range registry {
		page, err := os.ReadFile("metrics-backends/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		blocks := yamlBlock.FindAllStringSubmatch(string(page), -1)
		if !slices.Contains(described, name) || len(blocks) == 0 {
			t.Errorf("back-end %s is not in the index, or has no template", name)
		}
		for _, block := range blocks {
			checkTemplate(t, name, block[1])
		}
	}
	if len(described) != len(registry) {
		t.Errorf("the index has %q", described)
	}
}

func checkTemplate(t *testing.T, name, text string) {
	t.Helper()
	var template v1beta1.MetricTemplate
	if err := yaml.UnmarshalStrict([]byte(text), &template); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if template.Spec.Provider.Type != name {
		t.Errorf("the page of %s shows type %s", name, template.Spec.Provider.Type)
	}
	vars := metrics.Vars{Name: "podinfo", Namespace: "test", Target: "podinfo", Interval: "1m", Variables: map[string]string{"service": "SERVICE-1"}}
	query, err := metrics.Render(template.Spec.Query, vars)
	if err != nil || strings.Contains(query, "{{") {
		t.Errorf("%s: query %q, %v", name, query, err)
	}
}

// The page names the flags and keys that there are.
func TestSettingsOfPrometheus(t *testing.T) {
	page, err := os.ReadFile("metrics-backends/prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	flags, err := os.ReadFile("flags.md")
	if err != nil {
		t.Fatal(err)
	}
	of := regexp.MustCompile("(?m)^\\| `(-metrics-server[a-z-]*)` \\|")
	var described, existing []string
	for _, row := range of.FindAllStringSubmatch(string(page), -1) {
		described = append(described, row[1])
	}
	for _, row := range of.FindAllStringSubmatch(string(flags), -1) {
		existing = append(existing, row[1])
	}
	slices.Sort(described)
	slices.Sort(existing)
	if !slices.Equal(described, existing) {
		t.Errorf("the page has %q, flags.md has %q", described, existing)
	}
}
