package charts

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write testdata and the READMEs of the charts")

// golden compares a text with a file, or writes it.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(raw), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nrun this test with -update and review the result", file, diff)
	}
}

// text is objects as YAML, without our CRDs and dashboards, which stand elsewhere.
func text(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	var documents []string
	for _, u := range objects {
		if u.GetKind() == "CustomResourceDefinition" {
			continue
		}
		raw, err := yaml.Marshal(withoutDashboards(u).Object)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(raw))
	}
	return strings.Join(documents, "---\n")
}

func withoutDashboards(u *unstructured.Unstructured) *unstructured.Unstructured {
	data, _, _ := unstructured.NestedStringMap(u.Object, "data")
	if u.GetKind() != "ConfigMap" {
		return u
	}
	u = u.DeepCopy()
	for name := range data {
		if strings.HasSuffix(name, ".json") {
			_ = unstructured.SetNestedField(u.Object, "a dashboard", "data", name)
		}
	}
	return u
}
