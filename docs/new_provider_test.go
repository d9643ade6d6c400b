package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/router/conformance"
)

// The code in docs/new-provider.md is that of a module which is not this one, and its tests run.
func TestNewProvider(t *testing.T) {
	raw, err := os.ReadFile("new-provider.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, file := range []string{"acme.go", "acme_test.go"} {
		source, err := os.ReadFile("../test/thirdparty/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page, "```go\n"+string(source)+"```\n") {
			t.Errorf("the page does not have test/thirdparty/%s as it is", file)
		}
	}
	var described []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-Z]\w+) \|`).FindAllStringSubmatch(page, -1) {
		described = append(described, row[1])
	}
	slices.Sort(described)
	if diff := cmp.Diff(conformance.CaseNames(), described); diff != "" {
		t.Errorf("cases of the kit (-there are +described):\n%s", diff)
	}
}
