package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// kubectl runs the real one, in the folder of the repository.
func (t *team) kubectl(args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kubectl", args...)
	cmd.Dir = os.Getenv("ROOT")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// namespace makes one where it is missing.
func (t *team) namespace(name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := t.kube.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); err == nil {
		return
	}
	_, err := t.kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	t.must(err)
}

// applyCRDs does what docs/install.md says about upgrades of the chart's CRDs.
func (t *team) applyCRDs(path string) {
	t.Helper()
	t.kubectl("apply", "--server-side", "--force-conflicts", "-f", path)
	for _, plural := range []string{"canaries", "metrictemplates", "alertproviders"} {
		t.must(t.served(t.Context(), plural+".flagger.app"))
	}
}

// TestInstall_Kustomize installs overlays by kubectl apply -k, as it stands in docs/install.md: a promotion and a rollback, under their own
// account.
func TestInstall_Kustomize(tt *testing.T) {
	needsOwnBed(tt)
	for _, p := range podProviders() {
		tt.Run(p.name, func(tt *testing.T) {
			t := newTeam(tt)
			p.serve(t)
			// That of the mesh is there.
			if p.namespace != "flagger-system" {
				t.namespace(p.namespace)
			}
			t.kubectl("apply", "-k", "kustomize/"+p.overlay)
			t.Cleanup(func() { t.uninstall("-k", "kustomize/"+p.overlay) })
			t.kubectl("-n", p.namespace, "rollout", "status", "deployment/flagger", "--timeout=10m")
			t.apply(podinfo(1))
			t.lives(p, "10s")
			t.canaryGoes()
			t.logsOf(p.namespace)
		})
	}
}

// canaryGoes deletes the Canary while an operator runs, which gives its target back.
func (t *team) canaryGoes() {
	t.Helper()
	t.deleteCanary()
	t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
}

// uninstall runs when the context of the test is over.
func (t *team) uninstall(args ...string) {
	cmd := exec.Command("kubectl", append([]string{"delete", "--ignore-not-found", "--timeout=10m"}, args...)...)
	cmd.Dir = os.Getenv("ROOT")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("kubectl delete %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
