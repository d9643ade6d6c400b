package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

// answer is what podinfo sends.
func answer(w http.ResponseWriter, status int, version, pod string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"version": %q, "hostname": %q}`, version, pod)
}

// run sends n requests, each when the one before is answered, and returns what became of them.
func run(t *testing.T, c Config, n int) Window {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	c.Rate, c.Clock, c.Timeout = 500, clk, 5*time.Minute
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { g.Run(ctx) })
	pause := func() { time.Sleep(100 * time.Microsecond) }
	for !clk.HasWaiters() {
		pause()
	}
	for sent := 1; sent <= n; sent++ {
		// What is due at a moment belongs to the time after it.
		clk.SetTime(time.Unix(1000, 0).Add(time.Duration(2*sent-1) * time.Millisecond))
		for w := g.Total(); w.Sent < sent || w.Pending > 0; w = g.Total() {
			pause()
		}
	}
	cancel()
	done.Wait()
	return g.Total()
}

func TestOutcomesAreToldApart(t *testing.T) {
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 5 {
		case 0:
			answer(w, http.StatusOK, "1", "podinfo-primary-a")
		case 1:
			answer(w, http.StatusInternalServerError, "bad", "podinfo-b")
		case 2:
			answer(w, http.StatusInternalServerError, "1", "podinfo-primary-a")
		case 3:
			http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
		case 4:
			panic(http.ErrAbortHandler) // the connection closes without an answer
		}
	}))
	defer server.Close()

	w := run(t, Config{URL: server.URL, Faulty: []string{"bad"}}, 100)

	if w.Sent != 100 || w.Pending != 0 {
		t.Fatalf("sent %d, pending %d; want 100 and none", w.Sent, w.Pending)
	}
	// The client repeats a request whose kept connection the server closed, so
	// that the server may see more requests than are lost.
	good := w.Version["1"].Answered - w.Version["1"].Failed
	want := w.Sent - good - w.Version["bad"].Failed
	if w.Lost != want {
		t.Errorf("lost %d, want %d: all but the good answers and the faulty version's own", w.Lost, want)
	}
	for _, cause := range []string{"500 from version 1", "503 from the gateway", "connection closed before the answer"} {
		if w.Losses[cause] == 0 {
			t.Errorf("no loss by cause %q in %v", cause, w.Losses)
		}
	}
	if w.FirstLoss.Before(w.From) || !w.LastLoss.After(w.FirstLoss) || w.LastLoss.After(w.To) {
		t.Errorf("losses from %s to %s, want that inside %s to %s", w.FirstLoss, w.LastLoss, w.From, w.To)
	}
	if w.Losses["500 from version bad"] != 0 {
		t.Errorf("the faulty version's own errors count as lost: %v", w.Losses)
	}
	if share := w.Share(func(pod string) bool { return pod == "podinfo-b" }); math.Abs(share-1.0/3) > 0.07 {
		t.Errorf("share of podinfo-b is %.2f of the application's answers, want a third", share)
	}
}

func TestUnreachableServerIsLoss(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	w := run(t, Config{URL: server.URL}, 20)
	if w.Lost != w.Sent || w.Losses["connection refused"] != w.Sent || w.Answered != 0 {
		t.Errorf("got %+v, want all requests lost by refused connections", w)
	}
}

func TestClientErrorsAreAnswers(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	w := run(t, Config{URL: server.URL}, 20)
	if w.Lost != 0 || w.Status["404"] != w.Sent || w.Success() != 1 {
		t.Errorf("got %+v, want 404 to be an answer", w)
	}
}

// TestHangingServerDoesNotStopTraffic is about coordinated omission: requests
// go on while none is answered, and those that wait are slow from their due time.
func TestHangingServerDoesNotStopTraffic(t *testing.T) {
	const n = 50
	arrived, release := make(chan struct{}, n), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		answer(w, http.StatusOK, "1", "a")
	}))
	defer server.Close()
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	g, err := New(Config{URL: server.URL, Rate: 10, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { g.Run(ctx) })

	<-arrived
	// Far behind: all that were due meanwhile are sent at once.
	clk.Step((n - 1) * 100 * time.Millisecond)
	for range n - 1 {
		<-arrived
	}
	if w := g.Total(); w.Pending == 0 || w.Answered != 0 {
		t.Errorf("while the server hangs: %d pending, %d answered; want all pending", w.Pending, w.Answered)
	}
	cancel()
	close(release)
	done.Wait()

	w := g.Window(time.Unix(1000, 0), time.Unix(1010, 0))
	if w.Sent != n || w.Answered != n || w.Lost != 0 {
		t.Errorf("sent %d, answered %d, lost %d; want %d, %d, 0", w.Sent, w.Answered, w.Lost, n, n)
	}
	if w.Latency.Max != 4900*time.Millisecond || w.Latency.P50 < 2*time.Second {
		t.Errorf("latency %+v, want it counted from when each request was due", w.Latency)
	}
	half := g.Window(time.Unix(1002, 0), time.Unix(1003, 0))
	if half.Sent != 10 || half.Answered != 10 {
		t.Errorf("one second has %d sent, %d answered; want 10", half.Sent, half.Answered)
	}
}

func TestFreshConnections(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fresh    float64
		min, max int
	}{
		{"none", -1, 1, 1},
		{"all", 1, 100, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var connections atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				answer(w, http.StatusOK, "1", "a")
			}))
			server.Listener = countingListener{server.Listener, &connections}
			server.Start()
			defer server.Close()
			w := run(t, Config{URL: server.URL, Fresh: tt.fresh}, 100)
			if n := int(connections.Load()); n < tt.min || n > tt.max {
				t.Errorf("%d connections for %d requests, want %d to %d", n, w.Sent, tt.min, tt.max)
			}
		})
	}
}

func TestPercentiles(t *testing.T) {
	var latencies []int64
	for i := int64(100); i > 0; i-- {
		latencies = append(latencies, i)
	}
	if diff := cmp.Diff(Latency{P50: 50, P90: 90, P99: 99, Max: 100}, percentiles(latencies)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Latency{P50: 7, P90: 7, P99: 7, Max: 7}, percentiles([]int64{7})); diff != "" {
		t.Error(diff)
	}
}

func TestConfigErrorsNameTheRemedy(t *testing.T) {
	for _, c := range []Config{{}, {URL: "10.0.0.1:80"}, {URL: "http://x", Rate: -1}, {URL: "http://x", Fresh: 2}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestCommandReportsLoss(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusInternalServerError, "2", "a")
	}))
	defer server.Close()
	args := []string{"-url", server.URL, "-rate", "20", "-duration", "2s"}
	var out, progress bytes.Buffer
	if err := Command(t.Context(), args, &out, &progress); !errors.Is(err, ErrLost) {
		t.Errorf("error is %v, want ErrLost", err)
	}
	var report Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if report.Sent == 0 || report.Lost != report.Sent || report.Status["500"] != report.Sent {
		t.Errorf("report %+v, want all requests lost", report)
	}
	out.Reset()
	if err := Command(t.Context(), append(args, "-faulty", "2"), &out, &progress); err != nil {
		t.Errorf("with -faulty: %v", err)
	}
}
