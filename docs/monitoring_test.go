package docs

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/test/dashboards"
)

// The page has a row for each dashboard, and none for what is no dashboard.
func TestMonitoring(t *testing.T) {
	page, err := os.ReadFile("monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)\n## Dashboards\n(.*?)\n## `).FindSubmatch(page)
	if section == nil {
		t.Fatal("no section about dashboards")
	}
	described := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllSubmatch(section[1], -1) {
		described[string(row[1])] = true
	}
	delete(described, "Dashboard")
	delete(described, "---")
	all, err := dashboards.Read("..")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, d := range all {
		there[d.Title] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(described))); diff != "" {
		t.Errorf("dashboards (-there +described):\n%s", diff)
	}
}
