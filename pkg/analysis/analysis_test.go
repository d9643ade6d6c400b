package analysis

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var id = ID{Name: "podinfo", Namespace: "test", Target: "podinfo-app"}

func ptr(f float64) *float64 { return &f }

func between(minimum, maximum *float64) *v1beta1.CanaryThresholdRange {
	return &v1beta1.CanaryThresholdRange{Min: minimum, Max: maximum}
}

func reading(source Source, value float64, r *v1beta1.CanaryThresholdRange, threshold float64) Reading {
	names := map[Source]string{SuccessRate: "request-success-rate", Duration: "request-duration", Inline: "errors", Template: "latency"}
	return Reading{
		Source:   source,
		State:    Value,
		Value:    value,
		Provider: "istio",
		Metric:   v1beta1.CanaryMetric{Name: names[source], ThresholdRange: r, Threshold: threshold},
	}
}

func TestValues(t *testing.T) {
	for name, tc := range map[string]struct {
		reading Reading
		want    string
	}{
		"rate below min":                {reading(SuccessRate, 98.6912, between(ptr(99), nil), 0), "Halt podinfo.test advancement success rate 98.69% < 99%"},
		"rate at min":                   {reading(SuccessRate, 99, between(ptr(99), nil), 0), ""},
		"rate above max":                {reading(SuccessRate, 100, between(nil, ptr(99.5)), 0), "Halt podinfo.test advancement success rate 100.00% > 99.5%"},
		"rate at max":                   {reading(SuccessRate, 99.5, between(nil, ptr(99.5)), 0), ""},
		"rate below threshold":          {reading(SuccessRate, 98.9, nil, 99), "Halt podinfo.test advancement success rate 98.90% < 99%"},
		"rate at threshold":             {reading(SuccessRate, 99, nil, 99), ""},
		"B-11 rate without threshold":   {reading(SuccessRate, 0, nil, 0), ""},
		"range wins over threshold":     {reading(SuccessRate, 50, between(ptr(10), nil), 99), ""},
		"empty range":                   {reading(SuccessRate, 0, between(nil, nil), 99), ""},
		"duration above max":            {reading(Duration, 1515, between(nil, ptr(500)), 0), "Halt podinfo.test advancement request duration 1.515s > 500ms"},
		"duration below min":            {reading(Duration, 5, between(ptr(10), nil), 0), "Halt podinfo.test advancement request duration 5ms < 10ms"},
		"duration at max":               {reading(Duration, 500, between(nil, ptr(500)), 0), ""},
		"duration in whole ms":          {reading(Duration, 500.9, between(nil, ptr(500)), 0), ""},
		"duration above threshold":      {reading(Duration, 501, nil, 500), "Halt podinfo.test advancement request duration 501ms > 500ms"},
		"B-11 duration w/o threshold":   {reading(Duration, 1, nil, 0), "Halt podinfo.test advancement request duration 1ms > 0s"},
		"fractional duration bound":     {reading(Duration, 0.7, between(nil, ptr(0.5)), 0), "Halt podinfo.test advancement request duration 700µs > 500µs"},
		"fractional duration kept":      {reading(Duration, 0.4, between(nil, ptr(0.5)), 0), ""},
		"infinite duration":             {reading(Duration, math.Inf(1), between(nil, ptr(500)), 0), "Halt podinfo.test advancement request duration 2562047h47m16.854775807s > 500ms"},
		"negative infinite duration":    {reading(Duration, math.Inf(-1), between(ptr(0), nil), 0), "Halt podinfo.test advancement request duration -2562047h47m16.854775808s < 0s"},
		"query above max":               {reading(Inline, 5.125, between(nil, ptr(5)), 0), "Halt podinfo.test advancement errors 5.12 > 5"},
		"query below min":               {reading(Inline, 0.5, between(ptr(1.25), nil), 0), "Halt podinfo.test advancement errors 0.50 < 1.25"},
		"query above threshold":         {reading(Inline, 6, nil, 5), "Halt podinfo.test advancement errors 6.00 > 5"},
		"B-11 query without threshold":  {reading(Inline, 0.01, nil, 0), "Halt podinfo.test advancement errors 0.01 > 0"},
		"B-11 query at zero":            {reading(Inline, 0, nil, 0), ""},
		"template above max":            {reading(Template, 2, between(nil, ptr(1)), 0), "Halt podinfo.test advancement latency 2.00 > 1"},
		"template in range":             {reading(Template, 1, between(ptr(1), ptr(1)), 0), ""},
		"range that nothing can keep":   {reading(Template, 1, between(ptr(2), ptr(0)), 0), "Halt podinfo.test advancement latency 1.00 < 2"},
		"infinite value":                {reading(Template, math.Inf(1), between(nil, ptr(1)), 0), "Halt podinfo.test advancement latency +Inf > 1"},
		"NaN is never within a range":   {reading(Template, math.NaN(), between(ptr(0), nil), 0), "Halt advancement no values found for custom metric: latency: no values found"},
		"NaN does not pass empty range": {reading(SuccessRate, math.NaN(), between(nil, nil), 0), "Halt advancement no values found for istio metric request-success-rate probably podinfo-app.test is not receiving traffic: running query failed: no values found"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Evaluate(Check{ID: id}, []Reading{tc.reading})
			want := Verdict{Outcome: Pass, Readings: []Reading{tc.reading}}
			if tc.want != "" {
				want.Outcome, want.Message, want.Metric = Fail, tc.want, tc.reading.Metric.Name
			}
			if got.Outcome != want.Outcome || got.Message != want.Message || got.Metric != want.Metric || got.Error {
				t.Errorf("got %s %q (metric %q, error %v)\nwant %s %q", got.Outcome, got.Message, got.Metric, got.Error, want.Outcome, want.Message)
			}
		})
	}
}

// Unknown is not yes: whatever keeps a value from being read is a failed check.
func TestUnknownNeverPasses(t *testing.T) {
	for name, tc := range map[string]struct {
		source  Source
		state   State
		cause   string
		outcome Outcome
		want    string
	}{
		"rate, no data": {SuccessRate, NoData, "no values found", Fail,
			"Halt advancement no values found for istio metric request-success-rate probably podinfo-app.test is not receiving traffic: running query failed: no values found"},
		"duration, no data": {Duration, NoData, "no values found", Fail,
			"Halt advancement no values found for istio metric request-duration probably podinfo-app.test is not receiving traffic"},
		"query, no data":    {Inline, NoData, "no values found", Fail, "Halt advancement no values found for metric: errors"},
		"template, no data": {Template, NoData, "no values found", Fail, "Halt advancement no values found for custom metric: latency: no values found"},
		"rate, failed":      {SuccessRate, Failed, "boom", Error, "Prometheus query failed: boom"},
		"duration, failed":  {Duration, Failed, "boom", Error, "Prometheus query failed: boom"},
		"query, failed":     {Inline, Failed, "boom", Error, "Prometheus query failed for errors: boom"},
		"template, failed":  {Template, Failed, "boom", Error, "Metric query failed for latency: boom"},
		"template missing":  {Template, Unusable, "Metric template a.b error: not found", Error, "Metric template a.b error: not found"},
		"no source":         {None, Unusable, "", Error, "Metric query failed for no usable metrics template and query were configured"},
		"not read":          {Template, "", "", Error, `Metric latency was not read: unknown state ""`},
	} {
		t.Run(name, func(t *testing.T) {
			r := reading(tc.source, 0, between(nil, nil), 0)
			r.State, r.Cause = tc.state, tc.cause
			got := Evaluate(Check{ID: id}, []Reading{r})
			if requests := strings.HasSuffix(name, ", no data") && (tc.source == SuccessRate || tc.source == Duration); got.NoRequests != requests {
				t.Errorf("NoRequests is %v", got.NoRequests)
			}
			if got.Outcome != tc.outcome || got.Message != tc.want || got.Error != (tc.outcome == Error) {
				t.Errorf("got %s %q error %v\nwant %s %q", got.Outcome, got.Message, got.Error, tc.outcome, tc.want)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	bad := func(source Source, index int) Reading {
		r := reading(source, 10, between(nil, ptr(1)), 0)
		r.Index = index
		return r
	}
	given := []Reading{bad(Template, 0), bad(Inline, 2), bad(SuccessRate, 1), bad(Template, 1)}
	before := append([]Reading(nil), given...)
	got := Evaluate(Check{ID: id}, given)
	if got.Metric != "request-success-rate" || got.Outcome != Fail {
		t.Errorf("%s decided, want the first of the built-in and inline metrics", got.Metric)
	}
	want := []Reading{given[2], given[1], given[0], given[3]}
	if diff := cmp.Diff(want, got.Readings); diff != "" {
		t.Errorf("readings: %s", diff)
	}
	if diff := cmp.Diff(before, given); diff != "" {
		t.Errorf("the argument was changed: %s", diff)
	}
	if got := Evaluate(Check{ID: id}, nil); got.Outcome != Pass || got.Message != "" || got.Metric != "" {
		t.Errorf("no readings: %+v, want pass", got)
	}
}

func TestSources(t *testing.T) {
	ref := &v1beta1.CrossNamespaceObjectReference{Name: "t"}
	for name, tc := range map[string]struct {
		metric v1beta1.CanaryMetric
		want   []Source
	}{
		"built-in rate":                {v1beta1.CanaryMetric{Name: "request-success-rate"}, []Source{SuccessRate}},
		"built-in duration":            {v1beta1.CanaryMetric{Name: "request-duration"}, []Source{Duration}},
		"old name of the rate":         {v1beta1.CanaryMetric{Name: "istio_requests_total"}, []Source{SuccessRate}},
		"old name of the duration":     {v1beta1.CanaryMetric{Name: "istio_request_duration_seconds_bucket"}, []Source{Duration}},
		"B-13 built-in with template":  {v1beta1.CanaryMetric{Name: "request-success-rate", TemplateRef: ref}, []Source{Template}},
		"B-13 built-in with query":     {v1beta1.CanaryMetric{Name: "request-duration", Query: "up"}, []Source{Inline}},
		"query":                        {v1beta1.CanaryMetric{Name: "x", Query: "up"}, []Source{Inline}},
		"both":                         {v1beta1.CanaryMetric{Name: "x", Query: "up", TemplateRef: ref}, []Source{Inline, Template}},
		"nothing that could be a name": {v1beta1.CanaryMetric{Name: "x"}, []Source{None}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Sources(tc.metric)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestB11Warnings(t *testing.T) {
	ref := &v1beta1.CrossNamespaceObjectReference{Name: "t"}
	const field = "spec.analysis.metrics[0]"
	for name, tc := range map[string]struct {
		metric v1beta1.CanaryMetric
		want   []string
	}{
		"rate without threshold":     {v1beta1.CanaryMetric{Name: "request-success-rate"}, []string{field + " (request-success-rate) has no thresholdRange and passes with any value: set " + field + ".thresholdRange.min"}},
		"duration without threshold": {v1beta1.CanaryMetric{Name: "request-duration"}, []string{field + " (request-duration) has no thresholdRange and fails with any value above 0: set " + field + ".thresholdRange.max"}},
		"template without threshold": {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref}, []string{field + " (x) has no thresholdRange and fails with any value above 0: set " + field + ".thresholdRange.max"}},
		"empty range":                {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref, ThresholdRange: between(nil, nil)}, []string{field + " (x) has an empty thresholdRange and passes with any value: set " + field + ".thresholdRange.min or max"}},
		"empty interval of numbers":  {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref, ThresholdRange: between(ptr(2), ptr(1))}, []string{field + " (x) fails with any value, because " + field + ".thresholdRange.min is greater than max: exchange them"}},
		"threshold":                  {v1beta1.CanaryMetric{Name: "request-success-rate", Threshold: 99}, nil},
		"range":                      {v1beta1.CanaryMetric{Name: "request-success-rate", ThresholdRange: between(ptr(99), nil)}, nil},
		"template called as built-in": {v1beta1.CanaryMetric{Name: "request-duration", TemplateRef: ref, Threshold: 1},
			[]string{field + " (request-duration) has the name of a built-in metric and evaluates its template instead: rename it, or remove " + field + ".templateRef"}},
		"query called as built-in": {v1beta1.CanaryMetric{Name: "request-duration", Query: "up", Threshold: 1},
			[]string{field + " (request-duration) has the name of a built-in metric and evaluates its query instead: rename it, or remove " + field + ".query"}},
		"comparison": {v1beta1.CanaryMetric{Name: "request-success-rate", MetricPolicy: v1beta1.MetricPolicy{
			Comparison: &v1beta1.MetricComparison{Difference: between(ptr(-1), nil)}}}, nil},
		"query and template": {v1beta1.CanaryMetric{Name: "x", Query: "up", TemplateRef: ref, Threshold: 1},
			[]string{field + " (x) has both a query and a templateRef and is evaluated with each of them: remove " + field + ".query"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &v1beta1.CanaryAnalysis{Metrics: []v1beta1.CanaryMetric{tc.metric}}
			c := &v1beta1.Canary{Spec: v1beta1.CanarySpec{Analysis: spec}}
			if diff := cmp.Diff(tc.want, Warnings(c)); diff != "" {
				t.Error(diff)
			}
			old := &v1beta1.Canary{Spec: v1beta1.CanarySpec{CanaryAnalysis: spec}}
			for i, warning := range Warnings(old) {
				if want := strings.ReplaceAll(tc.want[i], "spec.analysis", "spec.canaryAnalysis"); warning != want {
					t.Errorf("got %q, want %q", warning, want)
				}
			}
		})
	}
	if got := Warnings(&v1beta1.Canary{}); got != nil {
		t.Errorf("a Canary without analysis: %q", got)
	}
}
