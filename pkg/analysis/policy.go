package analysis

import (
	"fmt"
	"math"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// judge judges one reading by its range, or by the primary, and by what its metric says about data that is missing.
func (c Check) judge(r Reading) judgement {
	j := judgement{record: newVerdict(r)}
	j.record.Bound = boundText(r)
	before := c.before(r)
	if before != nil {
		j.record.Evidence = before.Evidence.DeepCopy()
	}
	if r.State == Value && math.IsNaN(r.Value) {
		// NaN is within every range, so it has to be caught before it is compared.
		r.State, r.Cause, j.record.Value = NoData, "no values found", ""
	}
	if r.Source != None && c.warmsUp(r.Metric) {
		j.outcome, j.message = Hold, c.halt("metric %s is judged when the canary has had traffic for %s", r.Metric.Name, r.Metric.Warmup)
		carryNoData(&j.record, before)
	} else if message, lacking := c.lacking(&r, &j.record); lacking {
		c.withoutData(r, &j, message)
	} else {
		c.withValue(r, &j)
	}
	j.record.Outcome = string(j.outcome)
	if j.outcome != Pass {
		j.record.Reason = j.message
	}
	return j
}

func (c Check) halt(format string, args ...any) string {
	return fmt.Sprintf("Halt %s.%s advancement ", c.Name, c.Namespace) + fmt.Sprintf(format, args...)
}

func (c Check) withValue(r Reading, j *judgement) {
	switch {
	case r.Metric.Comparison == nil:
		j.outcome, j.message = judgeValue(c.ID, r)
	case Counted(r.Metric):
		j.outcome, j.message = c.judgeCounts(r, &j.record)
	default:
		j.outcome, j.message = c.judgeAgainstPrimary(r)
	}
	j.critical = j.outcome == Fail && r.Metric.Critical
}

// lacking is whether there is nothing to judge by, and why if that is not for want of a value.
func (c Check) lacking(r *Reading, record *v1beta1.MetricVerdict) (message string, lacking bool) {
	if r.State == Value && Counted(r.Metric) {
		c.count(r, record)
	}
	samples := record.Samples
	switch {
	case r.State != Value:
		return "", true
	case comparesNothing(*r, record):
		return c.halt("metric %s can't be compared, the primary has no values: see that its query finds the primary by {{ target }} or {{ side }}", r.Metric.Name), true
	case samples != nil && *samples < int64(r.Metric.MinSamples):
		return c.halt("metric %s has %d of the %d samples that minSamples asks for", r.Metric.Name, *samples, r.Metric.MinSamples), true
	default:
		return "", false
	}
}

// withoutData is what a metric without data comes to, by its policy. A server that does not answer is never a pass, and a mistake
// in the spec is nothing to wait for.
func (c Check) withoutData(r Reading, j *judgement, message string) {
	failure := Fail
	if message == "" {
		failure, message = unread(c.ID, r)
		j.noRequests = failure == Fail && r.builtIn()
	}
	j.outcome, j.message = failure, message
	policy := r.Metric.GetNoData()
	answered := failure == Fail
	if policy == v1beta1.NoDataFail || policy == v1beta1.NoDataPass && !answered {
		return
	}
	carryNoData(&j.record, c.before(r))
	if j.record.NoDataSince == nil || j.record.NoDataSince.After(c.Now) {
		j.record.NoDataSince = micro(c.Now)
	}
	limit := r.Metric.GetNoDataLimit(c.Limit)
	switch {
	case c.Now.Sub(j.record.NoDataSince.Time) >= limit:
		j.message += fmt.Sprintf(" (no data for %s)", limit)
	case policy == v1beta1.NoDataHold:
		j.outcome, j.noRequests = Hold, false
	default:
		j.outcome, j.message, j.noRequests = Pass, "", false
	}
}

// warmsUp is whether the canary has not had traffic for long enough.
func (c Check) warmsUp(m v1beta1.CanaryMetric) bool {
	warmup, err := time.ParseDuration(m.Warmup)
	return err == nil && c.Now.Before(c.trafficSince().Add(warmup))
}

func observedMessage(r Reading, j judgement) string {
	if j.outcome == Pass {
		return fmt.Sprintf("Observed metric %s passes", r.Metric.Name)
	}
	return fmt.Sprintf("Observed metric %s would say: %s", r.Metric.Name, j.message)
}
