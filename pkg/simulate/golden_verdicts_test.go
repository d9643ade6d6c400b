package simulate

import (
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// judgedBy gives the one metric of a Canary a policy.
func judgedBy(p v1beta1.MetricPolicy) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) {
		m := &s.Analysis.Metrics[0]
		m.MetricPolicy = p
		if p.Comparison != nil {
			m.ThresholdRange = nil
		}
	}
}

// shows are the readings of one success rate, changed as of the time in the rollout at which it is asked for.
func shows(change func(w *World, r *analysis.Reading)) func(*World, string) []analysis.Reading {
	return func(w *World, _ string) []analysis.Reading {
		metrics := w.canary.GetAnalysis().Metrics
		if len(metrics) == 0 {
			return nil
		}
		r := analysis.Reading{Metric: metrics[0], Source: analysis.SuccessRate, State: analysis.Value, Value: 100, Provider: "istio", Query: "q"}
		r.Counts = analysis.Counts{Canary: sequential.Counts{Total: 400}, Primary: sequential.Counts{Total: 3600}}
		change(w, &r)
		return []analysis.Reading{r}
	}
}

// down is what a metrics server shows that does not answer between two times.
func down(from, to time.Duration) func(*World, *analysis.Reading) {
	return func(w *World, r *analysis.Reading) {
		if w.Now() >= from && w.Now() < to {
			r.State, r.Cause = analysis.Failed, "connection refused"
		}
	}
}

func failing(canary, primary int64) func(*World, *analysis.Reading) {
	return func(_ *World, r *analysis.Reading) { r.Counts.Canary.Bad, r.Counts.Primary.Bad = canary, primary }
}

func oneWorse() *v1beta1.MetricComparison {
	return &v1beta1.MetricComparison{Difference: &v1beta1.CanaryThresholdRange{Min: new(-1.0)}}
}

// verdicts are traces of what the policies of metrics lead to.
func verdicts() []scenario {
	judged := func(p v1beta1.MetricPolicy, change func(*World, *analysis.Reading), edits ...func(*v1beta1.CanarySpec)) Options {
		edits = append(edits, judgedBy(p))
		return Options{Canary: podinfo(edits...), Provider: mesh(), Template: "v1", Replicas: 2, Readings: shows(change)}
	}
	hold := v1beta1.MetricPolicy{NoData: v1beta1.NoDataHold, NoDataLimit: "5m"}
	bad := func(_ *World, r *analysis.Reading) { r.Value = 90 }
	quiet := func(w *World, r *analysis.Reading) {
		r.Samples = new(int64(20))
		if w.Now() > 5*time.Minute {
			*r.Samples = 200
		}
	}
	return []scenario{
		{"metrics-down", judged(v1beta1.MetricPolicy{}, down(3*time.Minute, 6*time.Minute), threshold(5)), rolls(succeeded)},
		{"metrics-down-hold", judged(hold, down(3*time.Minute, 6*time.Minute), threshold(1)), rolls(succeeded)},
		{"metrics-down-hold-limit", judged(hold, down(3*time.Minute, time.Hour), threshold(2)), rolls(failed)},
		{"min-samples", judged(v1beta1.MetricPolicy{MinSamples: 100}, quiet, threshold(1)), rolls(succeeded)},
		{"warmup", judged(v1beta1.MetricPolicy{Warmup: "3m"}, func(w *World, r *analysis.Reading) {
			if w.Now() < 4*time.Minute {
				r.Value = 50
			}
		}, threshold(1)), rolls(succeeded)},
		{"observed-metric", judged(v1beta1.MetricPolicy{Mode: v1beta1.ModeObserve}, bad, threshold(1)), rolls(succeeded)},
		{"critical-metric", judged(v1beta1.MetricPolicy{Critical: true}, bad), rolls(failed)},
		{"comparison-worse", judged(v1beta1.MetricPolicy{Comparison: oneWorse()}, failing(16, 4), threshold(2)), rolls(failed)},
		{"comparison-critical", judged(v1beta1.MetricPolicy{Comparison: oneWorse(), Critical: true}, failing(16, 4)), rolls(failed)},
		{"comparison-bad-day", judged(v1beta1.MetricPolicy{Comparison: oneWorse()}, failing(40, 360), threshold(1)), rolls(succeeded)},
	}
}

// divided are the readings of a success rate and of how many of a thousand requests the canary got: as many as its weight says, and
// from a time in the rollout on, until another, so many in a hundred more.
func divided(from, to time.Duration, more int64) func(*World, string) []analysis.Reading {
	return func(w *World, template string) []analysis.Reading {
		readings := shows(func(*World, *analysis.Reading) {})(w, template)
		weight := int64(w.canary.Status.CanaryWeight)
		if w.Now() >= from && w.Now() < to {
			weight = min(100, weight+more)
		}
		r := analysis.Reading{Source: analysis.Shares, State: analysis.Value}
		r.Counts.Canary.Total, r.Counts.Primary.Total = 10*weight, 10*(100-weight)
		return append(readings, r)
	}
}

func split(p v1beta1.SplitPolicy) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) { s.Analysis.Split = &p }
}

// splits are traces of what a share that is not the one asked for leads to.
func splits() []scenario {
	judged := func(readings func(*World, string) []analysis.Reading, edits ...func(*v1beta1.CanarySpec)) Options {
		return Options{Canary: podinfo(edits...), Provider: mesh(), Template: "v1", Replicas: 2, Readings: readings}
	}
	enforce := v1beta1.SplitPolicy{Mode: v1beta1.SplitEnforce, Limit: "5m"}
	return []scenario{
		{"split-observed", judged(divided(3*time.Minute, 5*time.Minute, 30), threshold(1)), rolls(succeeded)},
		{"split-enforced", judged(divided(3*time.Minute, 6*time.Minute, 30), threshold(1), split(enforce)), rolls(succeeded)},
		{"split-enforced-limit", judged(divided(3*time.Minute, time.Hour, 30), threshold(2), split(enforce)), rolls(failed)},
		{"split-ignored", judged(divided(0, time.Hour, 30), threshold(1), split(v1beta1.SplitPolicy{Mode: v1beta1.SplitIgnore})), rolls(succeeded)},
	}
}

func TestGoldenSplits(t *testing.T) {
	for _, s := range splits() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}

func TestGoldenVerdicts(t *testing.T) {
	for _, s := range verdicts() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}

// The status says what each metric said last, also after the end of the run, and nothing of the run before.
func TestChecksInStatus(t *testing.T) {
	w := ready(t, podinfo(threshold(2), judgedBy(v1beta1.MetricPolicy{Comparison: oneWorse()})), func(o *Options) {
		o.Readings = shows(func(w *World, r *analysis.Reading) {
			if w.target.template == "v2" {
				failing(40, 4)(w, r)
			}
		})
	})
	w.Ship("v2")
	rest(t, w, failed)
	c := w.Status().Rollout.Checks
	if c == nil || len(c.Metrics) != 1 {
		t.Fatalf("checks %+v", c)
	}
	m := c.Metrics[0]
	if m.Outcome != "fail" || m.Query != "q" || m.Value != "90" || m.Bound != "difference to the primary >= -1" || !strings.Contains(m.Reason, "does not hold") ||
		m.Evidence.CanaryTotal != 800 {
		t.Errorf("verdict %+v, evidence %+v", m, m.Evidence)
	}
	w.Ship("v3")
	untilPhase(t, w, progressing)
	if c := w.Status().Rollout.Checks; c != nil {
		t.Errorf("a new run begins with %+v", c)
	}
	rest(t, w, succeeded)
	if m := w.Status().Rollout.Checks.Metrics[0]; m.Outcome != "pass" || m.Evidence.CanaryTotal != 5*400 || m.Reason != "" {
		t.Errorf("verdict %+v, evidence %+v", m, m.Evidence)
	}
	sound(t, w)
}

// A gate that is asked after the metrics makes no second check of the first: what was counted is counted once, also if the answer of
// the gate takes its time and the operator is killed meanwhile.
func TestCheckBehindASlowGateCountsOnce(t *testing.T) {
	for n := range 12 {
		w := ready(t, podinfo(judgedBy(v1beta1.MetricPolicy{Comparison: oneWorse()}), withHook(v1beta1.ConfirmTrafficIncreaseHook)), func(o *Options) {
			o.Readings = shows(failing(2, 18))
			o.Delay = func(*World, rollout.Need) time.Duration { return 20 * time.Second }
		})
		w.Ship("v2")
		begin := w.Now()
		w.KillAfter(w.Writes() + 4 + n)
		rest(t, w, succeeded)
		most := 400 * int64((w.Now()-begin)/time.Minute)
		if e := w.Status().Rollout.Checks.Metrics[0].Evidence; e.CanaryTotal > most || e.CanaryTotal < 4*400 {
			t.Errorf("killed after write %d: counted %d requests of %d", n, e.CanaryTotal, most)
		}
		sound(t, w)
	}
}
