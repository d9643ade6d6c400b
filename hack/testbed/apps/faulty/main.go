// Command faulty stands for a release of podinfo with a bug: it starts, gets
// ready and ends as podinfo does, and takes podinfo's flags, but answers its
// users slowly or with errors. Every answer carries version and pod, so that
// its errors are told apart from those of the gateway or of another version.
// It counts them in the metrics of podinfo.
//
// What is wrong with it is part of the image, not of the manifest, and thus
// set by the environment:
//
//	FAULTY_VERSION  the version it says it is (default "faulty")
//	FAULTY_ERRORS   percentage of answers with status 500 (default 100)
//	FAULTY_DELAY    how long each answer takes (default 0s)
//	FAULTY_UNREADY  "true": it never gets ready
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/utils/clock"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "faulty:", err)
		os.Exit(1)
	}
}

// drain is how long podinfo goes on serving after SIGTERM, so that nobody
// sends new requests when it stops; shutdown bounds the answers still under way.
const (
	drain    = 3 * time.Second
	shutdown = 5 * time.Second
)

func run() error {
	host := flag.String("host", "", "address to listen on")
	port := flag.Int("port", 9898, "port to listen on")
	for _, name := range []string{"level", "port-metrics", "grpc-port", "grpc-service-name", "random-delay", "random-error"} {
		flag.String(name, "", "taken for the sake of podinfo's manifests")
	}
	flag.Parse()
	fault, err := readFault(os.Getenv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	app := newApp(fault)
	app.ready.Store(!fault.unready)
	server := &http.Server{
		Addr: net.JoinHostPort(*host, strconv.Itoa(*port)), Handler: app, ReadHeaderTimeout: time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	app.ready.Store(false)
	<-app.clock.After(drain)
	ctx, cancel := context.WithTimeout(context.Background(), shutdown)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

// fault is what is wrong with this release.
type fault struct {
	version string
	pod     string
	// errors is the percentage of answers with status 500.
	errors  uint64
	delay   time.Duration
	unready bool
}

func readFault(env func(string) string) (fault, error) {
	f := fault{version: "faulty", errors: 100, unready: env("FAULTY_UNREADY") == "true"}
	if v := env("FAULTY_VERSION"); v != "" {
		f.version = v
	}
	var err error
	if v := env("FAULTY_ERRORS"); v != "" {
		if f.errors, err = strconv.ParseUint(v, 10, 8); err != nil || f.errors > 100 {
			return f, fmt.Errorf("FAULTY_ERRORS=%q: give a percentage from 0 to 100", v)
		}
	}
	if v := env("FAULTY_DELAY"); v != "" {
		if f.delay, err = time.ParseDuration(v); err != nil {
			return f, fmt.Errorf("FAULTY_DELAY: %w", err)
		}
	}
	if f.pod, err = os.Hostname(); err != nil {
		return f, fmt.Errorf("host name: %w", err)
	}
	return f, nil
}

type app struct {
	fault    fault
	clock    clock.Clock
	ready    atomic.Bool
	requests atomic.Uint64
	// metrics serves what was counted of all requests, as podinfo does.
	metrics  http.Handler
	duration *prometheus.HistogramVec
}

func newApp(f fault) *app {
	registry := prometheus.NewRegistry()
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Subsystem: "http", Name: "request_duration_seconds", Help: "Seconds spent serving HTTP requests.",
	}, []string{"method", "path", "status"})
	registry.MustRegister(duration)
	return &app{fault: f, clock: clock.RealClock{}, metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), duration: duration}
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		w.WriteHeader(http.StatusOK)
		return
	case "/readyz":
		if !a.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	case "/token":
		// What acceptance tests look for. An error means that the client is gone.
		_, _ = w.Write([]byte(`{"token":"none"}`))
		return
	case "/metrics":
		a.metrics.ServeHTTP(w, r)
		return
	}
	begin := a.clock.Now()
	if a.fault.delay > 0 {
		<-a.clock.After(a.fault.delay)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	message, status := "greetings", http.StatusOK
	if a.fails(a.requests.Add(1)) {
		message, status = "this release has a bug", http.StatusInternalServerError
	}
	a.duration.WithLabelValues(r.Method, strings.Trim(r.URL.Path, "/"), strconv.Itoa(status)).Observe(a.clock.Since(begin).Seconds())
	w.WriteHeader(status)
	// An error means that the client is gone.
	_ = json.NewEncoder(w).Encode(map[string]string{
		"hostname": a.fault.pod, "version": a.fault.version, "message": message,
	})
}

// fails spreads the errors evenly: of any 100 requests in a row exactly the
// given percentage fail.
func (a *app) fails(n uint64) bool {
	return n*a.fault.errors/100 > (n-1)*a.fault.errors/100
}
