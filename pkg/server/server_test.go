package server

import (
	"context"
	"errors"
	_ "expvar"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func metrics(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "flagger_info 1") }

func TestRoutes(t *testing.T) {
	ready := errors.New("caches are not synced")
	h := Handler(Options{Metrics: http.HandlerFunc(metrics), Ready: func() error { return ready }})
	check := func(method, path string, status int, body string) {
		t.Helper()
		if code, text := get(t, h, method, path); code != status || text != body {
			t.Errorf("%s %s: %d %q, want %d %q", method, path, code, text, status, body)
		}
	}
	check("GET", "/metrics", 200, "flagger_info 1")
	check("GET", "/healthz", 200, "OK")
	check("POST", "/healthz", 200, "OK")
	check("GET", "/readyz", 503, "caches are not synced")
	ready = nil
	check("GET", "/readyz", 200, "OK")
	h = Handler(Options{Metrics: http.HandlerFunc(metrics)})
	check("GET", "/readyz", 200, "OK")
}

// D-02: this test links the profiler and expvar, which put themselves on the mux of net/http. Ours must not serve them.
func TestD02NothingElseIsServed(t *testing.T) {
	h := Handler(Options{Metrics: http.HandlerFunc(metrics)})
	for _, path := range []string{"/", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/vars", "/debug/requests", "/debug/events", "/metrics/", "/healthz/x"} {
		if code, _ := get(t, h, "GET", path); code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, code)
		}
	}
	if code, _ := get(t, http.DefaultServeMux, "GET", "/debug/vars"); code != http.StatusOK {
		t.Fatalf("expvar is not linked (%d): this test proves nothing", code)
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "done")
	}
	ctx, cancel := context.WithCancel(t.Context())
	served, answered := make(chan error, 1), make(chan string, 1)
	go func() {
		served <- Serve(ctx, listener, Options{Metrics: http.HandlerFunc(slow), Grace: 5 * time.Minute})
	}()
	go func() {
		resp, err := http.Get("http://" + listener.Addr().String() + "/metrics")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answered <- string(body)
	}()
	<-arrived
	cancel()
	// The listener is closed first, so a refused connection shows that the stop has begun.
	for {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), time.Second)
		if err != nil {
			break
		}
		conn.Close()
	}
	close(release)
	if got := <-answered; got != "done" {
		t.Errorf("the request that was under way got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("a normal stop returned %v", err)
	}
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, listener, Options{Grace: 10 * time.Millisecond, Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(arrived)
			<-release
		})})
	}()
	go func() {
		if resp, err := http.Get("http://" + listener.Addr().String() + "/metrics"); err == nil {
			resp.Body.Close()
		}
	}()
	<-arrived
	cancel()
	if err := <-served; err == nil || !strings.Contains(err.Error(), "did not end within 10ms") {
		t.Errorf("got %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = ListenAndServe(t.Context(), listener.Addr().String(), Options{Metrics: http.HandlerFunc(metrics)})
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "-port") {
		t.Errorf("got %v", err)
	}
}

func TestListenAndServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ListenAndServe(ctx, "127.0.0.1:0", Options{Metrics: http.HandlerFunc(metrics)}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := Serve(t.Context(), listener, Options{Metrics: http.HandlerFunc(metrics)}); err == nil {
		t.Error("a closed listener is no error")
	}
}
