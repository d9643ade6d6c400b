package analysis

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Outcome is what a verdict comes to.
type Outcome string

// The outcomes. Everything but Pass and Hold is a failed check.
const (
	// Pass is given when every reading has a value within its range, and when there are no readings.
	Pass Outcome = "pass"
	// Fail is given for a value out of range and for a metric without data.
	Fail Outcome = "fail"
	// Hold is given by a metric that asks to wait where it has no answer. No field asks for that yet.
	Hold Outcome = "hold"
	// Error is given when a metric could not be asked: its provider is down, refuses the query, or does not exist.
	Error Outcome = "error"
)

// Source is where the value of a metric comes from.
type Source string

// The sources. SuccessRate and Duration are the built-in metrics, Inline is spec.analysis.metrics[].query, Template is
// templateRef. None stands for an entry that has none of them.
const (
	SuccessRate Source = "success-rate"
	Duration    Source = "duration"
	Inline      Source = "inline"
	Template    Source = "template"
	None        Source = "none"
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
}

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
	// Readings are all readings in the order in which they were judged.
	Readings []Reading
}

// Evaluate judges the readings: built-in metrics and inline queries first, then templates, each in the order of the list.
// The first failure decides; no readings pass.
func Evaluate(id ID, readings []Reading) Verdict {
	ordered := inOrder(readings)
	for _, r := range ordered {
		outcome, message := judge(id, r)
		if outcome == Pass {
			continue
		}
		return Verdict{
			Outcome:    outcome,
			Message:    message,
			Error:      outcome == Error,
			Metric:     r.Metric.Name,
			NoRequests: outcome == Fail && r.builtIn() && (r.State == NoData || math.IsNaN(r.Value)),
			Readings:   ordered,
		}
	}
	return Verdict{Outcome: Pass, Readings: ordered}
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

func judge(id ID, r Reading) (Outcome, string) {
	if r.Source == None {
		return Error, "Metric query failed for no usable metrics template and query were configured"
	}
	switch r.State {
	case Value:
		// NaN is within every range, so it has to be caught before it is compared.
		if math.IsNaN(r.Value) {
			r.Cause = "no values found"
			return Fail, noDataMessage(id, r)
		}
		return judgeValue(id, r)
	case NoData:
		return Fail, noDataMessage(id, r)
	case Failed:
		return Error, failedMessage(r)
	case Unusable:
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
