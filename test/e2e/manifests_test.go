package e2e

import (
	"os"
	"path/filepath"
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
	resources := map[string]string{"Canary": "canaries", "MetricTemplate": "metrictemplates", "AlertProvider": "alertproviders"}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		t.must(err)
		for _, document := range strings.Split(string(raw), "\n---\n") {
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
