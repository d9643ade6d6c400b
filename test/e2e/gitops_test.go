package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// repository is what a team keeps in Git, and the controller of Flux that applies it every second.
type repository struct {
	*team
	file string
	flux *process
}

// commit makes the manifests those of an image, as whoever leaves spec.replicas to others keeps them. With bad the metric of the Canary is out
// of its range.
func (r *repository) commit(image string, bad bool) {
	r.Helper()
	app := strings.Replace(strings.Replace(podinfo(1), "  replicas: 1\n", "", 1), v1, image, 1)
	c := canary(func(c *v1beta1.Canary) {
		c.APIVersion, c.Kind = "flagger.app/v1beta1", "Canary"
		if bad {
			c.Spec.Analysis.Metrics[0].TemplateVariables["value"] = "50"
		}
	})
	raw, err := json.Marshal(c)
	r.must(err)
	var object map[string]any
	r.must(json.Unmarshal(raw, &object))
	delete(object, "status")
	text, err := yaml.Marshal(object)
	r.must(err)
	// Nobody may read half of it.
	r.must(os.WriteFile(r.file+".new", []byte(app+"---\n"+string(text)), 0o600))
	r.must(os.Rename(r.file+".new", r.file))
}

// lines are what the controller did so far, without those that say that it did nothing.
func (r *repository) lines() []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(r.flux.log.String()), "\n"), func(l string) bool { return l == "applied" || l == "" })
}

// said is how many lines of the controller begin with a text.
func (r *repository) said(text string) int {
	return strings.Count("\n"+r.flux.log.String(), "\n"+text)
}

// says waits until so many do.
func (r *repository) says(text string, times int) {
	r.Helper()
	for deadline := time.Now().Add(10 * time.Minute); r.said(text) < times; letPass(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("%q not said %d times:\n%s", text, times, r.flux.log.String())
		}
	}
}

func (t *team) repository(image string, args ...string) *repository {
	t.Helper()
	r := &repository{team: t, file: filepath.Join(t.TempDir(), "app.yaml")}
	r.commit(image, false)
	args = append([]string{"-kubeconfig", os.Getenv("KUBECONFIG"), "-namespace", t.ns, "-file", r.file}, args...)
	r.flux = t.start(filepath.Join(os.Getenv("ROOT"), "bin", "gitops"), args...)
	return r
}

// changed is the one line of an object of the team that was applied with a change.
func (t *team) changed(action, kind, name string) string {
	return action + " " + kind + "/" + t.ns + "/" + name
}

// TestFluxAppliesEverySecond keeps an application in Git, with the Service that the operator takes over. What is applied every second
// through whole rollouts changes nothing but what was committed: nobody undoes what the other wrote.
func TestFluxAppliesEverySecond(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.operate()
	r := t.repository(v1)
	t.settled(v1beta1.CanaryPhaseInitialized)
	r.commit(v2, false)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	r.commit(v3, true)
	t.settled(v1beta1.CanaryPhaseFailed)
	r.says("applied", r.said("applied")+5)
	want := []string{
		t.changed("created", "Deployment", "podinfo"), t.changed("created", "Service", "podinfo"),
		t.changed("created", "MetricTemplate", "constant"), t.changed("created", "Canary", "podinfo"),
		t.changed("configured", "Deployment", "podinfo"),
		t.changed("configured", "Deployment", "podinfo"), t.changed("configured", "Canary", "podinfo"),
	}
	got := r.lines()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("applied: -want +got:\n%s", diff)
	}
}

// TestFluxWaitsForRollouts lets the controller of Flux wait for what it applies: with the conditions that it looks for it goes on when a
// revision was promoted, and says so when one was taken back.
func TestFluxWaitsForRollouts(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.operate("-readiness-conditions")
	r := t.repository(v1, "-wait")
	r.says("current", 1)
	if c := t.settled(v1beta1.CanaryPhaseInitialized); c.Status.ObservedGeneration != c.Generation {
		t.Errorf("generation %d is observed, want %d", c.Status.ObservedGeneration, c.Generation)
	}
	r.commit(v2, true)
	t.until("a run", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight > 0 })
	r.says("not current", 1)
	t.settled(v1beta1.CanaryPhaseFailed)
	if log := r.flux.log.String(); !strings.Contains(log, "Canary/"+t.ns+"/podinfo status: 'Failed'") {
		t.Errorf("the controller does not say what failed:\n%s", log)
	}
	r.commit(v3, false)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	r.says("current", r.said("current")+1)
}
