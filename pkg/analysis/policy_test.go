package analysis

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// with returns a reading of a template with a maximum of 5, changed.
func with(change ...func(*Reading)) Reading {
	r := reading(Template, 1, between(nil, ptr(5)), 0)
	for _, c := range change {
		c(&r)
	}
	return r
}

func value(v float64) func(*Reading) { return func(r *Reading) { r.Value = v } }

func state(s State) func(*Reading) {
	return func(r *Reading) { r.State, r.Cause = s, "boom" }
}

func policy(p v1beta1.MetricPolicy) func(*Reading) {
	return func(r *Reading) { r.Metric.MetricPolicy = p }
}

func samples(n int64) func(*Reading) { return func(r *Reading) { r.Samples = &n } }

func builtIn(r *Reading) {
	*r = reading(SuccessRate, r.Value, between(ptr(99), nil), 0)
	r.Value = 100
}

// check is the second one of run 7, ten minutes after the first, which left the record.
func check(before ...v1beta1.MetricVerdict) Check {
	return Check{
		ID: id, Run: 7, Number: 2, Now: noon, Limit: 15 * time.Minute,
		Before: &v1beta1.ChecksStatus{Run: 7, Check: 1, TrafficSince: micro(noon.Add(-10 * time.Minute)), Metrics: before},
	}
}

// lackedSince is a record of a metric without data for so long.
func lackedSince(ago time.Duration) v1beta1.MetricVerdict {
	return v1beta1.MetricVerdict{Name: "latency", Source: "template", Outcome: "hold", Bound: "<= 5", NoDataSince: micro(noon.Add(-ago))}
}

func TestPolicies(t *testing.T) {
	hold, pass := v1beta1.MetricPolicy{NoData: "hold"}, v1beta1.MetricPolicy{NoData: "pass", NoDataLimit: "5m"}
	many := v1beta1.MetricPolicy{MinSamples: 100}
	none := "Halt advancement no values found for custom metric: latency: boom"
	for name, tc := range map[string]struct {
		reading Reading
		before  []v1beta1.MetricVerdict
		want    Outcome
		message string
	}{
		"no data":                    {with(state(NoData)), nil, Fail, none},
		"no data, hold":              {with(state(NoData), policy(hold)), nil, Hold, none},
		"server down, hold":          {with(state(Failed), policy(hold)), nil, Hold, "Metric query failed for latency: boom"},
		"no template, hold":          {with(state(Unusable), policy(hold)), nil, Hold, "boom"},
		"hold for long":              {with(state(NoData), policy(hold)), []v1beta1.MetricVerdict{lackedSince(14 * time.Minute)}, Hold, none},
		"hold for too long":          {with(state(NoData), policy(hold)), []v1beta1.MetricVerdict{lackedSince(15 * time.Minute)}, Fail, none + " (no data for 15m0s)"},
		"server down for too long":   {with(state(Failed), policy(hold)), []v1beta1.MetricVerdict{lackedSince(time.Hour)}, Error, "Metric query failed for latency: boom (no data for 15m0s)"},
		"no data, pass":              {with(state(NoData), policy(pass)), nil, Pass, ""},
		"pass for too long":          {with(state(NoData), policy(pass)), []v1beta1.MetricVerdict{lackedSince(5 * time.Minute)}, Fail, none + " (no data for 5m0s)"},
		"server down is no pass":     {with(state(Failed), policy(pass)), nil, Error, "Metric query failed for latency: boom"},
		"clock set back":             {with(state(NoData), policy(hold)), []v1beta1.MetricVerdict{lackedSince(-time.Hour)}, Hold, none},
		"few samples":                {with(samples(99), policy(many)), nil, Hold, "Halt podinfo.test advancement metric latency has 99 of the 100 samples that minSamples asks for"},
		"few samples, a bad value":   {with(samples(99), value(9), policy(many)), nil, Hold, "Halt podinfo.test advancement metric latency has 99 of the 100 samples that minSamples asks for"},
		"few samples, fail":          {with(samples(0), policy(v1beta1.MetricPolicy{MinSamples: 1, NoData: "fail"})), nil, Fail, "Halt podinfo.test advancement metric latency has 0 of the 1 samples that minSamples asks for"},
		"few samples, pass":          {with(samples(99), policy(v1beta1.MetricPolicy{MinSamples: 100, NoData: "pass"})), nil, Pass, ""},
		"enough samples":             {with(samples(100), policy(many)), nil, Pass, ""},
		"enough samples, bad":        {with(samples(100), value(9), policy(many)), nil, Fail, "Halt podinfo.test advancement latency 9.00 > 5"},
		"warming up":                 {with(value(9), policy(v1beta1.MetricPolicy{Warmup: "11m"})), nil, Hold, "Halt podinfo.test advancement metric latency is judged when the canary has had traffic for 11m"},
		"warmed up":                  {with(value(9), policy(v1beta1.MetricPolicy{Warmup: "10m"})), nil, Fail, "Halt podinfo.test advancement latency 9.00 > 5"},
		"observed":                   {with(value(9), policy(v1beta1.MetricPolicy{Mode: "observe"})), nil, Pass, ""},
		"observed, holding":          {with(state(NoData), policy(v1beta1.MetricPolicy{Mode: "observe", NoData: "hold"})), nil, Pass, ""},
		"critical":                   {with(value(9), policy(v1beta1.MetricPolicy{Critical: true})), nil, Fail, "Halt podinfo.test advancement latency 9.00 > 5"},
		"critical, no data":          {with(state(NoData), policy(v1beta1.MetricPolicy{Critical: true})), nil, Fail, none},
		"mistake in the spec, hold":  {Reading{Source: None, State: Unusable, Metric: v1beta1.CanaryMetric{MetricPolicy: v1beta1.MetricPolicy{Warmup: "1h"}}}, nil, Error, "Metric query failed for no usable metrics template and query were configured"},
		"built-in, no data, hold":    {with(builtIn, state(NoData), policy(hold)), nil, Hold, "Halt advancement no values found for istio metric request-success-rate probably podinfo-app.test is not receiving traffic: running query failed: boom"},
		"duration without a mistake": {with(policy(v1beta1.MetricPolicy{NoDataLimit: "no duration", NoData: "hold"}), state(NoData)), nil, Hold, none},
	} {
		t.Run(name, func(t *testing.T) {
			v := Evaluate(check(tc.before...), []Reading{tc.reading})
			if v.Outcome != tc.want || v.Message != tc.message || v.Error != (tc.want == Error) {
				t.Errorf("%s %q, error %v\nwant %s %q", v.Outcome, v.Message, v.Error, tc.want, tc.message)
			}
			if want := strings.HasPrefix(name, "critical") && tc.reading.State == Value; v.Critical != want {
				t.Errorf("critical %v, want %v", v.Critical, want)
			}
		})
	}
}

// One metric that waits does not keep another from failing, and a critical one is heard before all others.
func TestTheWorstDecides(t *testing.T) {
	waits := with(state(NoData), policy(v1beta1.MetricPolicy{NoData: "hold"}))
	fails, grave := with(value(9)), with(value(8), policy(v1beta1.MetricPolicy{Critical: true}))
	for name, tc := range map[string]struct {
		readings []Reading
		want     string
	}{
		"a hold and a pass":     {[]Reading{waits, with()}, "Halt advancement no values found for custom metric: latency: boom"},
		"a hold and a failure":  {[]Reading{waits, fails}, "Halt podinfo.test advancement latency 9.00 > 5"},
		"two failures":          {[]Reading{fails, with(value(7))}, "Halt podinfo.test advancement latency 9.00 > 5"},
		"a failure, a critical": {[]Reading{fails, grave}, "Halt podinfo.test advancement latency 8.00 > 5"},
	} {
		for i := range tc.readings {
			tc.readings[i].Index = i
		}
		if v := Evaluate(check(), tc.readings); v.Message != tc.want || len(v.Record.Metrics) != len(tc.readings) {
			t.Errorf("%s: %q, %d recorded, want %q", name, v.Message, len(v.Record.Metrics), tc.want)
		}
	}
}

func TestRecord(t *testing.T) {
	failing := with(value(9.123456789), samples(40), policy(v1beta1.MetricPolicy{MinSamples: 10}))
	failing.Query = "sum(x)"
	missing := with(state(NoData), policy(v1beta1.MetricPolicy{NoData: "hold"}))
	missing.Index = 1
	v := Evaluate(check(), []Reading{failing, missing})
	reason := "Halt podinfo.test advancement latency 9.12 > 5"
	want := &v1beta1.ChecksStatus{
		Run: 7, Check: 2, CheckedAt: micro(noon), TrafficSince: micro(noon.Add(-10 * time.Minute)),
		Metrics: []v1beta1.MetricVerdict{
			{Name: "latency", Source: "template", Outcome: "fail", Value: "9.123457", Bound: "<= 5", Samples: new(int64(40)), Query: "sum(x)", Reason: reason},
			{Name: "latency", Index: 1, Source: "template", Outcome: "hold", Bound: "<= 5", NoDataSince: micro(noon),
				Reason: "Halt advancement no values found for custom metric: latency: boom"},
		},
	}
	if diff := cmp.Diff(want, v.Record); diff != "" {
		t.Error(diff)
	}
	if v.Decisive == nil || v.Decisive.Query != "sum(x)" || v.Decisive.Value != "9.123457" || v.Decisive.Evidence != nil {
		t.Errorf("decisive %+v", v.Decisive)
	}
}

// What another run left behind counts for nothing.
func TestRecordOfAnotherRun(t *testing.T) {
	c := check(lackedSince(time.Hour))
	c.Before.Run = 6
	v := Evaluate(c, []Reading{with(state(NoData), policy(v1beta1.MetricPolicy{NoData: "hold"}))})
	if v.Outcome != Hold || !v.Record.TrafficSince.Equal(micro(noon)) || !v.Record.Metrics[0].NoDataSince.Equal(micro(noon)) {
		t.Errorf("%s, %+v", v.Outcome, v.Record)
	}
}

// The status stays small whatever the queries are.
func TestRecordIsBounded(t *testing.T) {
	var readings []Reading
	for i := range 256 {
		r := with(state(Failed))
		r.Index, r.Query, r.Cause = i, strings.Repeat("ä", 40000), strings.Repeat("ö", 40000)
		readings = append(readings, r)
	}
	total := 0
	for _, m := range Evaluate(check(), readings).Record.Metrics {
		total += len(m.Query) + len(m.Reason)
	}
	if total > 2*maxTexts {
		t.Errorf("%d bytes of queries and reasons", total)
	}
	if one := Evaluate(check(), readings[:1]); len(one.Record.Metrics[0].Query) > maxText || len(one.Decisive.Query) > maxText {
		t.Error("one query is too long")
	}
}

// An observed metric is told of when what it says changes.
func TestObserved(t *testing.T) {
	bad := with(value(9), policy(v1beta1.MetricPolicy{Mode: "observe"}))
	said := v1beta1.MetricVerdict{Name: "latency", Source: "template", Bound: "<= 5", Outcome: "fail"}
	for name, tc := range map[string]struct {
		before  []v1beta1.MetricVerdict
		reading Reading
		want    string
	}{
		"first failure": {nil, bad, "Observed metric latency would say: Halt podinfo.test advancement latency 9.00 > 5"},
		"still failing": {[]v1beta1.MetricVerdict{said}, bad, ""},
		"passes again":  {[]v1beta1.MetricVerdict{said}, with(policy(v1beta1.MetricPolicy{Mode: "observe"})), "Observed metric latency passes"},
		"passes":        {nil, with(policy(v1beta1.MetricPolicy{Mode: "observe"})), ""},
	} {
		v := Evaluate(check(tc.before...), []Reading{tc.reading})
		if got := strings.Join(v.Observed, "|"); got != tc.want || v.Outcome != Pass || !v.Record.Metrics[0].Observed {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func compare(c v1beta1.MetricComparison) func(*Reading) {
	return func(r *Reading) {
		r.Metric.ThresholdRange, r.Metric.Comparison = nil, &c
	}
}

func counts(canaryBad, canary, primaryBad, primary int64) func(*Reading) {
	return func(r *Reading) {
		r.Counts = Counts{sequential.Counts{Bad: canaryBad, Total: canary}, sequential.Counts{Bad: primaryBad, Total: primary}}
	}
}

func TestComparedValues(t *testing.T) {
	for name, tc := range map[string]struct {
		canary, primary float64
		comparison      v1beta1.MetricComparison
		want            string
	}{
		"within a difference": {11, 10, v1beta1.MetricComparison{Difference: between(nil, ptr(1))}, ""},
		"beyond a difference": {11.5, 10, v1beta1.MetricComparison{Difference: between(nil, ptr(1))}, "Halt podinfo.test advancement latency 11.50 against 10.00 of the primary: difference 1.50 > 1"},
		"below a difference":  {8, 10, v1beta1.MetricComparison{Difference: between(ptr(-1), nil)}, "Halt podinfo.test advancement latency 8.00 against 10.00 of the primary: difference -2.00 < -1"},
		"within a ratio":      {11, 10, v1beta1.MetricComparison{Ratio: between(ptr(0.5), ptr(1.2))}, ""},
		"beyond a ratio":      {13, 10, v1beta1.MetricComparison{Ratio: between(nil, ptr(1.2))}, "Halt podinfo.test advancement latency 13.00 against 10.00 of the primary: ratio 1.30 > 1.2"},
		"nothing to nothing":  {0, 0, v1beta1.MetricComparison{Ratio: between(nil, ptr(1.2))}, ""},
		"some to nothing":     {1, 0, v1beta1.MetricComparison{Ratio: between(nil, ptr(1.2))}, "Halt podinfo.test advancement latency 1.00 against 0.00 of the primary: ratio +Inf > 1.2"},
	} {
		r := with(value(tc.canary), compare(tc.comparison))
		r.Primary = tc.primary
		if v := Evaluate(check(), []Reading{r}); v.Message != tc.want || (v.Outcome == Pass) != (tc.want == "") {
			t.Errorf("%s: %s %q, want %q", name, v.Outcome, v.Message, tc.want)
		}
	}
}

// A canary that a constant would let pass is taken back for being worse than its primary, and the other way round.
func TestComparedCounts(t *testing.T) {
	minus1 := compare(v1beta1.MetricComparison{Difference: between(ptr(-1), nil)})
	for name, tc := range map[string]struct {
		reading Reading
		want    Outcome
		message string
	}{
		"99.5 % against 100 %, tolerated":   {with(builtIn, minus1, counts(5, 1000, 0, 9000)), Pass, ""},
		"92 % against 100 %":                {with(builtIn, minus1, counts(80, 1000, 0, 9000)), Fail, "Halt podinfo.test advancement success rate 92.00% against 100.00% of the primary: difference to the primary >= -1 does not hold for 1000 and 9000 requests, p "},
		"one of two requests fails":         {with(builtIn, minus1, counts(1, 2, 0, 90)), Pass, ""},
		"both fail alike":                   {with(builtIn, minus1, counts(300, 1000, 2700, 9000)), Pass, ""},
		"no requests of the canary":         {with(builtIn, minus1, counts(0, 0, 3, 90)), Fail, "Halt advancement no values found for istio metric request-success-rate probably podinfo-app.test is not receiving traffic"},
		"no requests of the primary":        {with(builtIn, minus1, counts(3, 90, 0, 0)), Fail, "Halt podinfo.test advancement metric request-success-rate can't be compared, the primary has no values: see that its query finds the primary by {{ target }} or {{ side }}"},
		"few, with a minimum":               {with(builtIn, policy(v1beta1.MetricPolicy{MinSamples: 500}), minus1, counts(0, 90, 0, 900)), Hold, "Halt podinfo.test advancement metric request-success-rate has 90 of the 500 samples that minSamples asks for"},
		"a metric of the user's, good":      {with(compare(v1beta1.MetricComparison{Ratio: between(nil, ptr(2)), FalseAlarmRate: 0.01}), counts(15, 1000, 90, 9000)), Pass, ""},
		"a metric of the user's, bad":       {with(compare(v1beta1.MetricComparison{Ratio: between(nil, ptr(2)), FalseAlarmRate: 0.01}), counts(90, 1000, 90, 9000)), Fail, "Halt podinfo.test advancement latency 9.00% against 1.00% of the primary: ratio to the primary <= 2 does not hold for 1000 and 9000 requests, p "},
		"twice as bad by ratio of the rate": {with(builtIn, compare(v1beta1.MetricComparison{Ratio: between(ptr(0.99), nil)}), counts(200, 1000, 0, 9000)), Fail, "Halt podinfo.test advancement success rate 80.00% against 100.00% of the primary: ratio to the primary >= 0.99 does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			v := Evaluate(check(), []Reading{tc.reading})
			if v.Outcome != tc.want || !strings.HasPrefix(v.Message, tc.message) || (tc.message == "") != (v.Message == "") {
				t.Errorf("%s %q\nwant %s %q", v.Outcome, v.Message, tc.want, tc.message)
			}
		})
	}
}

// slowShare is a duration that is compared by the share of slow requests.
func slowShare(change ...func(*Reading)) Reading {
	r := reading(Duration, 0, nil, 0)
	r.Metric.Name = v1beta1.MetricRequestDuration
	compare(v1beta1.MetricComparison{Difference: between(nil, ptr(2)), SlowerThan: "500ms"})(&r)
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestSlowRequests(t *testing.T) {
	v := Evaluate(check(), []Reading{slowShare(counts(150, 1000, 90, 9000))})
	want := "Halt podinfo.test advancement share of requests slower than 500ms 15.00% against 1.00% of the primary: difference to the primary <= 2 " +
		"in requests slower than 500ms does not hold for 1000 and 9000 requests, p "
	if v.Outcome != Fail || !strings.HasPrefix(v.Message, want) {
		t.Errorf("%s %q\nwant %q", v.Outcome, v.Message, want)
	}
	if v := Evaluate(check(), []Reading{slowShare(counts(25, 1000, 90, 9000))}); v.Outcome != Pass {
		t.Errorf("2.5 %% against 1 %%: %s %q", v.Outcome, v.Message)
	}
}

// next is the check after one that left the record, at a minute of the run.
func next(before *v1beta1.ChecksStatus, minute int64) Check {
	c := check()
	c.Before, c.Number, c.Interval, c.Now = before, minute, time.Minute, noon.Add(time.Duration(minute)*time.Minute)
	return c
}

// The evidence of all checks of a run adds up, whatever happens in between; each check counts once.
func TestEvidenceOfARun(t *testing.T) {
	minus1 := compare(v1beta1.MetricComparison{Difference: between(ptr(-1), nil)})
	few := with(builtIn, minus1, counts(3, 40, 1, 360))
	v := Evaluate(next(nil, 1), []Reading{few})
	soon := next(v.Record, 1)
	soon.Now = soon.Now.Add(59 * time.Second)
	if diff := cmp.Diff(v.Record.Metrics, Evaluate(soon, []Reading{few}).Record.Metrics); diff != "" {
		t.Errorf("judged again, the check counts again:\n%s", diff)
	}
	down := Evaluate(next(v.Record, 2), []Reading{with(builtIn, minus1, state(Failed))})
	if down.Outcome != Error || down.Record.Metrics[0].Evidence == nil {
		t.Fatalf("%s without evidence: %+v", down.Outcome, down.Record)
	}
	outcomes := []Outcome{v.Outcome}
	record := down.Record
	for number := int64(3); number < 8; number++ {
		v = Evaluate(next(record, number), []Reading{few})
		record, outcomes = v.Record, append(outcomes, v.Outcome)
	}
	if v.Outcome != Fail || outcomes[0] != Pass {
		t.Errorf("outcomes %v of six checks with 3 bad of 40", outcomes)
	}
	if e := v.Record.Metrics[0].Evidence; e.CanaryTotal != 240 || e.PrimaryTotal != 6*360 || e.CanaryBad != 18 {
		t.Errorf("counted %+v", e)
	}
	// The canary has all traffic: what its primary answered before goes on counting.
	alone := Evaluate(next(v.Record, 9), []Reading{with(builtIn, minus1, counts(0, 400, 0, 0))})
	if alone.Outcome != Fail || !strings.Contains(alone.Message, "does not hold for 640 and 2160 requests") {
		t.Errorf("%s %q", alone.Outcome, alone.Message)
	}
	// Another bound is another question.
	other := Evaluate(next(v.Record, 9), []Reading{with(builtIn, compare(v1beta1.MetricComparison{Difference: between(ptr(-50), nil)}), counts(0, 4, 0, 4))})
	if other.Outcome != Pass || other.Record.Metrics[0].Evidence.CanaryTotal != 4 {
		t.Errorf("%s, %+v", other.Outcome, other.Record.Metrics[0])
	}
}
