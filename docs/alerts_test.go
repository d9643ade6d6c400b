package docs

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/notify"
)

// The page has a section with a manifest for every type of receiver, and none for what is no type.
func TestAlerts(t *testing.T) {
	page, err := os.ReadFile("alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, section := range regexp.MustCompile("(?ms)^## (.+?)\n\n```yaml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		described = append(described, section[1])
		var p v1beta1.AlertProvider
		if err := yaml.UnmarshalStrict([]byte(section[2]), &p); err != nil || p.Spec.Type != section[1] {
			t.Errorf("section %s shows type %s, %v", section[1], p.Spec.Type, err)
		}
	}
	slices.Sort(described)
	if types := notify.Types(); !slices.Equal(described, types) {
		t.Errorf("the page describes %q, there are %q", described, types)
	}
}
