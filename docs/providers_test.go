package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flagger.app/flagger/pkg/router/registry"
)

// The page has a section for every provider, and none for what is no provider.
func TestProviders(t *testing.T) {
	page, err := os.ReadFile("providers.md")
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, heading := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(string(page), -1) {
		// What goes for several providers has a sentence for a heading.
		if !strings.HasPrefix(heading[1], "A ") {
			described = append(described, strings.Split(heading[1], ", ")...)
		}
	}
	slices.Sort(described)
	if names := registry.New(registry.Config{}).Names(); !slices.Equal(described, names) {
		t.Errorf("the page describes %q, there are %q", described, names)
	}
}
