package charts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/router/registry"
)

const overlayFolder = "../../kustomize"

// built is kubectl kustomize of a folder below kustomize/, or of one that is given as files.
func built(t *testing.T, overlay string) []*unstructured.Unstructured {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(overlayFolder, overlay))
	if err != nil {
		t.Fatalf("overlay %s: %v", overlay, err)
	}
	all, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, overlay, string(all))
}

// overlays are all that install the operator for a provider, and where.
var overlays = map[string]struct{ provider, namespace, metricsServer string }{
	"istio":      {"istio", "istio-system", "http://prometheus:9090"},
	"linkerd":    {"gatewayapi:v1beta1", "flagger-system", "http://prometheus.linkerd-viz:9090"},
	"appmesh":    {"appmesh", "appmesh-system", "http://appmesh-prometheus:9090"},
	"kuma":       {"kuma", "kong-mesh-system", "http://prometheus-server.mesh-observability:80"},
	"contour":    {"contour", "projectcontour", "http://flagger-prometheus:9090"},
	"gatewayapi": {"gatewayapi:v1", "flagger-system", "http://flagger-prometheus:9090"},
	"apisix":     {"apisix", "flagger-system", "http://flagger-prometheus:9090"},
	"knative":    {"knative", "flagger-system", "http://flagger-prometheus:9090"},
	"kubernetes": {"kubernetes", "flagger-system", "http://flagger-prometheus:9090"},
	"gloo":       {"gloo", "flagger-system", "http://flagger-prometheus:9090"},
	"nginx":      {"nginx", "flagger-system", "http://flagger-prometheus:9090"},
	"skipper":    {"skipper", "flagger-system", "http://flagger-prometheus:9090"},
	"traefik":    {"traefik", "flagger-system", "http://flagger-prometheus:9090"},
}

func TestEveryFolderIsTested(t *testing.T) {
	entries, err := os.ReadDir(overlayFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := overlays[entry.Name()]; !ok && !slices.Contains([]string{"base", "podinfo", "tester"}, entry.Name()) {
			t.Errorf("kustomize/%s is in no test", entry.Name())
		}
	}
}

// An overlay runs the operator for its provider in one namespace, where the role is bound to the account that the pods have.
func TestOverlays(t *testing.T) {
	providers := registry.New(registry.Config{})
	for name, want := range overlays {
		t.Run(name, func(t *testing.T) {
			objects := built(t, name)
			flags := flagsOf(t, objects, "flagger")
			if _, err := providers.Provider(flags["-mesh-provider"]); err != nil {
				t.Error(err)
			}
			got := struct{ provider, namespace, metricsServer string }{
				flags["-mesh-provider"], one(t, objects, "Deployment", "flagger").GetNamespace(), flags["-metrics-server"],
			}
			if got != want || flags["-log-level"] != "info" || flags["-include-label-prefix"] != "app.kubernetes.io" {
				t.Errorf("%v, want %v; flags %v", got, want, flags)
			}
			for _, u := range objects {
				wanted := want.namespace
				switch {
				case slices.Contains(clusterScoped, u.GetKind()) || u.GetKind() == "Mesh":
					wanted = ""
				case u.GetKind() == "AuthorizationPolicy":
					// It is about the Prometheus of Linkerd, which is in that namespace.
					wanted = "linkerd-viz"
				}
				if u.GetNamespace() != wanted {
					t.Errorf("%s %s is in namespace %q, want %q", u.GetKind(), u.GetName(), u.GetNamespace(), wanted)
				}
				subjects, _, _ := unstructured.NestedSlice(u.Object, "subjects")
				for _, subject := range subjects {
					if of := subject.(map[string]any)["namespace"]; of != want.namespace {
						t.Errorf("%s %s is for an account in %v", u.GetKind(), u.GetName(), of)
					}
				}
			}
			if more, less := granted(t, objects).without(published(t)), published(t).without(granted(t, objects)); len(more)+len(less) > 0 {
				t.Errorf("the role allows beside artifacts/flagger/account.yaml %v, and lacks %v", more, less)
			}
			if refused := violations(t, objects); len(refused) > 0 {
				t.Errorf("the Pod Security Standard restricted refuses %v", refused)
			}
		})
	}
}

// What of Prometheus the charts install, Kustomize installs: one of its own only where -metrics-server leads to it.
func TestOverlayPrometheus(t *testing.T) {
	objects, _ := render(t, "flagger", cluster{}, `prometheus: {install: true}`)
	chart := one(t, objects, "Deployment", "flagger-prometheus")
	config, _, _ := unstructured.NestedString(one(t, objects, "ConfigMap", "flagger-prometheus").Object, "data", "prometheus.yml")
	if diff := cmp.Diff(config, readFile(t, filepath.Join(overlayFolder, "base/prometheus/prometheus.yml"))); diff != "" {
		t.Errorf("the configuration of Prometheus (-chart +kustomize):\n%s", diff)
	}
	for name, overlay := range overlays {
		objects := built(t, name)
		own := slices.ContainsFunc(objects, func(u *unstructured.Unstructured) bool { return u.GetName() == "flagger-prometheus" })
		if own != (overlay.metricsServer == "http://flagger-prometheus:9090") {
			t.Errorf("overlay %s: metrics come from %s, and a Prometheus of its own: %v", name, overlay.metricsServer, own)
		}
		if !own {
			continue
		}
		if diff := cmp.Diff(containers(t, chart), containers(t, one(t, objects, "Deployment", "flagger-prometheus"))); diff != "" {
			t.Errorf("overlay %s: containers (-chart +kustomize):\n%s", name, diff)
		}
	}
}

func containers(t *testing.T, u *unstructured.Unstructured) any {
	t.Helper()
	found, _, err := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// All but the flags and the namespace is the same, so that these few stand for all where they are sent to an API server.
func TestOverlayRenders(t *testing.T) {
	for _, name := range []string{"contour", "kuma", "linkerd", "tester", "podinfo"} {
		golden(t, filepath.Join("testdata", "kustomize", name+".yaml"), text(t, built(t, name)))
	}
	bare := func(name string) string {
		var rest []*unstructured.Unstructured
		for _, u := range built(t, name) {
			if u.GetKind() == "Namespace" || u.GetKind() == "Mesh" || u.GetKind() == "AuthorizationPolicy" || strings.HasPrefix(u.GetName(), "flagger-prometheus") {
				continue
			}
			if u.GetKind() == "Deployment" {
				unstructured.RemoveNestedField(containers(t, u).([]any)[0].(map[string]any), "args")
				list := containers(t, u).([]any)
				delete(list[0].(map[string]any), "args")
				if err := unstructured.SetNestedSlice(u.Object, list, "spec", "template", "spec", "containers"); err != nil {
					t.Fatal(err)
				}
			}
			rest = append(rest, u)
		}
		return strings.ReplaceAll(text(t, rest), "namespace: "+overlays[name].namespace, "namespace: anywhere")
	}
	for name := range overlays {
		if diff := cmp.Diff(bare("contour"), bare(name)); diff != "" {
			t.Errorf("overlay %s differs from contour in more than flags and namespace:\n%s", name, diff)
		}
	}
}

// The load tester and podinfo are what the charts install, but for their names.
func TestOverlayApplications(t *testing.T) {
	objects, _ := render(t, "loadtester", cluster{}, ``)
	charted := containers(t, one(t, objects, "Deployment", "loadtester")).([]any)[0].(map[string]any)
	tester := containers(t, one(t, built(t, "tester"), "Deployment", "flagger-loadtester")).([]any)[0].(map[string]any)
	for _, c := range []map[string]any{charted, tester} {
		if context, ok := c["securityContext"].(map[string]any); ok && context["readOnlyRootFilesystem"] == false {
			delete(context, "readOnlyRootFilesystem")
		}
	}
	if diff := cmp.Diff(charted, tester); diff != "" {
		t.Errorf("the load tester (-chart +kustomize):\n%s", diff)
	}
	for _, name := range []string{"tester", "podinfo"} {
		objects := built(t, name)
		for _, u := range objects {
			if u.GetNamespace() != "test" {
				t.Errorf("%s %s is in namespace %q", u.GetKind(), u.GetName(), u.GetNamespace())
			}
		}
		if refused := violations(t, objects); len(refused) > 0 {
			t.Errorf("the Pod Security Standard restricted refuses %v", refused)
		}
	}
}

// docs/install.md shows how an overlay is put into another namespace, with another Prometheus: it has to work as it stands there.
func TestOverlayOfAUser(t *testing.T) {
	_, example, ok := strings.Cut(readFile(t, "../../docs/install.md"), "<!-- overlay -->\n```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if !ok {
		t.Fatal("docs/install.md has no such example")
	}
	var kustomization map[string]any
	if err := yaml.UnmarshalStrict([]byte(example), &kustomization); err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp(overlayFolder, "user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	local := strings.ReplaceAll(example, "https://HOST/REPOSITORY//kustomize/", "../")
	local, _, _ = strings.Cut(local, "?ref=")
	_, rest, _ := strings.Cut(example, "?ref=TAG")
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(local+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := built(t, filepath.Base(folder))
	if flags := flagsOf(t, objects, "flagger"); flags["-metrics-server"] != "http://prometheus.monitoring:9090" || flags["-mesh-provider"] != "kuma" {
		t.Errorf("flags %v", flags)
	}
	if u := one(t, objects, "Deployment", "flagger"); u.GetNamespace() != "kuma-system" {
		t.Errorf("the operator is in %s", u.GetNamespace())
	}
}
