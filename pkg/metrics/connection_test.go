package metrics

import (
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// many are Canaries with one metric each, on an interval of 10 seconds.
func many(n int, metric func(i int) v1beta1.CanaryMetric) []*v1beta1.Canary {
	all := make([]*v1beta1.Canary, n)
	for i := range all {
		all[i] = canary(func(c *v1beta1.Canary) {
			c.Name, c.Spec.Analysis.Interval = fmt.Sprintf("app-%d", i), "10s"
			c.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{metric(i)}
		})
	}
	return all
}

// readAtOnce reads the metrics of all Canaries at the same time, each of which has to have a value.
func readAtOnce(t *testing.T, e *Evaluator, canaries []*v1beta1.Canary) {
	t.Helper()
	inParallel(t.Context(), len(canaries), func(ctx context.Context, i int) {
		for _, r := range e.Read(ctx, canaries[i]) {
			if r.State != analysis.Value {
				t.Errorf("%s: %s", canaries[i].Name, r.Cause)
			}
		}
	})
}

// counting answers as Prometheus does, compressed, and counts connections. No query is answered before as many are there as are asked
// at a time.
type counting struct {
	*httptest.Server
	atOnce                  int
	mu                      sync.Mutex
	arrived                 int
	together                chan struct{}
	queries, most, answered int
	connections             atomic.Int64
}

func newCounting(t *testing.T, atOnce int) *counting {
	t.Helper()
	s := &counting{atOnce: atOnce, together: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *counting) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.queries++
	s.arrived++
	s.most = max(s.most, s.queries-s.answered)
	mine := s.together
	if s.arrived == s.atOnce {
		s.arrived, s.together = 0, make(chan struct{})
		close(mine)
	}
	s.mu.Unlock()
	select {
	case <-mine:
	case <-r.Context().Done():
	}
	s.mu.Lock()
	s.answered++
	s.mu.Unlock()
	w.Header().Set("Content-Encoding", "gzip")
	body := gzip.NewWriter(w)
	_, _ = fmt.Fprint(body, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`)
	_ = body.Close()
	// The end of a longer answer comes by itself, too.
	_ = http.NewResponseController(w).Flush()
}

// A hundred Canaries with the same query cost their server one query in each of their intervals. Those of one Canary are never fewer
// than its checks.
func TestCanariesShareQueries(t *testing.T) {
	server := newCounting(t, 1)
	s := store{templates: map[string]*v1beta1.MetricTemplate{"test/errors": metricTemplate("test", "errors", server.URL, "errors_{{ variables.app }}")}}
	e, now := s.evaluator(""), clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
	e.Clock, e.PerServer = now, 20
	var waited atomic.Int64
	e.Asked = func(*v1beta1.Canary, string, error, time.Duration) { waited.Add(1) }
	canaries := many(100, func(int) v1beta1.CanaryMetric {
		return v1beta1.CanaryMetric{Name: "errors", TemplateRef: ref("", "errors"), TemplateVariables: map[string]string{"app": "gateway"}}
	})
	const intervals = 5
	for range intervals {
		readAtOnce(t, e, canaries)
		now.SetTime(now.Now().Add(10 * time.Second))
	}
	if server.queries != intervals || waited.Load() != 100*intervals || server.connections.Load() != 1 {
		t.Errorf("%d queries of %d were sent by %d connections in %d intervals", server.queries, waited.Load(), server.connections.Load(), intervals)
	}
	for range 3 {
		readAtOnce(t, e, canaries[:1])
	}
	if server.queries != intervals+3 {
		t.Errorf("3 checks of one Canary at the same moment sent %d queries", server.queries-intervals)
	}
}

// What is counted from check to check is counted by each Canary for itself.
func TestCountsAreNotShared(t *testing.T) {
	server := newPromServer(t, map[string]string{"bad": "1", "all": "1000"})
	e := store{}.evaluator(server.URL)
	e.Clock = clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
	canaries := many(2, func(int) v1beta1.CanaryMetric {
		return v1beta1.CanaryMetric{Name: "errors", Query: "bad_{{ side }}", MetricPolicy: v1beta1.MetricPolicy{
			SamplesQuery: "all_{{ side }}", Comparison: &v1beta1.MetricComparison{Difference: most(1), FalseAlarmRate: 0.01},
		}}
	})
	readAtOnce(t, e, canaries)
	if n := len(server.take()); n != 8 {
		t.Errorf("%d queries for 4 counts of 2 Canaries", n)
	}
}

// A server is asked by as many queries at a time as the bound says, over as many connections, which are used again and again.
func TestQueriesToOneServerAreBounded(t *testing.T) {
	const bound = 5
	server := newCounting(t, bound)
	e := store{}.evaluator(server.URL)
	e.PerServer = bound
	for range 3 {
		readAtOnce(t, e, many(100, func(i int) v1beta1.CanaryMetric {
			return v1beta1.CanaryMetric{Name: "errors", Query: fmt.Sprintf("errors_%d", i)}
		}))
	}
	if server.most != bound || server.queries != 300 || server.connections.Load() != bound {
		t.Errorf("%d queries, %d at a time, by %d connections", server.queries, server.most, server.connections.Load())
	}
}

// An answer does not outlast the credentials that it was got by.
func TestChangedCredentialsAskAnew(t *testing.T) {
	server, accept, _ := guardedServer(t)
	tmpl := metricTemplate("test", "errors", server.URL, "up")
	tmpl.Spec.Provider.SecretRef = &corev1.LocalObjectReference{Name: "creds"}
	secret := map[string][]byte{"token": []byte("old")}
	s := store{templates: map[string]*v1beta1.MetricTemplate{"test/errors": tmpl}, secrets: map[string]map[string][]byte{"test/creds": secret}}
	e := s.evaluator("")
	e.Clock = clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
	canaries := many(2, func(int) v1beta1.CanaryMetric {
		return v1beta1.CanaryMetric{Name: "errors", TemplateRef: ref("", "errors")}
	})
	accept("old")
	readAtOnce(t, e, canaries[:1])
	secret["token"] = []byte("wrong")
	if r := e.Read(t.Context(), canaries[1])[0]; r.State != analysis.Failed {
		t.Errorf("with a wrong token: %+v", r)
	}
	accept("new")
	secret["token"] = []byte("new")
	readAtOnce(t, e, canaries[1:])
}

// A server that never answers costs those who ask it their time, and nobody else's: not even who asks it by another query first.
func TestHangingServerHoldsNobodyUp(t *testing.T) {
	hanging, arrived := newCounting(t, 1000), make(chan struct{})
	hanging.Config.Handler = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case arrived <- struct{}{}:
			case <-r.Context().Done():
			}
			next.ServeHTTP(w, r)
		})
	}(hanging.Config.Handler)
	healthy := newCounting(t, 1)
	e := store{}.evaluator(healthy.URL)
	e.PerServer = 3
	stuck := many(50, func(i int) v1beta1.CanaryMetric {
		return v1beta1.CanaryMetric{Name: "errors", Query: fmt.Sprintf("errors_%d", i)}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for _, c := range stuck {
		c.Spec.MetricsServer = hanging.URL
		wait.Go(func() { e.Read(ctx, c) })
	}
	for range 3 {
		<-arrived
	}
	readAtOnce(t, e, many(1, func(int) v1beta1.CanaryMetric { return v1beta1.CanaryMetric{Name: "errors", Query: "up"} }))
	cancel()
	wait.Wait()
}
