package e2e

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Versions of the application in the examples: a sound one, one that fails, and one that is slow.
const (
	soundExample = "stefanprodan/podinfo:3.1.1"
	buggyExample = "stefanprodan/podinfo:3.1.2"
	slowExample  = "stefanprodan/podinfo:3.1.3"
)

// aroundExamples is what the clusters of these users had beside what they published.
const aroundExamples = `
apiVersion: v1
kind: Service
metadata: {name: prometheus, namespace: istio-system}
spec: {ports: [{name: http, port: 9090}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: prometheus, namespace: istio-system, labels: {kubernetes.io/service-name: prometheus}}
addressType: IPv4
ports: [{name: http, port: 9090}]
endpoints: [{addresses: [10.244.255.1]}]
`

// gatewayOfExamples is in the namespace of the Canaries of 2019.
const gatewayOfExamples = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: flagger-gateway}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
`

// TestIstioExamples runs Canaries that users published for Istio, as they are but for the time between two checks and one regular expression, and looks for
// the events that they published.
func TestIstioExamples(tt *testing.T) {
	needsBed(tt)
	if plane := planeUnderTest(tt); plane == nil || plane.name != "istio" {
		tt.Skip("run make e2e-istio")
	}
	example(tt, "events.txt")
	b, err := shared()
	if err != nil {
		tt.Fatal(err)
	}
	around := &team{T: tt, bed: b}
	around.put(aroundExamples)
	// Templates are in another namespace than Canaries, and no other team is at work in this testbed.
	around.operate("-namespace", "")
	for namespace, files := range map[string][]string{
		"test": {"istio-v1beta1.yaml"}, "flagger": {"istio-v1alpha3.yaml", "istio-v1alpha3-abtest.yaml"},
	} {
		tt.Run(namespace, func(tt *testing.T) {
			tt.Parallel()
			for _, file := range files {
				tt.Run(file, func(tt *testing.T) { (&team{T: tt, bed: b, ns: namespace}).liveAsPublished(file) })
			}
		})
	}
}

// liveAsPublished promotes a good version of a published example, and takes two bad ones back.
func (t *team) liveAsPublished(file string) {
	// Envoy has refused this form since it took RE2 for regular expressions, in 2019.
	t.publish(example(t.T, "podinfo.yaml"), strings.ReplaceAll(example(t.T, file), "(?!.*Chrome)", ""))
	published := example(t.T, "events.txt")
	promotion, rollback := section(published, "APISIX, promotion"), section(published, "Istio, rollback by latency")
	// As the A/B test wants them.
	t.keepAsking("http://10.96.0.80/", "app.istio.example.com", headers("Cookie: type=insider"))
	l := &loaded{team: t}
	c := l.roll(v1beta1.CanaryPhaseSucceeded, func() { t.ship(soundExample) }, nil)
	t.tells(t.events(), forStrategy(c, promotion))
	// The success rate is judged first, and that of a minute has the errors of the run before in it.
	for _, bad := range []struct{ image, other string }{{slowExample, "success rate"}, {buggyExample, "request duration"}} {
		before := len(t.events())
		l.roll(v1beta1.CanaryPhaseFailed, func() { t.ship(bad.image) }, nil)
		t.tells(t.events()[before:], slices.DeleteFunc(slices.Clone(rollback), func(m string) bool { return strings.Contains(m, bad.other) }))
	}
}

// ownNamespace makes the namespace of the team, to the end of the test.
func (t *team) ownNamespace() {
	t.Helper()
	namespaces := t.kube.CoreV1().Namespaces()
	_, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.ns}}, metav1.CreateOptions{})
	t.must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		t.must(namespaces.Delete(ctx, t.ns, metav1.DeleteOptions{}))
		// The next example has the same name.
		t.must(wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
			_, err := namespaces.Get(ctx, t.ns, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			return false, err
		}))
	})
}

// publish applies what somebody published, with another time between two checks.
func (t *team) publish(application, canary string) {
	t.Helper()
	t.ownNamespace()
	t.put(application)
	t.put(gatewayOfExamples)
	t.available("podinfo")
	t.available("flagger-loadtester")
	t.put(canary)
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.edit(func(s *v1beta1.CanarySpec) {
		for _, a := range []*v1beta1.CanaryAnalysis{s.Analysis, s.CanaryAnalysis} {
			if a != nil {
				a.Interval = "10s"
			}
		}
	})
}

// forStrategy leaves out the weights where a Canary has none.
func forStrategy(c *v1beta1.Canary, messages []string) []string {
	if c.GetAnalysis().Iterations == 0 {
		return messages
	}
	return slices.DeleteFunc(slices.Clone(messages), func(m string) bool { return strings.Contains(m, "canary weight") })
}

// section is the messages under a heading of the published events.
func section(events, heading string) (messages []string) {
	_, rest, _ := strings.Cut(events, "# "+heading)
	_, rest, _ = strings.Cut(rest, "\n")
	rest, _, _ = strings.Cut(rest, "\n#")
	for line := range strings.Lines(rest) {
		message := strings.TrimSpace(line)
		if fields := strings.Fields(message); len(fields) > 2 && fields[1] == "Synced" {
			message = strings.Join(fields[2:], " ")
		}
		if message != "" {
			messages = append(messages, message)
		}
	}
	return messages
}

// timing are messages that depend on how fast pods get ready, and metrics come.
var timing = regexp.MustCompile(`waiting for rollout to finish|no values found|\.\.\. more halts`)

// figures are measured, or those of one Canary.
var figures = regexp.MustCompile(`[0-9]+\.[0-9]+|reached [0-9]+`)

// tells checks that events are told in an order. Measured figures may be others, and other events may be in between.
func (t *team) tells(events, want []string) {
	t.Helper()
	told := 0
	for _, message := range want {
		if timing.MatchString(message) {
			continue
		}
		message = figures.ReplaceAllString(strings.ReplaceAll(message, "podinfo.test", "podinfo."+t.ns), "N")
		message = strings.ReplaceAll(message, "podinfo.flagger", "podinfo."+t.ns)
		at := told
		for at < len(events) && !strings.HasSuffix(figures.ReplaceAllString(events[at], "N"), message) {
			at++
		}
		if at == len(events) {
			t.Errorf("no event %q after %q in\n%s", message, events[:told], strings.Join(events, "\n"))
			return
		}
		told = at + 1
	}
}
