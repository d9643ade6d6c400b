package metrics

import (
	"strings"
	"testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	ofCanary  = `increase(istio_requests_total{reporter="destination", destination_workload_namespace="test", destination_workload=~"podinfo"}[`
	ofPrimary = `increase(istio_requests_total{reporter="destination", destination_workload_namespace="test", destination_workload=~"podinfo-primary"}[`
)

// weighted is a Canary at a weight with one metric of that name.
func weighted(weight int32, metric string, change ...func(*v1beta1.Canary)) *v1beta1.Canary {
	m := v1beta1.CanaryMetric{Name: metric}
	if metric == "own" {
		m.Query = "own_value"
	}
	c := withMetrics(m)
	c.Status.CanaryWeight = weight
	for _, f := range change {
		f(c)
	}
	return c
}

func splitting(p v1beta1.SplitPolicy) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) { c.Spec.Analysis.Split = &p }
}

func by(provider string) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) { c.Spec.Provider = provider }
}

// sharesOf returns the reading of the shares, nil if they are not read, and the queries.
func sharesOf(t *testing.T, c *v1beta1.Canary, answers map[string]string) (*analysis.Reading, []string) {
	t.Helper()
	server := newPromServer(t, answers)
	for _, r := range (store{}).evaluator(server.URL).Read(t.Context(), c) {
		if r.Source == analysis.Shares {
			return &r, server.take()
		}
	}
	return nil, server.take()
}

func TestWhoseSharesAreRead(t *testing.T) {
	const rate = "request-success-rate"
	for name, tc := range map[string]struct {
		canary *v1beta1.Canary
		read   bool
	}{
		"by default":                        {weighted(10, rate), true},
		"before the first weight":           {weighted(0, rate), false},
		"ignored":                           {weighted(10, rate, splitting(v1beta1.SplitPolicy{Mode: v1beta1.SplitIgnore})), false},
		"an A/B test":                       {weighted(100, rate, func(c *v1beta1.Canary) { c.Spec.Analysis.Iterations = 5 }), false},
		"metrics of another server":         {weighted(10, "own"), false},
		"of another server, and asked for":  {weighted(10, "own", splitting(v1beta1.SplitPolicy{})), true},
		"sides that are mixed":              {weighted(10, rate, by("apisix")), false},
		"probes are counted":                {weighted(10, rate, by("linkerd")), false},
		"counted by the application":        {weighted(10, rate, by("gatewayapi:v1")), false},
		"probes are counted, and asked for": {weighted(10, rate, by("linkerd"), splitting(v1beta1.SplitPolicy{Mode: v1beta1.SplitEnforce})), true},
	} {
		t.Run(name, func(t *testing.T) {
			r, queries := sharesOf(t, tc.canary, nil)
			if (r != nil) != tc.read {
				t.Errorf("%+v by %q", r, queries)
			}
		})
	}
}

func TestShares(t *testing.T) {
	for name, tc := range map[string]struct {
		weight          int32
		answers         map[string]string
		state           analysis.State
		canary, primary int64
		says            string
	}{
		"both sides":            {10, map[string]string{ofCanary: "99.6", ofPrimary: "900"}, analysis.Value, 100, 900, ""},
		"no request yet":        {10, map[string]string{ofPrimary: "900"}, analysis.Value, 0, 900, ""},
		"no requests at all":    {10, nil, analysis.Value, 0, 0, ""},
		"a primary left alone":  {10, map[string]string{ofCanary: "100", ofPrimary: "0"}, analysis.Value, 100, 0, ""},
		"a primary not found":   {10, map[string]string{ofCanary: "100"}, analysis.NoData, 100, 0, "none of the primary are found"},
		"a primary not needed":  {100, map[string]string{ofCanary: "100"}, analysis.Value, 100, 0, ""},
		"server down":           {10, map[string]string{"istio": "down"}, analysis.Failed, 0, 0, "check that the server is up"},
		"server down for one":   {10, map[string]string{ofCanary: "100", ofPrimary: "down"}, analysis.Failed, 0, 0, "check that the server is up"},
		"a query that it can't": {10, map[string]string{ofCanary: "invalid"}, analysis.Failed, 0, 0, "parse error"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := sharesOf(t, weighted(tc.weight, "request-success-rate"), tc.answers)
			if r == nil || r.State != tc.state || r.Counts.Canary.Total != tc.canary || r.Counts.Primary.Total != tc.primary || !strings.Contains(r.Cause, tc.says) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What minimum samples count for the same interval is asked for once.
func TestSharesOfCountedSamples(t *testing.T) {
	c := weighted(10, "request-success-rate")
	c.Spec.Analysis.Metrics[0].Interval, c.Spec.Analysis.Metrics[0].MinSamples = "60000ms", 5
	r, queries := sharesOf(t, c, map[string]string{"/ sum(rate(": "99", ofCanary + "60000ms": "100", ofPrimary + "60000ms": "900"})
	if r == nil || r.Counts.Canary.Total != 100 || r.Counts.Primary.Total != 900 {
		t.Errorf("%+v", r)
	}
	if len(queries) != 3 {
		t.Errorf("%d queries:\n%s", len(queries), strings.Join(queries, "\n"))
	}
}
