package analysis

import (
	"fmt"
	"math"

	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Counted is whether a metric compares counts of requests by a sequential test, and not values.
func Counted(m v1beta1.CanaryMetric) bool {
	if m.Comparison == nil {
		return false
	}
	switch Sources(m)[0] {
	case SuccessRate:
		return true
	case Duration:
		return m.Comparison.SlowerThan != ""
	default:
		return m.Comparison.FalseAlarmRate > 0
	}
}

// tolerance translates the range of a comparison into what a test of bad requests tolerates. Rates are of good requests: a rate of
// at least ρ times that of the primary is a share of bad ones of at most ρ times its share plus 1-ρ.
func tolerance(r Reading) sequential.Tolerance {
	c := r.Metric.Comparison
	rate := r.Source == SuccessRate
	switch {
	case c.Difference != nil && rate:
		return sequential.Tolerance{Slope: 1, Offset: max(0, -or(c.Difference.Min, 0)/100)}
	case c.Difference != nil:
		return sequential.Tolerance{Slope: 1, Offset: max(0, or(c.Difference.Max, 0)/100)}
	case rate:
		least := min(1, or(c.GetRange().Min, 1))
		return sequential.Tolerance{Slope: least, Offset: 1 - least}
	default:
		return sequential.Tolerance{Slope: or(c.GetRange().Max, 1)}
	}
}

func or(value *float64, otherwise float64) float64 {
	if value == nil {
		return otherwise
	}
	return *value
}

// count adds the requests of this check to those of the run. A canary without requests has no data.
func (c Check) count(r *Reading, record *v1beta1.MetricVerdict) {
	e := evidenceOf(record)
	if !c.countedLately() {
		e = e.Look(tolerance(*r), r.Counts.Canary, r.Counts.Primary)
	}
	record.Evidence = evidenceStatus(e)
	if r.Counts.Canary.Total <= 0 {
		r.State, r.Cause = NoData, "no values found"
		return
	}
	total := e.Canary.Total
	record.Samples, record.Value, record.Primary = &total, number(percent(*r, e.Canary)), number(percent(*r, e.Primary))
}

// countedLately is whether requests would be counted twice: those of the last interval were already, if a check is judged again, as
// after a crash.
func (c Check) countedLately() bool {
	b := c.Before
	return b != nil && b.Run == c.Run && b.CheckedAt != nil && c.Now.Sub(b.CheckedAt.Time).Abs() < c.Interval
}

// comparesNothing is whether there is no primary to compare with. One that gets no requests any more has answered enough before.
func comparesNothing(r Reading, record *v1beta1.MetricVerdict) bool {
	if Counted(r.Metric) {
		return record.Evidence.PrimaryTotal == 0
	}
	return r.Metric.Comparison != nil && math.IsNaN(r.Primary)
}

// percent is a share as the metric gives it: of good requests for a rate, of bad ones else.
func percent(r Reading, c sequential.Counts) float64 {
	if r.Source == SuccessRate {
		return 100 - 100*c.Share()
	}
	return 100 * c.Share()
}

func (c Check) judgeCounts(r Reading, record *v1beta1.MetricVerdict) (Outcome, string) {
	alpha := r.Metric.Comparison.GetFalseAlarmRate()
	e := evidenceOf(record)
	if !e.Rejects(alpha) {
		return Pass, ""
	}
	return Fail, c.halt("%s %.2f%% against %.2f%% of the primary: %s does not hold for %d and %d requests, p %.2g <= %v", subject(r),
		percent(r, e.Canary), percent(r, e.Primary), comparisonText(*r.Metric.Comparison), e.Canary.Total, e.Primary.Total, e.P(), alpha)
}

// subject is what a message is about.
func subject(r Reading) string {
	switch {
	case r.Source == SuccessRate:
		return "success rate"
	case r.Source == Duration && r.Metric.Comparison.SlowerThan != "":
		return "share of requests slower than " + r.Metric.Comparison.SlowerThan
	case r.Source == Duration:
		return "request duration"
	default:
		return r.Metric.Name
	}
}

// judgeAgainstPrimary compares two values as they are.
func (c Check) judgeAgainstPrimary(r Reading) (Outcome, string) {
	what, value, good := "difference", r.Value-r.Primary, r.Metric.Comparison.GetRange()
	if r.Metric.Comparison.Difference == nil {
		what, value = "ratio", ratio(r.Value, r.Primary)
	}
	var v violation
	switch {
	case good.Min != nil && !(value >= *good.Min):
		v = violation{"<", *good.Min}
	case good.Max != nil && !(value <= *good.Max):
		v = violation{">", *good.Max}
	default:
		return Pass, ""
	}
	text := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	if r.Source == Duration {
		text = func(v float64) string { return milliseconds(v).String() }
	}
	return Fail, c.halt("%s %s against %s of the primary: %s %.2f %s %v", subject(r), text(r.Value), text(r.Primary), what, value, v.sign, v.bound)
}

// ratio of two values that are alike is 1, also if both are 0.
func ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}

// comparisonText is the range of a comparison as the status and messages show it.
func comparisonText(c v1beta1.MetricComparison) string {
	what, good := "difference", c.GetRange()
	if c.Difference == nil {
		what = "ratio"
	}
	text := what + " to the primary " + rangeText(good.Min, good.Max)
	if c.SlowerThan != "" {
		text += " in requests slower than " + c.SlowerThan
	}
	return text
}

func evidenceOf(v *v1beta1.MetricVerdict) sequential.Evidence {
	if v == nil || v.Evidence == nil {
		return sequential.Evidence{}
	}
	e := v.Evidence
	return sequential.Evidence{
		LogWealth: e.LogWealth, Peak: e.Peak,
		Canary:  sequential.Counts{Bad: e.CanaryBad, Total: e.CanaryTotal},
		Primary: sequential.Counts{Bad: e.PrimaryBad, Total: e.PrimaryTotal},
	}
}

func evidenceStatus(e sequential.Evidence) *v1beta1.ComparisonEvidence {
	return &v1beta1.ComparisonEvidence{
		LogWealth: e.LogWealth, Peak: e.Peak, CanaryBad: e.Canary.Bad, CanaryTotal: e.Canary.Total,
		PrimaryBad: e.Primary.Bad, PrimaryTotal: e.Primary.Total,
	}
}
