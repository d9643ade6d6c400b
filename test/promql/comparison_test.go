package promql

import (
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// comparisons are those that count requests: failed ones, and those slower than half a second.
func comparisons() []v1beta1.CanaryMetric {
	zero := 0.0
	return []v1beta1.CanaryMetric{
		{Name: v1beta1.MetricRequestSuccessRate, MetricPolicy: v1beta1.MetricPolicy{
			Comparison: &v1beta1.MetricComparison{Difference: &v1beta1.CanaryThresholdRange{Min: &zero}}}},
		{Name: v1beta1.MetricRequestDuration, MetricPolicy: v1beta1.MetricPolicy{
			Comparison: &v1beta1.MetricComparison{Difference: &v1beta1.CanaryThresholdRange{Max: &zero}, SlowerThan: "500ms"}}},
	}
}

// hasBuckets is whether the exported histogram of durations has the bound of half a second.
func hasBuckets(e export) bool {
	for _, s := range e.series {
		bound := s.labels.Get(labels.BucketLabel)
		if s.side == canary && (bound == "500" || bound == "500.0" || bound == "0.5") && !strings.Contains(s.labels.String(), "skipper_response") {
			return true
		}
	}
	return false
}

// Each side is counted for itself: what the primary does is never told of the canary, and the other way round.
func TestComparedCounts(t *testing.T) {
	good := requests{ok: 20, milliseconds: 40}
	bad := requests{ok: 10, failed: 10, milliseconds: 40}
	slow := requests{ok: 20, milliseconds: 3000}
	for name, e := range exports(t) {
		for what, s := range map[string]struct {
			primary, canary       requests
			failed, slow          [2]float64
			successRate, duration analysis.Outcome
		}{
			"both are well": {good, good, [2]float64{0, 0}, [2]float64{0, 0}, analysis.Pass, analysis.Pass},
			"a bad canary":  {good, bad, [2]float64{0.5, 0}, [2]float64{0, 0}, analysis.Fail, analysis.Pass},
			"a bad primary": {bad, good, [2]float64{0, 0.5}, [2]float64{0, 0}, analysis.Pass, analysis.Pass},
			"a slow canary": {good, slow, [2]float64{0, 0}, [2]float64{1, 0}, analysis.Pass, analysis.Fail},
			"both are bad":  {bad, bad, [2]float64{0.5, 0.5}, [2]float64{0, 0}, analysis.Pass, analysis.Pass},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				if e.together != "" || name == v1beta1.KnativeProvider {
					t.Skip("the sides are not told apart: ", e.together)
				}
				entries := comparisons()
				if !hasBuckets(e) {
					entries = entries[:1]
				}
				db := store(t, e, scenario{primary: s.primary, canary: s.canary}, nil)
				readings := readMetrics(t, name, e, db, entries)
				expectCounts(t, readings[0], s.failed, s.successRate)
				if len(readings) > 1 {
					expectCounts(t, readings[1], s.slow, s.duration)
				}
			})
		}
	}
}

func expectCounts(t *testing.T, r analysis.Reading, shares [2]float64, outcome analysis.Outcome) {
	t.Helper()
	for i, side := range []sequential.Counts{r.Counts.Canary, r.Counts.Primary} {
		if side.Total < 40 || math.Abs(side.Share()-shares[i]) > 0.05 {
			t.Errorf("%s: canary %+v, primary %+v, want shares %v", r.Source, r.Counts.Canary, r.Counts.Primary, shares)
		}
	}
	if v := analysis.Evaluate(analysis.Check{}, []analysis.Reading{r}); v.Outcome != outcome {
		t.Errorf("%s: %s %q, want %s", r.Source, v.Outcome, v.Message, outcome)
	}
}
