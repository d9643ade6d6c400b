package metrics

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func least(v float64) *v1beta1.CanaryThresholdRange { return &v1beta1.CanaryThresholdRange{Min: &v} }

func most(v float64) *v1beta1.CanaryThresholdRange { return &v1beta1.CanaryThresholdRange{Max: &v} }

// readOne reads a Canary with a single metric from a server that answers queries by what they contain.
func readOne(t *testing.T, m v1beta1.CanaryMetric, answers map[string]string) (analysis.Reading, []string) {
	t.Helper()
	server := newPromServer(t, answers)
	s := store{templates: map[string]*v1beta1.MetricTemplate{"test/own": metricTemplate("test", "own", server.URL, `own_value_{{ side }}_{{ target }}`)}}
	readings := s.evaluator(server.URL).Read(t.Context(), withMetrics(m))
	if len(readings) != 1 {
		t.Fatalf("%d readings", len(readings))
	}
	return readings[0], server.take()
}

func TestSamplesOfAValue(t *testing.T) {
	own := v1beta1.CanaryMetric{Name: "own", TemplateRef: ref("", "own"), MetricPolicy: v1beta1.MetricPolicy{MinSamples: 5, SamplesQuery: "samples_of_{{ target }}"}}
	for name, tc := range map[string]struct {
		metric  v1beta1.CanaryMetric
		answers map[string]string
		samples *int64
		state   analysis.State
	}{
		"of a template":        {own, map[string]string{"own_value_canary_podinfo": "7", "samples_of_podinfo": "41.6"}, new(int64(42)), analysis.Value},
		"none":                 {own, map[string]string{"own_value_canary_podinfo": "7"}, new(int64), analysis.Value},
		"server down for them": {own, map[string]string{"own_value_canary_podinfo": "7", "samples_of_podinfo": "down"}, nil, analysis.Failed},
		"built in": {v1beta1.CanaryMetric{Name: "request-success-rate", Interval: "2m", MetricPolicy: v1beta1.MetricPolicy{MinSamples: 5}},
			map[string]string{"sum(increase(istio_requests_total": "12", "/ sum(rate(": "99"}, new(int64(12)), analysis.Value},
	} {
		t.Run(name, func(t *testing.T) {
			r, queries := readOne(t, tc.metric, tc.answers)
			if r.State != tc.state || (r.Samples == nil) != (tc.samples == nil) || r.Samples != nil && *r.Samples != *tc.samples {
				t.Errorf("state %s, %v samples (%s), want %s, %v", r.State, r.Samples, r.Cause, tc.state, tc.samples)
			}
			if asked := slices.Compact(queries); len(asked) != 2 {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

func TestPrimaryOfAValue(t *testing.T) {
	compared := v1beta1.CanaryMetric{Name: "own", TemplateRef: ref("", "own"), MetricPolicy: v1beta1.MetricPolicy{Comparison: &v1beta1.MetricComparison{Ratio: most(2)}}}
	r, queries := readOne(t, compared, map[string]string{"own_value_canary_podinfo": "7", "own_value_primary_podinfo-primary": "5"})
	if r.State != analysis.Value || r.Value != 7 || r.Primary != 5 || r.Query != "own_value_canary_podinfo" || len(queries) != 2 {
		t.Errorf("%+v by %q", r, queries)
	}
	r, _ = readOne(t, compared, map[string]string{"own_value_canary_podinfo": "7"})
	if v := analysis.Evaluate(analysis.Check{}, []analysis.Reading{r}); v.Outcome != analysis.Fail || !strings.Contains(v.Message, "the primary has no values") {
		t.Errorf("without a primary: %s %q", v.Outcome, v.Message)
	}
	r, _ = readOne(t, compared, map[string]string{"own_value_canary_podinfo": "7", "own_value_primary": "down"})
	if r.State != analysis.Failed || r.Query != "own_value_primary_podinfo-primary" {
		t.Errorf("with a primary that can't be asked about: %+v", r)
	}
}

// A rate of a minute is counted for the interval of the analysis: each request once.
func TestCountsOfBothSides(t *testing.T) {
	m := v1beta1.CanaryMetric{Name: "request-success-rate", Interval: "5m", MetricPolicy: v1beta1.MetricPolicy{Comparison: &v1beta1.MetricComparison{Difference: least(-1)}}}
	const (
		canary  = `reporter="destination", destination_workload_namespace="test", destination_workload=~"podinfo"`
		primary = `reporter="destination", destination_workload_namespace="test", destination_workload=~"podinfo-primary"`
		good    = `, response_code!~"5.*"`
	)
	counted := func(matchers string) string { return "sum(increase(istio_requests_total{" + matchers + "}[60000ms]))" }
	rest := func(matchers string) string {
		return counted(matchers+good) + " or " + counted(matchers) + " * 0"
	}
	want := []string{counted(canary), rest(canary), counted(primary), rest(primary)}
	r, queries := readOne(t, m, nil)
	for _, w := range want {
		if !strings.Contains(strings.Join(queries, "\n")+"\n", w+"\n") {
			t.Errorf("%q is not asked in\n%s", w, strings.Join(queries, "\n"))
		}
	}
	if len(queries) != 4 || r.Counts != (analysis.Counts{}) {
		t.Errorf("%d queries, counts %+v", len(queries), r.Counts)
	}
}

func TestCountsOfAMetricOfTheUser(t *testing.T) {
	m := v1beta1.CanaryMetric{Name: "own", TemplateRef: ref("", "own"), MetricPolicy: v1beta1.MetricPolicy{
		SamplesQuery: "all_{{ side }}", Comparison: &v1beta1.MetricComparison{Difference: most(1), FalseAlarmRate: 0.01}}}
	all := map[string]string{"own_value_canary": "3.4", "own_value_primary": "20", "all_canary": "99.7", "all_primary": "900"}
	r, _ := readOne(t, m, all)
	want := analysis.Counts{Canary: sequential.Counts{Bad: 3, Total: 100}, Primary: sequential.Counts{Bad: 20, Total: 900}}
	if diff := cmp.Diff(want, r.Counts); diff != "" || r.State != analysis.Value || r.Value != 3 {
		t.Errorf("%s %v\n%s", r.State, r.Value, diff)
	}
	for name, tc := range map[string]struct {
		without string
		state   analysis.State
		says    string
	}{
		"bad ones of the canary":  {"own_value_canary", analysis.Failed, `or vector(0)`},
		"bad ones of the primary": {"own_value_primary", analysis.Failed, `or vector(0)`},
		"requests of the canary":  {"all_canary", analysis.Value, ""},
	} {
		answers := map[string]string{}
		for query, value := range all {
			if query != tc.without {
				answers[query] = value
			}
		}
		if r, _ := readOne(t, m, answers); r.State != tc.state || !strings.Contains(r.Cause, tc.says) {
			t.Errorf("without %s: %s %q", name, r.State, r.Cause)
		}
	}
}

// A bound that no bucket has is a mistake in the spec, and no canary without slow requests.
func TestBoundThatNoBucketHas(t *testing.T) {
	m := v1beta1.CanaryMetric{Name: "request-duration", MetricPolicy: v1beta1.MetricPolicy{Comparison: &v1beta1.MetricComparison{Difference: most(1), SlowerThan: "123ms"}}}
	r, queries := readOne(t, m, map[string]string{`le="+Inf"`: "50"})
	if r.State != analysis.Failed || !strings.Contains(r.Cause, "none of their buckets ends at 123ms: set comparison.slowerThan") {
		t.Errorf("%s %q", r.State, r.Cause)
	}
	if all := strings.Join(queries, "\n"); !strings.Contains(all, `le=~"123(\\.0)?"`) {
		t.Errorf("asked\n%s", all)
	}
}

func TestBucketOfABound(t *testing.T) {
	for bound, want := range map[string][2]string{"500ms": {`500(\\.0)?`, `0\\.5`}, "1s": {`1000(\\.0)?`, `1(\\.0)?`}, "2.5s": {`2500(\\.0)?`, `2\\.5`}} {
		for i, o := range []string{"istio", "traefik"} {
			text, err := observers()[o]().text(task{source: analysis.Duration, measure: measureGood, metric: v1beta1.CanaryMetric{
				Name: "request-duration", MetricPolicy: v1beta1.MetricPolicy{Comparison: &v1beta1.MetricComparison{SlowerThan: bound}}}})
			if err != nil || !strings.Contains(text, `le=~"`+want[i]+`"`) {
				t.Errorf("%s of %s: %s, %v", bound, o, text, err)
			}
		}
	}
}

// The requests of both sides are one series there.
func TestSidesThatAreNotToldApart(t *testing.T) {
	c := withMetrics(v1beta1.CanaryMetric{Name: "request-success-rate", MetricPolicy: v1beta1.MetricPolicy{Comparison: &v1beta1.MetricComparison{Difference: least(0)}}})
	c.Spec.Provider = "apisix"
	r := store{}.evaluator(newPromServer(t, map[string]string{"apisix": "5"}).URL).Read(t.Context(), c)[0]
	if r.State != analysis.Unusable || !strings.Contains(r.Cause, "provider apisix do not tell the primary from the canary: remove spec.analysis.metrics[0].comparison") {
		t.Errorf("%s %q", r.State, r.Cause)
	}
}

// A mistake in the query that counts is found before a rollout depends on it.
func TestCheckOfTheSamplesQuery(t *testing.T) {
	server := newPromServer(t, map[string]string{"good": "1", "broken": "invalid", "vector(1)": "1"})
	s := store{}
	err := s.evaluator(server.URL).Check(t.Context(), withMetrics(v1beta1.CanaryMetric{Name: "own", Query: "good", MetricPolicy: v1beta1.MetricPolicy{MinSamples: 1, SamplesQuery: "broken"}}))
	if err == nil || !strings.Contains(err.Error(), "correct spec.analysis.metrics[0].samplesQuery") {
		t.Errorf("error %v", err)
	}
}
