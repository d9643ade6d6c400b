package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestManifestsApplyUnchanged sends the manifests that users have, from 2019 on, as kubectl apply does, which refuses fields
// that the API server does not know.
func TestManifestsApplyUnchanged(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	files, err := filepath.Glob(filepath.Join(os.Getenv("ROOT"), "pkg/apis/flagger/v1beta1/testdata/accept/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	pages, err := filepath.Glob(filepath.Join(os.Getenv("ROOT"), "docs/metrics-backends/*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	resources := map[string]string{"Canary": "canaries", "MetricTemplate": "metrictemplates", "AlertProvider": "alertproviders"}
	pages = append(pages, filepath.Join(os.Getenv("ROOT"), "docs/alerts.md"))
	for _, file := range append(files, pages...) {
		raw, err := os.ReadFile(file)
		t.must(err)
		for _, document := range documents(string(raw), filepath.Ext(file)) {
			u := &unstructured.Unstructured{}
			t.must(yaml.Unmarshal([]byte(document), &u.Object))
			u.SetNamespace(t.ns)
			gvk := u.GroupVersionKind()
			resource := t.dynamic.Resource(gvk.GroupVersion().WithResource(resources[gvk.Kind])).Namespace(t.ns)
			_, err := resource.Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
			if err != nil {
				t.Errorf("%s: %s %s %s: %v", filepath.Base(file), gvk.Version, gvk.Kind, u.GetName(), err)
			}
		}
	}
}

// documents are those of a file of YAML, or the blocks of YAML on a page of the documentation.
func documents(text, extension string) []string {
	if extension == ".yaml" {
		return strings.Split(text, "\n---\n")
	}
	var found []string
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, block[1])
	}
	return found
}
