package analysis

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Outcome is what a verdict comes to.
type Outcome string

// The outcomes. Everything but Pass and Hold is a failed check.
const (
	// Pass is given when every reading has a value within its range, and when there are no readings.
	Pass Outcome = v1beta1.OutcomePass
	// Fail is given for a value out of range and for a metric without data.
	Fail Outcome = v1beta1.OutcomeFail
	// Hold is given by a metric that is to wait: for data, for samples, for the end of its warm-up.
	Hold Outcome = v1beta1.OutcomeHold
	// Error is given when a metric could not be asked: its provider is down, refuses the query, or does not exist.
	Error Outcome = v1beta1.OutcomeError
)

// Source is where the value of a metric comes from.
type Source string

// The sources. SuccessRate and Duration are the built-in metrics, Inline is spec.analysis.metrics[].query, Template is
// templateRef. None stands for an entry that has none of them. Shares is no metric, but how many requests each side got.
const (
	SuccessRate Source = "success-rate"
	Duration    Source = "duration"
	Inline      Source = "inline"
	Template    Source = "template"
	None        Source = "none"
	Shares      Source = "shares"
)

// State is what became of the attempt to read a metric.
type State string

// The states.
const (
	// Value means that the reading has a value.
	Value State = "value"
	// NoData means that the provider answered and has no values.
	NoData State = "no-data"
	// Failed means that the query was sent, or should have been, and failed.
	Failed State = "failed"
	// Unusable means that no query could be made: the template, its Secret or its provider is missing or wrong.
	Unusable State = "unusable"
)

// ID names the Canary that is judged.
type ID struct {
	Name, Namespace string
	// Target is the name of spec.targetRef.
	Target string
}

// Reading is one evaluation of one entry of spec.analysis.metrics. An entry with both a query and a templateRef has two.
type Reading struct {
	// Index is the position of the entry in spec.analysis.metrics.
	Index  int
	Metric v1beta1.CanaryMetric
	Source Source
	State  State
	// Value is meaningful in the state Value: milliseconds for Duration, percent for SuccessRate, else as returned.
	Value float64
	// Cause is the text of what failed; in the state Unusable it is the complete message.
	Cause string
	// Provider is the name of the metrics provider that messages about built-in metrics give.
	Provider string
	// Query is the query as it was sent, empty if none was.
	Query string
	// Samples is the number of requests that the value rests on, nil where nobody counts them.
	Samples *int64
	// Primary is what the same query says about the primary, in an entry that compares values.
	Primary float64
	// Counts are the requests since the check before, in an entry that compares counts, and of Shares. Value and Primary are not used then.
	Counts Counts
}

// Counts are the requests of both sides since the check before.
type Counts struct{ Canary, Primary sequential.Counts }

func (r Reading) builtIn() bool { return r.Source == SuccessRate || r.Source == Duration }

// Verdict is the judgement over all readings of one check.
type Verdict struct {
	Outcome Outcome
	// Message is the text of the event, empty for Pass.
	Message string
	// Error asks for the message to be logged at the level error.
	Error bool
	// Metric is the name of the metric that decided, empty for Pass.
	Metric string
	// NoRequests is whether a built-in metric decided because it has no values. Those are about requests that the canary answered.
	NoRequests bool
	// Critical is whether a critical metric has a value out of range, which takes the canary back at once.
	Critical bool
	// Divided is whether the rollout is held because the requests are not divided as they should be.
	Divided bool
	// Readings are all readings of metrics in the order in which they were judged.
	Readings []Reading
	// Record is what the check leaves in the status, nil where nothing was judged.
	Record *v1beta1.ChecksStatus
	// Decisive is the verdict on the metric that decided, nil for Pass.
	Decisive *v1beta1.MetricVerdict
	// Observed are messages about metrics that decide nothing and have another outcome than at the check before.
	Observed []string
	// Warned are those that somebody should look into.
	Warned []string
}

// Check is what readings are judged for.
type Check struct {
	ID
	// Run and Number tell the check from others.
	Run, Number int64
	// Interval is the time between two checks, and that for which a comparison counts requests.
	Interval time.Duration
	// Now is when the readings were taken.
	Now time.Time
	// Limit is how long a metric may be without data that sets no noDataLimit.
	Limit time.Duration
	// Before is what the check before left in the status. That of another run counts for nothing.
	Before *v1beta1.ChecksStatus
	// Split is nil where the step asks for no share of the requests.
	Split *Split
}

// judgement is what is made of one reading.
type judgement struct {
	outcome Outcome
	message string
	// noRequests and critical are as in a Verdict.
	noRequests, critical bool
	record               v1beta1.MetricVerdict
}

// Evaluate judges the readings: built-in metrics and inline queries first, then templates, each in the order of the list. A
// critical metric out of range decides before all others, then the first failure, then the first metric that asks to wait, then how the
// requests are divided; no readings pass.
func Evaluate(check Check, readings []Reading) Verdict {
	readings, shares := apart(readings)
	ordered := inOrder(readings)
	v := Verdict{Outcome: Pass, Readings: ordered, Record: check.newRecord()}
	grave := 0
	for _, r := range ordered {
		j := check.judge(r)
		v.Record.Metrics = append(v.Record.Metrics, j.record)
		if r.Metric.Mode == v1beta1.ModeObserve {
			if before := check.before(r); before == nil && j.outcome != Pass || before != nil && before.Outcome != string(j.outcome) {
				v.Observed = append(v.Observed, observedMessage(r, j))
			}
			continue
		}
		if j.gravity() <= grave {
			continue
		}
		grave = j.gravity()
		v.Outcome, v.Message, v.Error, v.Metric = j.outcome, j.message, j.outcome == Error, r.Metric.Name
		v.NoRequests, v.Critical = j.noRequests, j.critical
		v.Decisive = j.record.DeepCopy()
		v.Decisive.Evidence = nil
	}
	if check.Split != nil && shares != nil {
		check.judgeSplit(*shares).decide(&v, grave)
	}
	shorten(v.Record.Metrics)
	if v.Decisive != nil {
		v.Decisive.Query, v.Decisive.Reason = cut(v.Decisive.Query, maxText), ""
	}
	return v
}

// gravity orders judgements by what they lead to.
func (j judgement) gravity() int {
	switch {
	case j.critical:
		return 3
	case j.outcome == Fail || j.outcome == Error:
		return 2
	case j.outcome == Hold:
		return 1
	default:
		return 0
	}
}

// inOrder sorts by pass and index without touching the caller's slice.
func inOrder(readings []Reading) []Reading {
	ordered := append([]Reading(nil), readings...)
	slices.SortStableFunc(ordered, func(a, b Reading) int {
		return cmp.Or(cmp.Compare(pass(a.Source), pass(b.Source)), cmp.Compare(a.Index, b.Index))
	})
	return ordered
}

func pass(s Source) int {
	if s == Template || s == None {
		return 2
	}
	return 1
}

// unread is what is made of a reading without a value, where nothing else is asked for.
func unread(id ID, r Reading) (Outcome, string) {
	switch {
	case r.Source == None:
		return Error, "Metric query failed for no usable metrics template and query were configured"
	case r.State == NoData:
		return Fail, noDataMessage(id, r)
	case r.State == Failed:
		return Error, failedMessage(r)
	case r.State == Unusable:
		return Error, r.Cause
	default:
		return Error, fmt.Sprintf("Metric %s was not read: unknown state %q", r.Metric.Name, r.State)
	}
}

func noDataMessage(id ID, r Reading) string {
	const builtIn = "Halt advancement no values found for %s metric %s probably %s.%s is not receiving traffic"
	switch r.Source {
	case SuccessRate:
		return fmt.Sprintf(builtIn+": running query failed: %s", r.Provider, r.Metric.Name, id.Target, id.Namespace, r.Cause)
	case Duration:
		return fmt.Sprintf(builtIn, r.Provider, r.Metric.Name, id.Target, id.Namespace)
	case Inline:
		return fmt.Sprintf("Halt advancement no values found for metric: %s", r.Metric.Name)
	default:
		return fmt.Sprintf("Halt advancement no values found for custom metric: %s: %s", r.Metric.Name, r.Cause)
	}
}

func failedMessage(r Reading) string {
	switch r.Source {
	case SuccessRate, Duration:
		return fmt.Sprintf("Prometheus query failed: %s", r.Cause)
	case Inline:
		return fmt.Sprintf("Prometheus query failed for %s: %s", r.Metric.Name, r.Cause)
	default:
		return fmt.Sprintf("Metric query failed for %s: %s", r.Metric.Name, r.Cause)
	}
}

// violation is a bound that a value does not keep.
type violation struct {
	sign  string
	bound float64
}

// breach finds the bound that the value does not keep. Without a thresholdRange the deprecated threshold is the minimum of
// a success rate and the maximum of anything else.
func breach(r Reading) (violation, bool) {
	lower, upper := bounds(r)
	switch {
	case lower != nil && against(r, *lower) < *lower:
		return violation{"<", *lower}, true
	case upper != nil && against(r, *upper) > *upper:
		return violation{">", *upper}, true
	}
	return violation{}, false
}

func bounds(r Reading) (lower, upper *float64) {
	switch {
	case r.Metric.ThresholdRange != nil:
		return r.Metric.ThresholdRange.Min, r.Metric.ThresholdRange.Max
	case r.Source == SuccessRate:
		return &r.Metric.Threshold, nil
	default:
		return nil, &r.Metric.Threshold
	}
}

// against is the value as it is compared with a bound. Durations count in whole milliseconds, so that 500.9 ms keeps a
// limit of 500, unless the bound itself is finer than that.
func against(r Reading, bound float64) float64 {
	if r.Source == Duration && bound == math.Trunc(bound) {
		return math.Trunc(r.Value)
	}
	return r.Value
}

func judgeValue(id ID, r Reading) (Outcome, string) {
	v, broken := breach(r)
	if !broken {
		return Pass, ""
	}
	prefix := fmt.Sprintf("Halt %s.%s advancement ", id.Name, id.Namespace)
	switch r.Source {
	case SuccessRate:
		return Fail, prefix + fmt.Sprintf("success rate %.2f%% %s %v%%", r.Value, v.sign, v.bound)
	case Duration:
		return Fail, prefix + fmt.Sprintf("request duration %v %s %v", milliseconds(against(r, v.bound)), v.sign, milliseconds(v.bound))
	default:
		return Fail, prefix + fmt.Sprintf("%s %.2f %s %v", r.Metric.Name, r.Value, v.sign, v.bound)
	}
}

// milliseconds converts without the overflow that infinite and huge values would have.
func milliseconds(ms float64) time.Duration {
	ns := ms * float64(time.Millisecond)
	switch {
	case ns >= math.MaxInt64:
		return math.MaxInt64
	case ns <= math.MinInt64:
		return math.MinInt64
	}
	return time.Duration(ns)
}
