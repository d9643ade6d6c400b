package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// steps is how many steps its analysis takes.
const steps = 3

// loaded is an application under requests that never pause, from before its Canary exists. They come through the gateway where
// there is one, else through the Service.
type loaded struct {
	*team
	*gatekeeper
	load     *requests
	o        *operator
	replicas int32
	// gateway is the address of the gateway, host the name that requests give to it.
	gateway, host string
}

// newLoaded begins with an application without a Canary that serves.
func newLoaded(tt *testing.T, replicas int) *loaded {
	tt.Helper()
	t := newTeam(tt)
	l := &loaded{team: t, gatekeeper: t.gatekeeper(), replicas: int32(replicas), gateway: os.Getenv("GATEWAY"), host: t.ns + ".example.com"}
	t.apply(podinfo(replicas))
	t.available("podinfo")
	return l
}

// begin sends the first requests, through a route of the user to the Service where there is a gateway.
func (l *loaded) begin() {
	l.Helper()
	if l.gateway == "" {
		l.load = l.team.load()
		return
	}
	_, err := l.dynamic.Resource(httpProxies).Namespace(l.ns).Create(l.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy",
		"metadata": map[string]any{"name": "ingress"},
		"spec":     map[string]any{"virtualhost": map[string]any{"fqdn": l.host}, "routes": []any{toService()}},
	}}, metav1.CreateOptions{})
	l.must(err)
	l.comeBy("service")
	l.load = l.loadTo(l.gateway, l.host)
}

// toService is a user's route to the Service, for requests that have the headers. Its answers tell it from others.
func toService(headers ...string) map[string]any {
	return map[string]any{
		"conditions":            conditions(headers...),
		"services":              []any{map[string]any{"name": "podinfo", "port": int64(9898)}},
		"responseHeadersPolicy": map[string]any{"set": []any{map[string]any{"name": routeHeader, "value": "service"}}},
	}
}

func conditions(headers ...string) (all []any) {
	all = append(all, map[string]any{"prefix": "/"})
	for _, name := range headers {
		all = append(all, map[string]any{"header": map[string]any{"name": name, "present": true}})
	}
	return all
}

// comeBy waits until requests with the headers are answered by a route many times in a row.
func (l *loaded) comeBy(route string, headers ...string) {
	l.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for good := 0; good < 20; good++ {
		l.must(l.Context().Err())
		if _, by, err := ask(client, "http://"+l.gateway+"/version", l.host, headers...); err != nil || by != route {
			good = 0
		}
	}
}

// operates starts an operator. It waits for the gateway as long as an installed one does.
func (l *loaded) operates() {
	l.Helper()
	var args []string
	if l.gateway != "" {
		args = []string{"-route-propagation-delay", "3s"}
	}
	l.o = l.operate(args...)
}

// canary is one that shifts traffic through the gateway, or blue/green behind the Service.
func (l *loaded) canary(edits ...func(*v1beta1.Canary)) *v1beta1.Canary {
	deadline := int32(60)
	return canary(append([]func(*v1beta1.Canary){func(c *v1beta1.Canary) {
		c.Spec.ProgressDeadlineSeconds = &deadline
		c.Spec.Provider = "contour"
		if l.gateway == "" {
			c.Spec.Provider = "kubernetes"
			a := c.Spec.Analysis
			a.StepWeight, a.MaxWeight, a.Iterations, a.Interval = 0, 0, steps, "500ms"
		}
	}}, edits...)...)
}

// onboard puts the application behind a Canary.
func (l *loaded) onboard(edits ...func(*v1beta1.Canary)) {
	l.Helper()
	l.create(l.canary(edits...))
	l.settled(v1beta1.CanaryPhaseInitialized)
	if l.gateway != "" {
		l.leadToCanary()
	}
	l.rests(v1)
}

// leadToCanary points the user's route to what the operator made.
func (l *loaded) leadToCanary() {
	l.Helper()
	l.preview()
	l.reroute([]any{toService("X-Direct")}, toCanary())
	l.comeBy("")
}

// leadToService points it back to the Service, which the operator gives back.
func (l *loaded) leadToService() {
	l.Helper()
	l.preview()
	l.reroute([]any{toService()}, nil)
	l.comeBy("service", "X-Preview")
}

// preview leads some requests one way and the rest another. Contour tells Envoy about routes and about what is behind them
// independently: both are known before all requests change over.
func (l *loaded) preview() {
	l.Helper()
	l.reroute([]any{toService()}, toCanary("X-Preview"))
	l.comeBy("", "X-Preview")
	l.comeBy("service")
}

func toCanary(headers ...string) []any {
	return []any{map[string]any{"name": "podinfo", "conditions": conditions(headers...)}}
}

func (l *loaded) reroute(routes, includes []any) {
	l.Helper()
	part, err := json.Marshal(map[string]any{"spec": map[string]any{"routes": routes, "includes": includes}})
	l.must(err)
	l.patch(httpProxies, "ingress", string(part))
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
