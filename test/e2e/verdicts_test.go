package e2e

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// failures is a metric that counts: the primary fails 9 of 9000 requests, the canary as many of 1000 as said.
func failures(bad string) v1beta1.CanaryMetric {
	one := 1.0
	return v1beta1.CanaryMetric{
		Name: "failures", Query: `vector({{ if eq side "primary" }}9{{ else }}` + bad + `{{ end }})`,
		MetricPolicy: v1beta1.MetricPolicy{
			SamplesQuery: `vector({{ if eq target "podinfo-primary" }}9000{{ else }}1000{{ end }})`,
			Comparison:   &v1beta1.MetricComparison{Difference: &v1beta1.CanaryThresholdRange{Max: &one}, FalseAlarmRate: 0.01},
		},
	}
}

// A canary that is worse than its primary is taken back, where the constant that its other metric has lets it pass.
func TestComparisonWithThePrimary(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	r := t.receiver()
	t.operate()
	// 97 % of the requests are good, and the constant asks for 95 %.
	low := 95.0
	t.create(canary(r.hears, func(c *v1beta1.Canary) {
		m := &c.Spec.Analysis.Metrics[0]
		m.ThresholdRange.Min, m.TemplateVariables["value"] = &low, "97"
		c.Spec.Analysis.Metrics = append(c.Spec.Analysis.Metrics, failures("5"))
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	done := t.settled(v1beta1.CanaryPhaseSucceeded)
	if e := done.Status.Rollout.Checks.Metrics[0].Evidence; e == nil || e.CanaryTotal < 2000 || e.CanaryBad*200 != e.CanaryTotal || e.PrimaryTotal != 9*e.CanaryTotal {
		t.Errorf("evidence of the good canary: %+v", e)
	}

	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[1] = failures("30") })
	t.ship(v3)
	done = t.settled(v1beta1.CanaryPhaseFailed)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("primary runs %s after the rollback", image)
	}
	r.heard(onboarded, begun, succeeded, begun, tooMany)
	halt := "Halt podinfo." + t.ns + " advancement failures 3.00% against 0.10% of the primary: difference to the primary <= 1 does not hold for "
	if n := count(t.events(), halt); n != 2 {
		t.Errorf("%q is told %d times in %q", halt, n, t.events())
	}
	for _, m := range done.Status.Rollout.Checks.Metrics {
		want := map[string]string{"constant": v1beta1.OutcomePass, "failures": v1beta1.OutcomeFail}[m.Name]
		if m.Outcome != want || m.Query == "" || m.Value == "" || m.Bound == "" {
			t.Errorf("verdict %+v, want %s", m, want)
		}
	}
	list, err := t.kube.CoreV1().Events(t.ns).List(context.Background(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Canary"})
	t.must(err)
	for _, e := range list.Items {
		a := e.Annotations
		if strings.HasPrefix(e.Message, halt) && (a["flagger.app/metric"] != "failures" || a["flagger.app/value"] != "3" ||
			a["flagger.app/primary-value"] != "0.1" || a["flagger.app/query"] != "vector(30)" || a["flagger.app/bound"] == "") {
			t.Errorf("annotations %v", a)
		}
	}
}

// A metric that waits for its server fails no check while that is down, and the rollout goes on when it is back.
func TestHoldWhileTheMetricsServerIsDown(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.operate()
	t.create(canary(func(c *v1beta1.Canary) {
		c.Spec.Analysis.Threshold = 1
		c.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{
			Name: "always", Query: "vector(1)", ThresholdRange: &v1beta1.CanaryThresholdRange{Max: new(1.0)},
			MetricPolicy: v1beta1.MetricPolicy{NoData: v1beta1.NoDataHold},
		}}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.edit(func(s *v1beta1.CanarySpec) { s.MetricsServer = "http://127.0.0.1:1" })
	t.ship(v2)
	t.until("wait for the metrics server", func(c *v1beta1.Canary) bool {
		r := c.Status.Rollout
		return r != nil && r.Checks != nil && len(r.Checks.Metrics) == 1 && r.Checks.Metrics[0].Outcome == v1beta1.OutcomeHold &&
			c.Status.CanaryWeight == 20 && c.Status.FailedChecks == 0
	})
	t.edit(func(s *v1beta1.CanarySpec) { s.MetricsServer = "" })
	done := t.settled(v1beta1.CanaryPhaseSucceeded)
	if m := done.Status.Rollout.Checks.Metrics[0]; m.Outcome != v1beta1.OutcomePass || m.NoDataSince != nil {
		t.Errorf("verdict %+v", m)
	}
	if n := count(t.events(), "failed checks"); n != 0 {
		t.Errorf("failed checks are told of in %q", t.events())
	}
}
