package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

func readManifest(t *testing.T, parts ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDeploymentStartsTheOperator(t *testing.T) {
	var deployment appsv1.Deployment
	if err := yaml.UnmarshalStrict(readManifest(t, "artifacts", "flagger", "deployment.yaml"), &deployment); err != nil {
		t.Fatal(err)
	}
	container := deployment.Spec.Template.Spec.Containers[0]
	o, err := parse(container.Args, noEnvironment, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if port := container.Ports[0]; port.Name != "http" || port.ContainerPort != 8080 || o.port != "8080" {
		t.Errorf("the container declares %v, the operator listens on %s", port, o.port)
	}
	if container.ReadinessProbe.HTTPGet.Path != "/readyz" || container.LivenessProbe.HTTPGet.Path != "/healthz" {
		t.Error("wrong probes")
	}
}

func TestKustomizeBaseInstallsTheSame(t *testing.T) {
	for _, name := range []string{"account.yaml", "deployment.yaml"} {
		published := bytes.Split(readManifest(t, "artifacts", "flagger", name), []byte("\n---\n"))
		base := bytes.Split(readManifest(t, "kustomize", "base", "flagger", name), []byte("\n---\n"))
		if len(published) != len(base) {
			t.Fatalf("%s: %d and %d objects", name, len(published), len(base))
		}
		for i := range published {
			if diff := cmp.Diff(withoutNamespace(t, published[i]), withoutNamespace(t, base[i])); diff != "" {
				t.Errorf("%s: artifacts/flagger and kustomize/base/flagger differ (-artifacts +base):\n%s", name, diff)
			}
		}
	}
}

func TestKustomizeWarnsOfTheSameDeletions(t *testing.T) {
	published := readManifest(t, "artifacts", "flagger", "deletion-warning.yaml")
	if base := readManifest(t, "kustomize", "base", "deletion-warning", "policy.yaml"); !bytes.Equal(published, base) {
		t.Error("artifacts/flagger/deletion-warning.yaml and kustomize/base/deletion-warning/policy.yaml differ")
	}
}

func withoutNamespace(t *testing.T, document []byte) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal(document, &object); err != nil {
		t.Fatal(err)
	}
	delete(object["metadata"].(map[string]any), "namespace")
	return object
}
