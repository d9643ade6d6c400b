package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// ownBed is the environment variable that says that a testbed is there for tests of installations alone: they put the CRDs of the operator
// in and take them away, and run operators of all namespaces.
const ownBed = "INSTALL"

func needsOwnBed(t *testing.T) {
	t.Helper()
	if os.Getenv(ownBed) == "" {
		t.Skip("run make e2e-install")
	}
}

// kitRun is the conformance kit of a provider, and the render of the chart that has the role for it.
type kitRun struct{ kit, render string }

// kitRuns are the kits of all providers, each under the role for that provider alone. An operator of one namespace has Roles, and
// something in a ClusterRole for Kuma.
func kitRuns() []kitRun {
	return []kitRun{
		{"apisix", "roles/apisix"},
		{"appmeshv1beta1", "roles/appmesh"},
		{"appmeshv1beta2", "roles/appmesh"},
		{"contour", "roles/contour"},
		{"gatewayapi", "roles/gatewayapi_v1"},
		{"gloo", "roles/gloo"},
		{"istio", "roles/istio"},
		{"kuma", "roles/kuma"},
		{"nginx", "roles/nginx"},
		{"skipper", "roles/nginx"},
		{"smi", "roles/linkerd"},
		{"traefik", "roles/traefik"},
		{"contour", "flagger/namespaced"},
		{"kuma", "flagger/namespaced"},
		{"nginx", "flagger/namespaced"},
		{"istio", "kustomize/contour"},
	}
}

// TestKitOfEachProviderIsPlayed demands that the kit of every provider is among them. The objects of Knative are the user's own: they
// have no kit.
func TestKitOfEachProviderIsPlayed(t *testing.T) {
	providers := registry.New(registry.Config{})
	for _, name := range providers.Names() {
		p, err := providers.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		kit := filepath.Base(folderOf(p))
		played := slices.ContainsFunc(kitRuns(), func(r kitRun) bool { return r.kit == kit && strings.HasPrefix(r.render, "roles/") })
		if !played && len(p.Resources()) > 0 && name != "knative" {
			t.Errorf("the kit of %s is played under no role", name)
		}
	}
}

// TestKitUnderTheRoles plays the conformance kit of every provider on a real API server: what the operator does there, an account does
// that has the roles of the chart for that provider and no others. It is an API server without a garbage collector, which would miss the
// Canaries of the kit. Owners that block a deletion need a right there, as on OpenShift.
func TestKitUnderTheRoles(tt *testing.T) {
	needsOwnBed(tt)
	t := newTeam(tt)
	m := newMeshCluster(t)
	t.must(m.install(t.Context(), filepath.Join(os.Getenv("ROOT"), "artifacts/flagger/crd.yaml")))
	for _, ns := range []string{"test", "flagger-system", "projectcontour"} {
		_, err := m.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
		t.must(err)
	}
	renders := t.installed("*/*.yaml")
	for _, r := range kitRuns() {
		tt.Run(r.kit+" under "+strings.ReplaceAll(r.render, "/", " "), func(tt *testing.T) {
			sub := *t
			sub.T = tt
			sub.play(m, r.kit, sub.accountIn(m, renders[r.render]))
		})
	}
}

// play runs the kit of a provider as go test does.
func (t *team) play(m *meshCluster, kit, kubeconfig string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-v", "-run", "Conformance|Adopted", "./pkg/router/"+kit)
	cmd.Dir = os.Getenv("ROOT")
	// Built as the programs of the testbed are.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false",
		conformance.AdminConfig+"="+m.kubeconfig, conformance.OperatorConfig+"="+kubeconfig)
	out, err := cmd.CombinedOutput()
	said := string(out)
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if line := refusal(said); line != "" {
		t.Errorf("the role is too small: %s", line)
	}
	passed := strings.Count(said, "--- PASS")
	if passed < 20 {
		t.Errorf("%d tests of the kit passed, which are too few:\n%s", passed, said)
	}
	t.Logf("%d tests of the kit passed", passed)
}

// accountIn makes the account of a render in a cluster, with its roles, until the test ends. It returns a kubeconfig of the account.
func (t *team) accountIn(m *meshCluster, render []*unstructured.Unstructured) string {
	t.Helper()
	namespace := ""
	for _, u := range render {
		if u.GetName() != "flagger" || (u.GetKind() != "ServiceAccount" && !strings.Contains(u.GetKind(), "Role")) {
			continue
		}
		own := t.renamed(u, "shop", "test")
		resource, _ := meta.UnsafeGuessKindToResource(own.GroupVersionKind())
		var client dynamic.ResourceInterface = m.dynamic.Resource(resource)
		if own.GetNamespace() != "" {
			client = m.dynamic.Resource(resource).Namespace(own.GetNamespace())
		}
		_, err := client.Create(t.Context(), own, metav1.CreateOptions{})
		t.must(err)
		t.Cleanup(func() {
			if err := client.Delete(context.Background(), own.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		})
		if own.GetKind() == "ServiceAccount" {
			namespace = own.GetNamespace()
		}
	}
	token, err := m.kube.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "flagger", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	t.must(err)
	return t.kubeconfigWith(m.config, token.Status.Token, "test")
}

// renamed is an object with other words, given in pairs, in place of some.
func (t *team) renamed(u *unstructured.Unstructured, words ...string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.Marshal(u.Object)
	t.must(err)
	own := &unstructured.Unstructured{}
	t.must(yaml.Unmarshal([]byte(strings.NewReplacer(words...).Replace(string(raw))), &own.Object))
	return own
}
