package promql

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/teststorage"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics"
)

// Scrapes are as far apart as Prometheus has them in most installations, and there are some minutes of them.
const (
	scrapes = 20
	apart   = 15 * time.Second
)

// scenario is what the two sides did in these minutes, and what the metrics of the canary have to make of it.
type scenario struct {
	primary, canary requests
	// success and duration are the outcomes.
	success, duration analysis.Outcome
	// noData is whether these come from the want of values.
	noData bool
}

func scenarios() map[string]scenario {
	const pass, fail = analysis.Pass, analysis.Fail
	good := requests{ok: 20, milliseconds: 40}
	bad := requests{ok: 10, failed: 10, milliseconds: 40}
	slow := requests{ok: 20, milliseconds: 3000}
	never := requests{unseen: scrapes + 1}
	onlyErrors := requests{failed: 20, milliseconds: 40}
	later := func(r requests, unseen int) requests { r.unseen = unseen; return r }
	restarted := func(r requests) requests { r.restarts = scrapes - 2; return r }
	return map[string]scenario{
		"both are well":                               {primary: good, canary: good, success: pass, duration: pass},
		"errors of the primary alone":                 {primary: bad, canary: good, success: pass, duration: pass},
		"a primary that answers nothing but errors":   {primary: onlyErrors, canary: good, success: pass, duration: pass},
		"a slow primary":                              {primary: slow, canary: good, success: pass, duration: pass},
		"errors of the canary alone":                  {primary: good, canary: bad, success: fail, duration: pass},
		"a slow canary":                               {primary: good, canary: slow, success: pass, duration: fail},
		"no requests to the canary":                   {primary: good, canary: requests{}, success: fail, duration: fail, noData: true},
		"no requests to the canary, errors elsewhere": {primary: bad, canary: requests{}, success: fail, duration: fail, noData: true},
		"no series of the canary":                     {primary: bad, canary: never, success: fail, duration: fail, noData: true},
		"one scrape of the canary":                    {primary: bad, canary: later(good, scrapes), success: fail, duration: fail, noData: true},
		"two scrapes of the canary":                   {primary: bad, canary: later(good, scrapes-1), success: pass, duration: pass},
		"a canary that restarts":                      {primary: bad, canary: restarted(good), success: pass, duration: pass},
		"a bad canary that restarts":                  {primary: good, canary: restarted(bad), success: fail, duration: pass},
		"a primary that restarts":                     {primary: restarted(bad), canary: good, success: pass, duration: pass},
		"no primary":                                  {primary: never, canary: good, success: pass, duration: pass},
	}
}

// Errors and slowness of the primary alone never fail a canary, those of the canary alone always do, and no values never pass.
func TestBuiltInMetrics(t *testing.T) {
	for name, e := range exports(t) {
		for what, s := range scenarios() {
			t.Run(name+"/"+what, func(t *testing.T) {
				if e.together != "" && s.together() {
					t.Skip(e.together)
				}
				success, duration := judged(t, name, e, store(t, e, s, nil))
				expect(t, "success rate", success, s.success, s.noData)
				expect(t, "duration", duration, s.duration, s.noData)
			})
		}
	}
}

// together is whether the outcome depends on telling the sides apart.
func (s scenario) together() bool {
	return s.primary != s.canary && s.primary != requests{unseen: scrapes + 1}
}

// A canary that has given one kind of answer alone, errors or not, has exported a single series of requests.
func TestASingleSeries(t *testing.T) {
	for name, e := range exports(t) {
		for what, c := range map[string]struct {
			canary requests
			want   analysis.Outcome
		}{
			"errors":    {requests{failed: 20, milliseconds: 40}, analysis.Fail},
			"successes": {requests{ok: 20, milliseconds: 40}, analysis.Pass},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				s := scenario{primary: requests{ok: 20, milliseconds: 40}, canary: c.canary}
				success, _ := judged(t, name, e, store(t, e, s, func(l labels.Labels, of side) (labels.Labels, bool) {
					code := l.Get(e.code)
					return l, of != canary || code == "" || strings.HasPrefix(code, "5") == (c.want == analysis.Fail)
				}))
				if e.together == "" {
					expect(t, "success rate", success, c.want, false)
				}
			})
		}
	}
}

// Where a label that tells the sides apart is missing, as a scrape configuration may drop it, nothing is judged by the primary.
func TestMissingLabels(t *testing.T) {
	s := scenario{primary: requests{ok: 10, failed: 10, milliseconds: 3000}, canary: requests{ok: 20, milliseconds: 40}}
	for name, e := range exports(t) {
		for _, label := range labelsOf(e) {
			t.Run(name+"/"+label, func(t *testing.T) {
				if e.together != "" {
					t.Skip(e.together)
				}
				readings := readingsOf(t, name, e, store(t, e, s, func(l labels.Labels, of side) (labels.Labels, bool) {
					if of == canary {
						return l, true
					}
					return labels.NewBuilder(l).Del(label).Labels(), true
				}))
				for _, r := range readings {
					if r.State == analysis.Value && (r.Source == analysis.SuccessRate && r.Value < 99 || r.Source == analysis.Duration && r.Value > 500) {
						t.Errorf("%s is %v without the label %s: that is the primary's", r.Source, r.Value, label)
					}
				}
			})
		}
	}
}

func labelsOf(e export) []string {
	// Series of a histogram that differ in their buckets alone would become one.
	seen := map[string]bool{model.MetricNameLabel: true, labels.BucketLabel: true}
	var all []string
	for _, s := range e.series {
		s.labels.Range(func(l labels.Label) {
			if !seen[l.Name] {
				seen[l.Name] = true
				all = append(all, l.Name)
			}
		})
	}
	return all
}

func expect(t *testing.T, what string, got verdict, want analysis.Outcome, noData bool) {
	t.Helper()
	if got.outcome != want || (got.state == analysis.NoData) != noData {
		t.Errorf("%s: %s by %s %v, want %s, without values %t", what, got.outcome, got.state, got.value, want, noData)
	}
}

// store plays a scenario. Change may alter or leave out a series.
func store(t *testing.T, e export, s scenario, change func(labels.Labels, side) (labels.Labels, bool)) *teststorage.TestStorage {
	t.Helper()
	db := teststorage.New(t)
	t.Cleanup(func() { db.Close() })
	add := db.Appender(t.Context())
	for i, one := range e.series {
		l := one.labels
		if change != nil {
			changed, keep := change(l, one.side)
			if !keep {
				continue
			}
			l = changed
		}
		of := map[side]requests{nobody: {}, primary: s.primary, canary: s.canary}[one.side]
		value := float64(1000 + i)
		for scrape := range scrapes + 1 {
			value += of.per(e, one.labels)
			if of.restarts > 0 && scrape == of.restarts {
				value = of.per(e, one.labels)
			}
			if scrape < of.unseen {
				continue
			}
			if _, err := add.Append(0, l, int64(scrape)*apart.Milliseconds(), value); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
		}
	}
	if err := add.Commit(); err != nil {
		t.Fatal(err)
	}
	return db
}

type verdict struct {
	outcome analysis.Outcome
	state   analysis.State
	value   float64
}

// judged reads and judges both built-in metrics as the operator does.
func judged(t *testing.T, observer string, e export, db *teststorage.TestStorage) (success, duration verdict) {
	t.Helper()
	for _, r := range readingsOf(t, observer, e, db) {
		v := verdict{analysis.Evaluate(analysis.Check{}, []analysis.Reading{r}).Outcome, r.State, r.Value}
		if r.Source == analysis.SuccessRate {
			success = v
		} else {
			duration = v
		}
	}
	return success, duration
}

func readingsOf(t *testing.T, observer string, of export, db *teststorage.TestStorage) []analysis.Reading {
	t.Helper()
	minimum, maximum := 99.0, 500.0
	return readMetrics(t, observer, of, db, []v1beta1.CanaryMetric{
		{Name: v1beta1.MetricRequestSuccessRate, Interval: "1m", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &minimum}},
		{Name: v1beta1.MetricRequestDuration, Interval: "1m", ThresholdRange: &v1beta1.CanaryThresholdRange{Max: &maximum}},
	})
}

func readMetrics(t *testing.T, observer string, of export, db *teststorage.TestStorage, entries []v1beta1.CanaryMetric) []analysis.Reading {
	t.Helper()
	return readCanary(t, observer, of, db, func(c *v1beta1.Canary) { c.Spec.Analysis.Metrics = entries })
}

// dividedBy judges how requests were divided at a weight of 10.
func dividedBy(t *testing.T, observer string, of export, db *teststorage.TestStorage) (analysis.Verdict, analysis.Reading) {
	t.Helper()
	policy := v1beta1.SplitPolicy{Mode: v1beta1.SplitEnforce, FalseAlarmRate: 0.01}
	readings := readCanary(t, observer, of, db, func(c *v1beta1.Canary) { c.Status.CanaryWeight, c.Spec.Analysis.Split = 10, &policy })
	if len(readings) != 1 {
		t.Fatalf("%d readings", len(readings))
	}
	return analysis.Evaluate(analysis.Check{Limit: time.Hour, Split: &analysis.Split{SplitPolicy: policy, Weight: 10}}, readings), readings[0]
}

func readCanary(t *testing.T, observer string, of export, db *teststorage.TestStorage, change func(*v1beta1.Canary)) []analysis.Reading {
	t.Helper()
	server := httptest.NewServer(&server{db, promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
	})})
	defer server.Close()
	c := &v1beta1.Canary{}
	c.Name, c.Namespace = "podinfo", "test"
	c.Spec.Provider = providerOf(observer)
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"}
	if observer == v1beta1.KnativeProvider {
		c.Spec.TargetRef.APIVersion, c.Spec.TargetRef.Kind = "serving.knative.dev/v1", "Service"
	}
	c.Spec.IngressRef = &v1beta1.LocalObjectReference{Name: cmp.Or(of.ingress, "podinfo")}
	c.Spec.RouteRef = &v1beta1.LocalObjectReference{Name: "podinfo"}
	c.Spec.Analysis = &v1beta1.CanaryAnalysis{Interval: "1m"}
	change(c)
	e := &metrics.Evaluator{Server: metrics.Server{Address: server.URL}, FlagProvider: c.Spec.Provider, Knative: revision("podinfo-00002")}
	readings := e.Read(t.Context(), c)
	for _, r := range readings {
		if r.State == analysis.Failed || r.State == analysis.Unusable {
			t.Fatalf("%s: %s", r.Source, r.Cause)
		}
	}
	return readings
}

// providerOf is a provider whose requests an observer counts.
func providerOf(observer string) string {
	if observer == "http" {
		return v1beta1.KubernetesProvider
	}
	return observer
}

type revision string

func (r revision) LatestRevision(context.Context, string, string) (string, error) {
	return string(r), nil
}

// server answers /api/v1/query as Prometheus does, at the time of the last scrape.
type server struct {
	db     *teststorage.TestStorage
	engine *promql.Engine
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(code int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body)
	}
	query, err := s.engine.NewInstantQuery(r.Context(), s.db, nil, r.FormValue("query"), time.UnixMilli(0).Add(scrapes*apart))
	if err != nil {
		answer(http.StatusBadRequest, map[string]any{"status": "error", "errorType": "bad_data", "error": err.Error()})
		return
	}
	defer query.Close()
	result := query.Exec(r.Context())
	vector, err := result.Vector()
	if err != nil {
		answer(http.StatusUnprocessableEntity, map[string]any{"status": "error", "errorType": "execution", "error": err.Error()})
		return
	}
	found := []any{}
	for _, sample := range vector {
		found = append(found, map[string]any{"metric": sample.Metric.Map(), "value": []any{scrapes * apart.Seconds(), format(sample.F)}})
	}
	answer(http.StatusOK, map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": found}})
}

func format(v float64) string {
	if math.IsNaN(v) {
		return "NaN"
	}
	return fmt.Sprint(v)
}
