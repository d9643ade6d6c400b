package e2e

import (
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// flaky and asFlaky fail 4 of 100 requests, flakier fails 24.
const (
	flaky, asFlaky, flakier = "stefanprodan/podinfo:6.9.6", "stefanprodan/podinfo:6.9.7", "stefanprodan/podinfo:6.9.8"
	// compared is how many requests of the canary have been counted when nothing is left to chance: the test finds flakier out
	// after a hundred, in each of 300 simulated runs with 5, 20 or 100 of them a check.
	compared = 300
)

// byConstantAndPrimary judges the success rate twice: by a constant that all of these versions satisfy, and by the primary, which the
// canary may stay two points behind. Both wait where there is too little to judge by, so no pause of the machine fails a check.
func byConstantAndPrimary(s *v1beta1.CanarySpec) {
	least, behind := 60.0, -2.0
	waits := v1beta1.MetricPolicy{NoData: v1beta1.NoDataHold, NoDataLimit: patience.String()}
	constant := v1beta1.CanaryMetric{
		Name: "request-success-rate", Interval: "10s", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &least}, MetricPolicy: waits,
	}
	constant.MinSamples = 20
	primary := v1beta1.CanaryMetric{Name: "request-success-rate", MetricPolicy: waits}
	primary.Comparison = &v1beta1.MetricComparison{Difference: &v1beta1.CanaryThresholdRange{Min: &behind}, FalseAlarmRate: 0.01}
	s.SkipAnalysis = false
	// Requests are counted over this. It has to hold two scrapes on a busy machine as well.
	s.Analysis.Interval = "5s"
	s.Analysis.Metrics = []v1beta1.CanaryMetric{constant, primary}
}

// evidence is what the comparison has counted in a run.
func evidence(c *v1beta1.Canary) v1beta1.ComparisonEvidence {
	if r := c.Status.Rollout; r != nil && r.Checks != nil {
		for _, m := range r.Checks.Metrics {
			if m.Evidence != nil {
				return *m.Evidence
			}
		}
	}
	return v1beta1.ComparisonEvidence{}
}

// comparedWithPrimary promotes a canary that is as bad as its primary, and takes one back that is worse, whom a constant lets pass up
// to the gate of its promotion. Gates keep both where they are until enough requests were counted, however long that takes.
func comparedWithPrimary(l *loaded) {
	r := l.receiver()
	l.onboard(l.inSteps(50), r.hears, func(c *v1beta1.Canary) {
		c.Spec.SkipAnalysis = true
		c.Spec.Analysis.Alerts[0].Severity = v1beta1.SeverityError
	})
	l.promote(flaky)
	l.edit(byConstantAndPrimary)
	l.upTo(100)
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(asFlaky) }, func() {
		l.until("enough requests", func(c *v1beta1.Canary) bool { return evidence(c).CanaryTotal >= compared })
		l.set(v1beta1.ConfirmPromotionHook, true)
	})
	l.rests(asFlaky)
	r.heard()

	l.set(v1beta1.ConfirmPromotionHook, false)
	l.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[1].Mode = v1beta1.ModeObserve })
	failed := l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(flakier) }, func() {
		l.enters(v1beta1.CanaryPhaseWaitingPromotion)
		l.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[1].Mode = v1beta1.ModeEnforce })
	})
	l.rests(asFlaky)
	r.heard(tooMany)
	e, told := evidence(failed), l.events()
	l.Logf("taken back by %+v", e)
	if e.CanaryBad*e.PrimaryTotal <= 2*e.PrimaryBad*e.CanaryTotal {
		l.Errorf("the canary was taken back by %+v", e)
	}
	if n := count(told, "W Halt podinfo."+l.ns+" advancement success rate "); n != 2 || count(told, "% < 60%") > 0 {
		l.Errorf("%d checks failed by the success rate, want 2 by the primary:\n%s", n, strings.Join(told, "\n"))
	}
}
