package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// testRunner is a running load tester.
type testRunner struct {
	*process
	team *team
	url  string
}

// loadTester starts one and waits until it serves.
func (t *team) loadTester(args ...string) *testRunner {
	t.Helper()
	port := t.ports.Add(1)
	return t.loadTesterOn(port, args...)
}

func (t *team) loadTesterOn(port int32, args ...string) *testRunner {
	t.Helper()
	args = append([]string{"-port", fmt.Sprint(port), "-log-level", "info"}, args...)
	l := &testRunner{team: t, url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	l.process = t.start(filepath.Join(os.Getenv("ROOT"), "bin", "loadtester"), args...)
	for deadline := time.Now().Add(patience); ; letPass(50 * time.Millisecond) {
		resp, err := http.Get(l.url + "/healthz")
		if err == nil {
			resp.Body.Close()
			return l
		}
		if time.Now().After(deadline) {
			t.Fatalf("load tester: %v\n%s", err, l.log)
		}
	}
}

// ask sends what a person sends for the Canary of the team.
func (l *testRunner) ask(path string, want int) {
	l.team.Helper()
	body := fmt.Sprintf(`{"name": "podinfo", "namespace": %q}`, l.team.ns)
	resp, err := http.Post(l.url+path, "application/json", strings.NewReader(body))
	l.team.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != want || err != nil {
		l.team.Errorf("%s answers %d %s, want %d, %v", path, resp.StatusCode, text, want, err)
	}
}

// A test of the canary by the real load tester decides about a rollout, and load is put on it by a command.
func TestLoadTesterJudges(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	l, r := t.loadTester(), t.receiver()
	t.apply(podinfo(1))
	t.operate()
	test := func(c *v1beta1.CanarySpec, word string) {
		c.Analysis.Webhooks = []v1beta1.CanaryWebhook{
			{Name: "acceptance-test", Type: v1beta1.PreRolloutHook, URL: l.url + "/", Timeout: "60s", Metadata: &map[string]string{
				"type": "bash", "cmd": "curl -sd 'test' http://podinfo-canary." + t.ns + ":9898/token | grep " + word,
			}},
			{Name: "load-test", URL: l.url + "/", Timeout: "60s", Metadata: &map[string]string{
				"cmd": "hey -z 2s -q 10 -c 2 -H 'Cookie: type=insider' http://podinfo-canary." + t.ns + ":9898/", "logCmdOutput": "true",
			}},
		}
	}
	t.create(canary(r.hears, func(c *v1beta1.Canary) { test(&c.Spec, "token") }))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	promotion := t.events()
	if n := count(promotion, "Pre-rollout check acceptance-test passed"); n != 1 {
		t.Errorf("%d tests passed in %q", n, promotion)
	}
	l.logged(`"msg":"command succeeded","canary":"podinfo.`+t.ns+`","type":"bash"`, `Status code distribution:\n  [200]`)

	t.edit(func(s *v1beta1.CanarySpec) { test(s, "nonsense") })
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseFailed)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("primary runs %s", image)
	}
	rollback := t.events()[len(promotion):]
	for text, times := range map[string]int{
		"Halt podinfo." + t.ns + " advancement pre-rollout check acceptance-test failed": 2,
		"failed checks threshold reached 2":                                              1, "Advance podinfo": 0,
	} {
		if n := count(rollback, text); n != times {
			t.Errorf("%d times %q, want %d, in %q", n, text, times, rollback)
		}
	}
	halt := "warn: Canary pre-rollout check acceptance-test failed POST " + l.url + "/ giving up after 1 attempt(s)"
	r.heard(onboarded, begun, succeeded, begun, halt, tooMany)
	l.logged(`"msg":"command failed","canary":"podinfo.`+t.ns+`","type":"bash"`, `"error":"exit status 1"`)
}

func (l *testRunner) logged(texts ...string) {
	l.team.Helper()
	for _, text := range texts {
		if !strings.Contains(l.log.String(), text) {
			l.team.Errorf("%s is not in the log:\n%s", text, l.log)
		}
	}
}

// Gates are opened through one replica while another is asked, with the rights that the documentation gives them, and none is
// forgotten at a restart.
func TestLoadTesterGates(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(t.documented())
	args := []string{"-kubeconfig", t.kubeconfigOf("flagger-loadtester"), "-gates-configmap", t.ns + "/flagger-gates"}
	asked, other, r := t.loadTester(args...), t.loadTester(args...), t.receiver()
	t.apply(podinfo(1))
	t.operate()
	t.create(canary(r.hears, func(c *v1beta1.Canary) {
		c.Spec.Analysis.Webhooks = []v1beta1.CanaryWebhook{
			{Name: "ask-me", Type: v1beta1.ConfirmPromotionHook, URL: asked.url + "/gate/check"},
			{Name: "take-it-back", Type: v1beta1.RollbackHook, URL: asked.url + "/rollback/check"},
		}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.until("the gate is asked", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.CanaryPhaseWaitingPromotion })
	other.ask("/gate/check", http.StatusForbidden)
	other.ask("/gate/open", http.StatusAccepted)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("primary runs %s", image)
	}

	asked.kill()
	again := t.loadTesterOn(t.portOf(asked.url), args...)
	again.ask("/gate/check", http.StatusOK)
	again.ask("/rollback/check", http.StatusForbidden)
	again.ask("/gate/close", http.StatusAccepted)
	t.ship(v3)
	t.until("the gate is asked", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.CanaryPhaseWaitingPromotion })
	other.ask("/rollback/open", http.StatusAccepted)
	t.settled(v1beta1.CanaryPhaseFailed)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("primary runs %s after a rollback", image)
	}
	if n := count(t.events(), "Rolling back podinfo."+t.ns+" manual webhook invoked"); n != 1 {
		t.Errorf("%d rollbacks told in %q", n, t.events())
	}
	const approval = "warn: Canary promotion is waiting for approval."
	r.heard(onboarded, begun, approval, succeeded, begun, approval, "warn: Rolling back manual webhook invoked")
	other.ask("/rollback/close", http.StatusAccepted)
	again.ask("/rollback/check", http.StatusForbidden)
}

func (t *team) portOf(url string) (port int32) {
	t.Helper()
	_, err := fmt.Sscanf(url, "http://127.0.0.1:%d", &port)
	t.must(err)
	return port
}

// documented is the account of the load tester in docs/load-tester.md, with its rights.
func (t *team) documented() string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(os.Getenv("ROOT"), "docs", "load-tester.md"))
	t.must(err)
	manifest := regexp.MustCompile("(?s)```yaml\n(apiVersion: apps/v1\n.*?)```").FindSubmatch(page)
	if manifest == nil {
		t.Fatal("docs/load-tester.md has no manifest")
	}
	return strings.ReplaceAll(string(manifest[1]), "namespace: test", "namespace: "+t.ns)
}

// kubeconfigOf is a file with the credentials of a service account.
func (t *team) kubeconfigOf(account string) string {
	t.Helper()
	token, err := t.kube.CoreV1().ServiceAccounts(t.ns).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	t.must(err)
	config := api.NewConfig()
	config.Clusters["bed"] = &api.Cluster{Server: t.config.Host, CertificateAuthority: t.config.CAFile, CertificateAuthorityData: t.config.CAData}
	config.AuthInfos[account] = &api.AuthInfo{Token: token.Status.Token}
	config.Contexts["bed"] = &api.Context{Cluster: "bed", AuthInfo: account}
	config.CurrentContext = "bed"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	t.must(clientcmd.WriteToFile(*config, path))
	return path
}
