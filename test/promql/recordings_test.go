package promql

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"

	"flagger.app/flagger/test/dashboards"
)

// A rollout in scrapes: each share, from none over five steps and back to none, is held for some of them.
const (
	held  = 6
	steps = 7
)

// share is what the canary gets of the requests, in percent.
func share(scrape int) float64 {
	if step := scrape / held; step < steps-1 {
		return float64(10 * step)
	}
	return 0
}

// TestRecordings records what dashboards show whose mesh or gateway runs in no test, from the series that it is known to export, while a canary
// gets its share step by step. RECORD is the folder for that; without it, nothing is written.
func TestRecordings(t *testing.T) {
	for name, source := range map[string]string{
		"istio":   "the series that Envoy under Istio exported in make e2e-istio, and of its documentation, with made-up numbers of a rollout",
		"traefik": "the series that Traefik exported in make e2e-traefik, with made-up numbers of a rollout",
		"appmesh": "the series of the documentation of App Mesh, with made-up numbers of a rollout",
		"nginx":   "the series of the documentation of ingress-nginx, with made-up numbers of a rollout",
		"apisix":  "the series of the documentation of APISIX, with made-up numbers of a rollout",
	} {
		t.Run(name, func(t *testing.T) {
			d := readDashboards(t)[name]
			db := rolled(t, together(t, counted[name][0]))
			end := time.UnixMilli(0).Add(held * steps * apart)
			values, err := d.Choose(func(query string) (found []map[string]string, err error) {
				lines, err := askRange(t, db, query, end, end, 0)
				for _, line := range lines {
					found = append(found, line.Labels)
				}
				return found, err
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			ask := func(query string, start, end time.Time, step time.Duration) ([]dashboards.Line, error) {
				return askRange(t, db, query, start, end, step)
			}
			recording, err := d.Record(ask, values, time.UnixMilli(0), end)
			if err != nil {
				t.Fatal(err)
			}
			for _, panel := range d.Panels {
				for _, target := range panel.Targets {
					if len(recording.Panels[panel.ID][target.RefID]) == 0 {
						t.Errorf("%s shows nothing of a rollout", panel.Title)
					}
				}
			}
			recording.Source = source
			if folder := os.Getenv("RECORD"); folder != "" {
				if err := recording.Write(filepath.Join(folder, name+".json")); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// rolled are the scrapes of an export during a rollout.
func rolled(t *testing.T, e export) *teststorage.TestStorage {
	t.Helper()
	const each = 300
	db := teststorage.New(t)
	t.Cleanup(func() { db.Close() })
	add := db.Appender(t.Context())
	for _, one := range e.series {
		value := 0.0
		for scrape := range held*steps + 1 {
			of := share(scrape) / 100
			if one.side == primary {
				of = 1 - of
			}
			// Most requests are fast, and few are slow.
			for _, r := range []requests{{ok: 0.7, milliseconds: 20}, {ok: 0.27, milliseconds: 60}, {ok: 0.025, failed: 0.005, milliseconds: 200}} {
				r.ok, r.failed = r.ok*each*of, r.failed*each*of
				value += r.per(e, one.labels) * perRequest(one.labels)
			}
			now := value
			switch name := one.labels.Get(model.MetricNameLabel); {
			case name == "flagger_canary_weight":
				now = share(scrape)
			case strings.HasSuffix(name, "_working_set_bytes"):
				now = 30<<20 + of*each*20000
			}
			if _, err := add.Append(0, one.labels, int64(scrape)*apart.Milliseconds(), now); err != nil {
				t.Fatalf("%s: %v", one.labels, err)
			}
		}
	}
	if err := add.Commit(); err != nil {
		t.Fatal(err)
	}
	return db
}

// perRequest is how much a counter grows with a request.
func perRequest(l labels.Labels) float64 {
	switch name := l.Get(model.MetricNameLabel); {
	case strings.HasSuffix(name, "_cpu_usage_seconds_total"):
		return 0.002
	case strings.HasSuffix(name, "_bytes_total"):
		return 1500
	default:
		return 1
	}
}

// askRange is a dashboards.AskRange of a storage.
func askRange(t *testing.T, db storage.Queryable, query string, start, end time.Time, step time.Duration) ([]dashboards.Line, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{})})
	if step == 0 {
		start, step = end, time.Second
	}
	q, err := engine.NewRangeQuery(t.Context(), db, nil, query, start, end, step)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	matrix, err := q.Exec(t.Context()).Matrix()
	var lines []dashboards.Line
	for _, series := range matrix {
		line := dashboards.Line{Labels: series.Metric.Map()}
		for _, p := range series.Floats {
			line.Points = append(line.Points, dashboards.Point{float64(p.T) / 1000, p.F})
		}
		lines = append(lines, line)
	}
	return lines, err
}
