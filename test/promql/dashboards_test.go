package promql

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/telemetry"
	"flagger.app/flagger/test/dashboards"
)

// counted are the files of series, of this directory and of testdata/dashboards, that a dashboard is to show.
var counted = map[string][][]string{
	"istio":       {{"istio", "dashboards/istio", "dashboards/pods"}},
	"envoy":       {{"contour", "dashboards/envoy"}, {"gloo", "dashboards/gloo"}},
	"appmesh":     {{"appmesh", "dashboards/appmesh", "dashboards/pods"}},
	"traefik":     {{"traefik"}},
	"nginx":       {{"nginx", "dashboards/nginx"}},
	"apisix":      {{"apisix"}},
	"application": {{"http", "dashboards/http", "dashboards/pods"}},
}

func readDashboards(t *testing.T) map[string]dashboards.Dashboard {
	t.Helper()
	all, err := dashboards.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever a dashboard asks of the series that meshes and gateways export, for either side, it gets an answer to.
func TestDashboardsShowTraffic(t *testing.T) {
	for name, d := range readDashboards(t) {
		if name == "operator" {
			continue
		}
		if counted[name] == nil {
			t.Errorf("no series for dashboard %s", name)
		}
		for _, files := range counted[name] {
			t.Run(name+"/"+files[0], func(t *testing.T) {
				both := requests{ok: 20, failed: 1, milliseconds: 40}
				db := store(t, together(t, files), scenario{primary: both, canary: both}, nil)
				showsData(t, d, db, time.UnixMilli(0).Add(scrapes*apart), nil)
			})
		}
	}
}

// together are the series of some files, as if one system exported them.
func together(t *testing.T, files []string) export {
	t.Helper()
	var all export
	for _, file := range files {
		e := readExport(t, filepath.Join("testdata", file+".prom"))
		all.series = append(all.series, e.series...)
		all.code, all.seconds = cmp.Or(all.code, e.code), all.seconds || e.seconds
	}
	return all
}

// showsData demands an answer, which is a number, to every query of a dashboard.
func showsData(t *testing.T, d dashboards.Dashboard, db storage.Queryable, at time.Time, wanted map[string]string) {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{})})
	ask := func(query string) (promql.Vector, error) {
		q, err := engine.NewInstantQuery(t.Context(), db, nil, query, at)
		if err != nil {
			return nil, err
		}
		defer q.Close()
		vector, err := q.Exec(t.Context()).Vector()
		return slices.Clone(vector), err
	}
	values, err := d.Choose(func(query string) (found []map[string]string, err error) {
		vector, err := ask(query)
		for _, sample := range vector {
			found = append(found, sample.Metric.Map())
		}
		return found, err
	}, wanted)
	if err != nil {
		t.Fatal(err)
	}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			query := dashboards.Fill(target.Expr, values)
			vector, err := ask(query)
			if err != nil {
				t.Errorf("%s: %s: %v", panel.Title, query, err)
			} else if !slices.ContainsFunc(vector, func(s promql.Sample) bool { return !math.IsNaN(s.F) }) {
				t.Errorf("%s shows nothing with %v: %s is %v", panel.Title, values, query, vector)
			}
		}
	}
}

// What the operator serves after rollouts is shown, in the chosen namespace, however it is scraped.
func TestDashboardShowsTheOperator(t *testing.T) {
	for how, scraped := range scrapedAs {
		t.Run(how, func(t *testing.T) {
			showsData(t, readDashboards(t)["operator"], operated(t, scraped), time.UnixMilli(0).Add(scrapes*apart), map[string]string{"namespace": "test"})
		})
	}
}

// operated are scrapes of an operator that has done a bit of everything before each.
func operated(t *testing.T, scraped func(string) string) *teststorage.TestStorage {
	t.Helper()
	db := teststorage.New(t)
	t.Cleanup(func() { db.Close() })
	recorder := telemetry.New("0.1.0", "istio")
	add := db.Appender(t.Context())
	parse := parser.NewParser(parser.Options{})
	for scrape := range scrapes + 1 {
		operate(t, recorder, time.UnixMilli(0).Add(time.Duration(scrape)*apart))
		for text, value := range exposition(t, recorder.Registry()) {
			series, err := parse.ParseMetric(scraped(text))
			if err != nil {
				t.Fatal(err)
			}
			series = labels.NewBuilder(series).Set(model.JobLabel, "flagger").Set(model.InstanceLabel, "10.0.0.1:8080").Labels()
			if _, err := add.Append(0, series, int64(scrape)*apart.Milliseconds(), value); err != nil {
				t.Fatalf("%s: %v", series, err)
			}
		}
	}
	if err := add.Commit(); err != nil {
		t.Fatal(err)
	}
	return db
}

// operate does what an operator with a rollout does.
func operate(t *testing.T, r *telemetry.Recorder, now time.Time) {
	t.Helper()
	c := &v1beta1.Canary{}
	c.Namespace, c.Name, c.Spec.TargetRef.Name = "test", "podinfo", "podinfo"
	c.Status.Phase = v1beta1.CanaryPhaseProgressing
	r.Leads("flagger-leader-election", true)
	r.Phase(c, c.Status.Phase)
	r.Spent(c, now)
	r.Weights(c, 80, 20)
	c.Status.Rollout = &v1beta1.RolloutStatus{Checks: &v1beta1.ChecksStatus{Split: &v1beta1.SplitStatus{PrimaryRequests: 790, CanaryRequests: 210}}}
	r.Split(c)
	r.Readings(c, []analysis.Reading{{Metric: v1beta1.CanaryMetric{Name: "errors"}, State: analysis.Value, Value: 1}})
	r.Checks(c, []v1beta1.MetricVerdict{{Name: "errors", Outcome: "pass"}})
	r.Duration(c, time.Second)
	r.Succeeded(c, false)
	r.Succeeded(c, true)
	r.Failed(c)
	r.Decision("start")
	r.Query(c, "prometheus", nil, time.Second)
	r.Alert(c, nil)
	clock := clocktesting.NewFakePassiveClock(now)
	hooks := telemetry.Hooks{Caller: passing{}, Recorder: r, Clock: clock}
	hooks.Call(t.Context(), v1beta1.CanaryWebhook{Name: "load", Type: v1beta1.RolloutHook}, hook.Payload{Namespace: c.Namespace, Name: c.Name}, "key")
	queue := r.Queue("canaries")
	queue.Queued()
	queue.Taken(time.Second)
	queue.Done(time.Second)
	queue.Retried()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://10.96.0.1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.Calls(answering{}, clock).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

type passing struct{}

func (passing) Call(context.Context, v1beta1.CanaryWebhook, hook.Payload, string) hook.Result {
	return hook.Result{Passed: true}
}

type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// exposition is what a scrape reads: values by their series.
func exposition(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	vector, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.Earliest}, families...)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, sample := range vector {
		all[sample.Metric.String()] = float64(sample.Value)
	}
	return all
}

// All that the operator tells is to be seen, and nothing that it does not tell is waited for.
func TestOperatorDashboardNamesEveryMetric(t *testing.T) {
	known := served(t)
	shown := map[string]bool{}
	for _, panel := range readDashboards(t)["operator"].Panels {
		for _, target := range panel.Targets {
			query := dashboards.Fill(target.Expr, map[string]string{"namespace": ".*"})
			if unknown := unknownNames(t, query, known); len(unknown) > 0 {
				t.Errorf("%s asks for %v, which the operator does not serve", panel.Title, unknown)
			}
			for name := range known {
				if strings.Contains(query, name) {
					shown[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
				}
			}
		}
	}
	for name := range known {
		own := strings.HasPrefix(name, "flagger_") || strings.HasPrefix(name, "workqueue_") || strings.HasPrefix(name, "rest_client_")
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if own && !shown[base] {
			t.Errorf("the dashboard does not show %s", base)
		}
	}
}

// Grafana shows a dashboard that refers to nothing else than the data source that its reader chooses.
func TestDashboardsAreWellFormed(t *testing.T) {
	uids := map[string]string{}
	for name, d := range readDashboards(t) {
		if d.UID != "flagger-"+name || uids[d.UID] != "" || d.Title == "" || d.Description == "" || d.SchemaVersion != 42 {
			t.Errorf("dashboard %s: uid %q, title %q, description %q, schema %d", name, d.UID, d.Title, d.Description, d.SchemaVersion)
		}
		uids[d.UID] = name
		chosen := dashboards.Datasource{Type: "prometheus", UID: "${datasource}"}
		if first := d.Templating.List[0]; first.Name != "datasource" || first.Type != "datasource" {
			t.Errorf("dashboard %s: the first variable is %s", name, first.Name)
		}
		for _, v := range d.Templating.List[1:] {
			if v.Datasource != chosen {
				t.Errorf("dashboard %s: variable %s asks %v", name, v.Name, v.Datasource)
			}
		}
		ids := map[int]bool{}
		for i, panel := range d.Panels {
			if ids[panel.ID] || panel.Title == "" {
				t.Errorf("dashboard %s: panel %d: title %q", name, panel.ID, panel.Title)
			}
			ids[panel.ID] = true
			for _, other := range d.Panels[:i] {
				if a, b := panel.GridPos, other.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("dashboard %s: %s covers %s", name, panel.Title, other.Title)
				}
			}
			if panel.Type == "row" {
				continue
			}
			if panel.Datasource != chosen || len(panel.Targets) == 0 || panel.GridPos.X+panel.GridPos.W > 24 {
				t.Errorf("dashboard %s: %s asks %v, %d queries", name, panel.Title, panel.Datasource, len(panel.Targets))
			}
			for _, target := range panel.Targets {
				if target.Datasource != chosen {
					t.Errorf("dashboard %s: %s asks %v", name, panel.Title, target.Datasource)
				}
			}
		}
	}
}
