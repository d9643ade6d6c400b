package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// TestManifestsApplyUnchanged sends the manifests that users have, from 2019 on, and all that the documentation shows, as kubectl
// apply does, which refuses fields that the API server does not know.
func TestManifestsApplyUnchanged(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	groups, err := restmapper.GetAPIGroupResources(t.kube.Discovery())
	t.must(err)
	served := restmapper.NewDiscoveryRESTMapper(groups)
	for _, pattern := range []string{
		"pkg/apis/flagger/v1beta1/testdata/accept/*.yaml", "README.md", "docs/*.md", "docs/metrics-backends/*.md",
		"docs/tutorials/*.md",
	} {
		files, err := filepath.Glob(filepath.Join(os.Getenv("ROOT"), pattern))
		t.must(err)
		applied := 0
		for _, file := range files {
			raw, err := os.ReadFile(file)
			t.must(err)
			for _, document := range documents(string(raw), filepath.Ext(file)) {
				if t.takes(served, filepath.Base(file), document) {
					applied++
				}
			}
		}
		if applied == 0 {
			t.Errorf("%s has no manifests", pattern)
		}
	}
}

// takes has the API server check a document of a file, and is false for one that is not meant for it.
func (t *team) takes(served meta.RESTMapper, file, document string) bool {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(document), &u.Object); err != nil {
		t.Errorf("%s: %v, in:\n%s", file, err, document)
		return false
	}
	gvk := u.GroupVersionKind()
	if gvk.Group == "kustomize.config.k8s.io" || gvk.Group == "argoproj.io" || strings.HasSuffix(gvk.Group, ".toolkit.fluxcd.io") {
		return false
	}
	// The manifests are written for other namespaces, which are not there.
	u.SetNamespace(t.ns)
	mapping, err := served.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) && slices.Contains(ofOthers(), gvk.Group) {
		return false
	}
	t.must(err)
	_, err = t.dynamic.Resource(mapping.Resource).Namespace(t.ns).Create(t.Context(), u,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Errorf("%s: %s %s %s: %v", file, gvk.GroupVersion(), gvk.Kind, u.GetName(), err)
	}
	return true
}

// ofOthers are the groups of meshes and gateways that need not be served here. What tutorials show of them is checked against their
// CRDs by the tests beside the documentation.
func ofOthers() []string {
	return []string{
		"apisix.apache.org", "gateway.networking.k8s.io", "gateway.solo.io", "keda.sh", "projectcontour.io", "serving.knative.dev", "traefik.io",
	}
}

// documents are those of a file of YAML, or the blocks of YAML on a page of the documentation.
func documents(text, extension string) []string {
	if extension == ".yaml" {
		return strings.Split(text, "\n---\n")
	}
	var found []string
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, documents(block[1], ".yaml")...)
	}
	return found
}
