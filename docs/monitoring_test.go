package docs

import (
	"bytes"
	"encoding/json"
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

// Each dashboard has a picture, small enough to be read on the way, of a recording that has answers to all that it asks today.
func TestPictures(t *testing.T) {
	page, err := os.ReadFile("dashboards.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := dashboards.Read("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range all {
		raw, err := os.ReadFile("../hack/docs/recordings/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var recording dashboards.Recording
		if err := json.Unmarshal(raw, &recording); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				if _, asked := recording.Panels[panel.ID][target.RefID]; !asked {
					t.Errorf("%s: query %s of panel %d, %s, was not recorded: make recordings pictures", name, target.RefID, panel.ID, panel.Title)
				}
			}
		}
		file := "images/" + name + ".png"
		if info, err := os.Stat(file); err != nil {
			t.Error(err)
		} else if info.Size() > 120<<10 {
			t.Errorf("%s has %d bytes", file, info.Size())
		}
		if !bytes.Contains(page, []byte("\n## "+d.Title+"\n")) || !bytes.Contains(page, []byte("]("+file+")")) {
			t.Errorf("dashboards.md has no section %s with %s", d.Title, file)
		}
	}
}
