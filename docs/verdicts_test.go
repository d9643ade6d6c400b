package docs

import (
	"os"
	"regexp"
	"testing"

	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// The manifests of the page have only fields that exist, and say what can be done.
func TestManifestsOfVerdicts(t *testing.T) {
	page, err := os.ReadFile("verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) < 2 {
		t.Fatalf("%d manifests", len(blocks))
	}
	for _, block := range blocks {
		c := &v1beta1.Canary{}
		if err := yaml.UnmarshalStrict(block[1], c); err != nil {
			t.Errorf("%v in\n%s", err, block[1])
		}
		for _, err := range v1beta1.Validate(c, v1beta1.ValidationOptions{}) {
			t.Error(err)
		}
	}
}
