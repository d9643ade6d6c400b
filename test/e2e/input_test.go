package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func healthy(c *v1beta1.Canary) *v1beta1.CanaryCondition {
	for i := range c.Status.Conditions {
		if c.Status.Conditions[i].Type == v1beta1.HealthyType {
			return &c.Status.Conditions[i]
		}
	}
	return nil
}

// available waits until all pods of a Deployment serve.
func (t *team) available(name string) {
	t.Helper()
	t.untilObject(deployments, name, func(u *unstructured.Unstructured) bool {
		want, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		have, _, _ := unstructured.NestedInt64(u.Object, "status", "availableReplicas")
		return have == want
	})
}

// TestBadInput makes each mistake that users make: a condition and an event name the field and the remedy, the workload that
// serves keeps its pods, and once it is mended all goes well by itself.
func TestBadInput(tt *testing.T) {
	tt.Parallel()
	for name, c := range map[string]struct {
		break_ func(*v1beta1.Canary)
		before func(*team)
		mend   func(*team)
		// says are parts of the condition and of the event.
		says []string
	}{
		"no Deployment": {
			break_: func(c *v1beta1.Canary) { c.Spec.TargetRef.Name = "podinfo2" },
			mend:   func(t *team) { t.edit(func(s *v1beta1.CanarySpec) { s.TargetRef.Name = "podinfo" }) },
			says:   []string{"podinfo2", "spec.targetRef"},
		},
		"no selector label": {
			before: func(t *team) { t.relabel("role") },
			mend:   func(t *team) { t.relabel("app") },
			says:   []string{"matchLabels must contain one of", "-selector-labels"},
		},
		"a provider that is not installed": {
			break_: func(c *v1beta1.Canary) { c.Spec.Provider = "traefik" },
			mend:   func(t *team) { t.edit(func(s *v1beta1.CanarySpec) { s.Provider = "istio" }) },
			says:   []string{"traefik", "spec.provider", "install"},
		},
		"a port that does not exist": {
			break_: func(c *v1beta1.Canary) { c.Spec.Service.TargetPort = intstr.FromString("grpc") },
			mend: func(t *team) {
				t.edit(func(s *v1beta1.CanarySpec) { s.Service.TargetPort = intstr.FromString("http") })
			},
			says: []string{"spec.service.targetPort", "grpc", "http"},
		},
		"an unreachable Prometheus": {
			break_: func(c *v1beta1.Canary) {
				c.Spec.MetricsServer = "http://127.0.0.1:1"
				c.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "request-success-rate"}}
			},
			mend: func(t *team) {
				t.edit(func(s *v1beta1.CanarySpec) { s.MetricsServer = "http://prometheus.monitoring:9090" })
			},
			says: []string{"spec.metricsServer", "127.0.0.1:1"},
		},
		"a query that does not parse": {
			break_: func(c *v1beta1.Canary) {
				c.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "broken", Query: "sum(rate("}}
			},
			mend: func(t *team) {
				t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].Query = "vector(0)" })
			},
			says: []string{"spec.analysis.metrics[0].query", "parse"},
		},
	} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			t.apply(podinfo(1))
			if c.before != nil {
				c.before(t)
			}
			t.available("podinfo")
			t.operate("-mesh-provider", "istio")
			broken := canary()
			if c.break_ != nil {
				c.break_(broken)
			}
			t.create(broken)
			seen := t.until("a condition", func(c *v1beta1.Canary) bool {
				h := healthy(c)
				return h != nil && h.Status == corev1.ConditionFalse && h.Reason != "PrimaryNotReady"
			})
			for _, part := range c.says {
				if h := healthy(seen); !strings.Contains(h.Message, part) {
					t.Errorf("condition does not name %q: %s", part, h.Message)
				}
			}
			if n, _ := t.replicas("podinfo"); n != 1 && healthy(seen).Reason != "MetricsUnavailable" {
				t.Errorf("the target was scaled to %d", n)
			}
			c.mend(t)
			t.until("recovery", func(c *v1beta1.Canary) bool {
				h := healthy(c)
				return c.Status.Phase == v1beta1.CanaryPhaseInitialized && (h == nil || h.Status == corev1.ConditionTrue)
			})
			if count(t.events(), c.says[0]) == 0 {
				t.Errorf("no event names %q: %q", c.says[0], t.events())
			}
		})
	}
}

// relabel makes the Deployment anew with another selector label.
func (t *team) relabel(label string) {
	t.Helper()
	foreground := metav1.DeletePropagationBackground
	t.must(t.kube.AppsV1().Deployments(t.ns).Delete(t.Context(), "podinfo", metav1.DeleteOptions{PropagationPolicy: &foreground}))
	deployment := strings.Split(podinfo(1), "\n---\n")[0]
	t.apply(strings.ReplaceAll(deployment, "app: podinfo", label+": podinfo"))
}

// TestRejected makes the mistakes that the API server itself refuses: each answer names the field and says what to do.
func TestRejected(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	for name, c := range map[string]struct {
		edit func(*v1beta1.Canary)
		says []string
	}{
		"bad interval":   {func(c *v1beta1.Canary) { c.Spec.Analysis.Interval = "1mfoo" }, []string{"spec.analysis.interval"}},
		"no step":        {func(c *v1beta1.Canary) { c.Spec.Analysis.StepWeight = 0 }, []string{"spec.analysis", "stepWeight"}},
		"two strategies": {func(c *v1beta1.Canary) { c.Spec.Analysis.Iterations = 3 }, []string{"spec.analysis", "iterations"}},
		"port":           {func(c *v1beta1.Canary) { c.Spec.Service.Port = 70000 }, []string{"spec.service.port"}},
		"provider":       {func(c *v1beta1.Canary) { c.Spec.Provider = "istoi" }, []string{"spec.provider", "istio"}},
	} {
		t.Run(name, func(sub *testing.T) {
			_, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Create(sub.Context(), canary(c.edit), metav1.CreateOptions{})
			for _, part := range c.says {
				if err == nil || !strings.Contains(err.Error(), part) {
					sub.Errorf("error does not name %q: %v", part, err)
				}
			}
		})
	}
}
