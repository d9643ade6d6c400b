package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// ofTests are values that have operators of tests take their steps at once.
const ofTests = "additionalArgs={-min-analysis-interval=500ms,-route-propagation-delay=500ms}"

// valuesFor are those of a release that watches all namespaces.
func valuesFor(provider string) []string {
	return []string{"--set", "meshProvider=" + provider, "--set", "metricsServer=http://prometheus.monitoring:9090", "--set", ofTests}
}

// helm is the program of a major version of Helm, with a home that no other test has, and the namespace of the release flagger.
type helm struct {
	*team
	program, namespace string
	home               []string
}

// helmOf takes the program from the environment, as make e2e-install builds it: a testbed has no network to get it from.
func (t *team) helmOf(version, namespace string) *helm {
	t.Helper()
	variable := map[string]string{"3": "HELM3", "4": "HELM"}[version]
	program := os.Getenv(variable)
	if program == "" {
		t.Fatalf("%s names no program of Helm %s: run make e2e-install", variable, version)
	}
	h := &helm{team: t, program: program, namespace: namespace}
	home := t.TempDir()
	for _, part := range []string{"CACHE", "CONFIG", "DATA"} {
		h.home = append(h.home, "HELM_"+part+"_HOME="+filepath.Join(home, part))
	}
	if out, err := h.run("version", "--template", "{{.Version}}"); err != nil || !strings.HasPrefix(out, "v"+version+".") {
		t.Fatalf("%s is not Helm %s: %v\n%s", program, version, err, out)
	}
	return h
}

// run runs it in the folder of the repository, when the context of the test is over as well. It returns what goes to standard output: notes
// about the chart go elsewhere.
func (h *helm) run(args ...string) (string, error) {
	cmd := exec.Command(h.program, append(args, "--namespace", h.namespace)...)
	cmd.Dir = os.Getenv("ROOT")
	cmd.Env = append(os.Environ(), h.home...)
	var notes bytes.Buffer
	cmd.Stderr = &notes
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, out, notes.String())
	}
	return string(out), err
}

func (h *helm) must(args ...string) string {
	h.Helper()
	out, err := h.run(args...)
	h.team.must(err)
	return out
}

// install does what docs/install.md says, and takes it back when the test ends.
func (h *helm) install(values ...string) {
	h.Helper()
	h.Cleanup(h.uninstall)
	h.must(append([]string{"install", "flagger", "charts/flagger", "--create-namespace", "--wait", "--timeout=10m"}, values...)...)
}

// upgrade does what docs/install.md says: the CRDs first.
func (h *helm) upgrade(values ...string) {
	h.Helper()
	crds := filepath.Join(h.TempDir(), "crds.yaml")
	h.team.must(os.WriteFile(crds, []byte(h.must("show", "crds", "charts/flagger")), 0o600))
	h.applyCRDs(crds)
	h.must(append([]string{"upgrade", "flagger", "charts/flagger", "--reset-then-reuse-values", "--wait", "--timeout=10m"}, values...)...)
}

// uninstall ends when the pods are gone. That is not left to --wait: Helm 4 may give up at once on a Deployment that still has pods.
func (h *helm) uninstall() {
	_, err := h.run("uninstall", "flagger", "--ignore-not-found", "--cascade=foreground")
	if err != nil {
		h.Error(err)
	}
	err = wait.PollUntilContextTimeout(context.Background(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		_, err := h.kube.AppsV1().Deployments(h.namespace).Get(ctx, "flagger", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		h.Errorf("waiting for the end of the operator: %v", err)
	}
}

// runsWith demands flags of the operator that is installed.
func (h *helm) runsWith(flags ...string) {
	h.Helper()
	d, err := h.kube.AppsV1().Deployments(h.namespace).Get(h.Context(), "flagger", metav1.GetOptions{})
	h.team.must(err)
	args := d.Spec.Template.Spec.Containers[0].Args
	for _, flag := range flags {
		if !slices.Contains(args, flag) {
			h.Errorf("the operator has no %s among %q", flag, args)
		}
	}
}

// deleteCRDs lets the next installation begin without. After a failure nobody may be there to let go of a Canary.
func (t *team) deleteCRDs() {
	if !t.Failed() {
		t.uninstall("-f", "charts/flagger/crds")
	}
}

// undisturbed demands that all Canaries and their workloads are as they were after something that is done to the operator.
func (t *team) undisturbed(what string, does func()) {
	t.Helper()
	phases, generations := t.phases(), withPrefix(t.generations(), "podinfo")
	does()
	watched()
	if diff := cmp.Diff(phases, t.phases()); diff != "" {
		t.Errorf("phases and %s (-before +after):\n%s", what, diff)
	}
	if diff := cmp.Diff(generations, withPrefix(t.generations(), "podinfo")); diff != "" {
		t.Errorf("generations of workloads and %s (-before +after):\n%s", what, diff)
	}
}

// TestInstall_Chart has the program of Helm install the chart into a cluster without CRDs, for each of these providers and all namespaces:
// a promotion and a rollback, under its own account. What is at rest then is so after an upgrade, the way back, and another installation.
func TestInstall_Chart(tt *testing.T) {
	needsOwnBed(tt)
	for _, p := range podProviders() {
		tt.Run(p.name, func(tt *testing.T) {
			t := newTeam(tt)
			p.serve(t)
			h := t.helmOf("4", "flagger-system")
			t.Cleanup(t.deleteCRDs)
			h.install(valuesFor(p.name)...)
			t.apply(podinfo(1))
			t.lives(p, "1s")
			t.logsOf(h.namespace)
			t.undisturbed("an upgrade", func() {
				h.upgrade("--set", "logLevel=debug")
				h.runsWith("-log-level=debug", "-mesh-provider="+p.name)
			})
			t.undisturbed("a rollback of the release", func() {
				h.must("rollback", "flagger", "--wait", "--timeout=10m")
				h.runsWith("-log-level=info", "-mesh-provider="+p.name)
			})
			// An uninstallation leaves CRDs, or there would be no Canary.
			t.undisturbed("an uninstallation", h.uninstall)
			t.undisturbed("another installation", func() { h.install(valuesFor(p.name)...) })
			t.canaryGoes()
			t.logsOf(h.namespace)
		})
	}
}

// flaggersValues are those of the documentation of Flagger's chart but for what is in no testbed: the image of Flagger, which
// docs/install.md has removed, receivers outside of the cluster and the proxy to them, another cluster for a control plane, and Linkerd.
func (t *team) flaggersValues() string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(os.Getenv("ROOT"), "test/charts/testdata/flagger-values.yaml"))
	t.must(err)
	values := map[string]any{}
	t.must(yaml.Unmarshal(raw, &values))
	for _, name := range []string{"eventWebhook", "msteams", "controlplane", "linkerdAuthPolicy"} {
		delete(values, name)
	}
	for section, names := range map[string][]string{"image": {"repository", "tag"}, "slack": {"url", "proxyUrl"}} {
		for _, name := range names {
			delete(values[section].(map[string]any), name)
		}
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	raw, err = yaml.Marshal(values)
	t.must(err)
	t.must(os.WriteFile(file, raw, 0o600))
	return file
}

// referred makes what these values refer to, and has the Slack that they name tell what it hears.
func (t *team) referred() *atomic.Bool {
	t.Helper()
	heard := &atomic.Bool{}
	url := t.reachable(func(http.ResponseWriter, *http.Request) { heard.Store(true) })
	slack := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "slack"}, StringData: map[string]string{"url": url}}
	_, err := t.kube.CoreV1().Secrets(t.ns).Create(t.Context(), slack, metav1.CreateOptions{})
	t.must(err)
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ca"}, Data: map[string]string{"ca.crt": "none"}}
	_, err = t.kube.CoreV1().ConfigMaps(t.ns).Create(t.Context(), ca, metav1.CreateOptions{})
	t.must(err)
	return heard
}

// TestInstall_ValuesOfFlaggersChart installs with them, by both versions of Helm, and upgrades as docs/install.md says.
func TestInstall_ValuesOfFlaggersChart(tt *testing.T) {
	needsOwnBed(tt)
	for _, version := range []string{"3", "4"} {
		tt.Run("Helm "+version, func(tt *testing.T) {
			t := newTeam(tt)
			if err := installMonitoring(); err != nil {
				t.Logf("the chart leaves out what the operator of Prometheus reads, whose CRDs can't be had: %v", err)
			}
			h := t.helmOf(version, t.ns)
			t.Cleanup(t.deleteCRDs)
			slack := t.referred()
			h.install("-f", t.flaggersValues(), "--set", ofTests)
			kept := []string{"-cluster-name=production", "-selector-labels=app,service", "-threadiness=4", "-enable-leader-election=true"}
			h.runsWith(append(kept, "-log-level=debug")...)
			t.apply(podinfo(1))
			t.create(canary(revertOnDeletion, func(c *v1beta1.Canary) { c.Spec.Provider = "" }))
			t.settled(v1beta1.CanaryPhaseInitialized)
			t.ship(v2)
			t.settled(v1beta1.CanaryPhaseSucceeded)
			t.undisturbed("an upgrade", func() {
				h.upgrade("--set", "logLevel=info")
				h.runsWith(append(kept, "-log-level=info")...)
			})
			t.ship(v3)
			t.untilProgressing("podinfo")
			t.settled(v1beta1.CanaryPhaseSucceeded)
			if !slack.Load() {
				t.Error("the Slack of the values was told nothing")
			}
			t.canaryGoes()
			t.logsOf(h.namespace)
		})
	}
}
