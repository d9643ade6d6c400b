package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// steps is how many steps its analysis takes.
const steps = 3

// loaded is an application under requests that never pause, from before its Canary exists. They come through the data plane
// where there is one, else through the Service.
type loaded struct {
	*team
	*gatekeeper
	load     *requests
	o        *operator
	replicas int32
	// plane is nil without a data plane, host the name that requests give to it.
	plane *dataPlane
	host  string
	// args are more flags of the operator.
	args []string
}

// newLoaded begins with an application without a Canary that serves.
func newLoaded(tt *testing.T, replicas int) *loaded {
	tt.Helper()
	t := newTeam(tt)
	l := &loaded{team: t, gatekeeper: t.gatekeeper(), replicas: int32(replicas), plane: planeUnderTest(tt), host: planeUnderTest(tt).hostOf(t.ns)}
	t.apply(scraped(podinfo(replicas)))
	t.available("podinfo")
	return l
}

// begin sends the first requests, through a route of the user to the Service where there is a data plane.
func (l *loaded) begin() {
	l.Helper()
	if l.plane == nil {
		l.load = l.team.load()
		return
	}
	l.behind()
	l.load = l.loadTo(l.plane.address, l.host)
}

// operates starts an operator. It waits for the data plane as long as an installed one does.
func (l *loaded) operates() {
	l.Helper()
	args := slices.Clone(l.args)
	if l.plane != nil {
		args = append(append(args, "-route-propagation-delay", "3s"), l.plane.settings...)
	}
	l.o = l.operate(args...)
}

// canary is one that shifts traffic by the data plane, or blue/green behind the Service.
func (l *loaded) canary(edits ...func(*v1beta1.Canary)) *v1beta1.Canary {
	deadline := int32(60)
	return canary(append([]func(*v1beta1.Canary){func(c *v1beta1.Canary) {
		c.Spec.ProgressDeadlineSeconds = &deadline
		if l.plane != nil {
			l.plane.complete(c, l.host)
			return
		}
		c.Spec.Provider = "kubernetes"
		a := c.Spec.Analysis
		a.StepWeight, a.MaxWeight, a.Iterations, a.Interval = 0, 0, steps, "500ms"
	}}, edits...)...)
}

// onboard puts the application behind a Canary.
func (l *loaded) onboard(edits ...func(*v1beta1.Canary)) {
	l.Helper()
	l.create(l.canary(edits...))
	l.settled(v1beta1.CanaryPhaseInitialized)
	if l.plane != nil {
		l.leadToCanary()
	}
	l.rests(v1)
}

// roll makes a change, does something during the run that it starts, and waits for the end of the last run.
func (l *loaded) roll(end v1beta1.CanaryPhase, change, during func()) *v1beta1.Canary {
	l.Helper()
	before := l.read().Status.Rollout.Run
	change()
	l.until("a run", func(c *v1beta1.Canary) bool { return c.Status.Rollout.Run > before })
	if during != nil {
		during()
	}
	return l.settled(end)
}

// settles waits for the end of a run that may have had another one before it: the image that the primary runs tells.
func (l *loaded) settles(end v1beta1.CanaryPhase, image string) {
	l.Helper()
	l.until("rest in "+string(end)+" with "+image, func(c *v1beta1.Canary) bool {
		return c.Status.Phase == end && c.Status.Rollout != nil && len(c.Status.Rollout.Outbox) == 0 && l.primaryRuns(image)
	})
	l.rests(image)
}

// promote ships an image that is promoted.
func (l *loaded) promote(image string) {
	l.Helper()
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(image) }, nil)
	l.rests(image)
}

// reaches waits until the run has taken a number of steps.
func (l *loaded) reaches(step int32) {
	l.Helper()
	l.until(fmt.Sprintf("step %d", step), func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.CanaryPhaseProgressing && max(c.Status.Iterations, c.Status.CanaryWeight/20) >= step
	})
}

// enters waits for a phase.
func (l *loaded) enters(phase v1beta1.CanaryPhase) {
	l.Helper()
	l.until("phase "+string(phase), func(c *v1beta1.Canary) bool { return c.Status.Phase == phase })
}

// metric sets what the metric of the Canary answers.
func (l *loaded) metric(value string) {
	l.Helper()
	l.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = value })
}

// interval sets spec.analysis.interval.
func (l *loaded) interval(d string) {
	l.Helper()
	l.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Interval = d })
}

// deadline sets spec.progressDeadlineSeconds.
func (l *loaded) deadline(seconds int32) {
	l.Helper()
	l.edit(func(s *v1beta1.CanarySpec) { s.ProgressDeadlineSeconds = &seconds })
}

// probe ships an image with a readiness probe.
func (l *loaded) probe(image string, probe map[string]any) {
	l.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "podinfod", "image": image, "readinessProbe": probe}},
	}}}})
	l.must(err)
	_, err = l.kube.AppsV1().Deployments(l.ns).Patch(l.Context(), "podinfo", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	l.must(err)
}

// rests checks that all is at rest with an image promoted: it answers all requests, from the primary.
func (l *loaded) rests(image string) {
	l.Helper()
	if n, runs := l.team.replicas("podinfo-primary"); n != l.replicas || runs != image {
		l.Errorf("the primary has %d replicas of %s, want %d of %s", n, runs, l.replicas, image)
	}
	if n, _ := l.team.replicas("podinfo"); n != 0 {
		l.Errorf("the target keeps %d replicas", n)
	}
	c := l.read()
	if c.Status.CanaryWeight != 0 || c.Status.Rollout.ServingSide != "" {
		l.Errorf("weight %d, serving side %q", c.Status.CanaryWeight, c.Status.Rollout.ServingSide)
	}
	if selects := l.selects(); selects["app"] != "podinfo-primary" {
		l.Errorf("the Service selects %v", selects)
	}
	if c.Spec.Provider != "kubernetes" {
		if p, w := l.weights(c.Spec.Provider); p != 100 || w != 0 {
			l.Errorf("routes at rest have %d/%d", p, w)
		}
	}
	l.load.comeFrom(l.team, versionOf(image))
}

// versionOf is what an image says that it is.
func versionOf(image string) string {
	_, tag, _ := strings.Cut(image, ":")
	version, _, _ := strings.Cut(tag, "-")
	return version
}

func (t *team) read() *v1beta1.Canary {
	t.Helper()
	c, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	return c
}
