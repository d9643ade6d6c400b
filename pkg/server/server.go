// Package server serves the metrics and the health of a program over HTTP.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Grace is how long requests may take to end after a stop, where the options say nothing else.
const Grace = 3 * time.Second

// Options are what the server serves.
type Options struct {
	// Metrics answers /metrics.
	Metrics http.Handler
	// Ready answers /readyz: nil means ready, an error says why not. Without it the program is ready at once.
	Ready func() error
	// Others answers every other path. Without it there is none. A request has 5 seconds to arrive and a minute to be answered,
	// unless the handler lifts these deadlines.
	Others http.Handler
	// Grace is how long requests may take to end after a stop. Default: 3 seconds.
	Grace time.Duration
}

// Handler serves /metrics, /healthz and /readyz, and nothing else unless the options say so. It has its own mux: on that of
// net/http, profilers and debug pages of linked libraries would appear by themselves.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", o.Metrics)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "OK")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if o.Ready != nil {
			if err := o.Ready(); err != nil {
				text(w, http.StatusServiceUnavailable, err.Error())
				return
			}
		}
		text(w, http.StatusOK, "OK")
	})
	if o.Others != nil {
		mux.Handle("/", o.Others)
	}
	return mux
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// A client that hung up is not our problem.
	_, _ = w.Write([]byte(body))
}

// Serve serves until ctx ends, then lets requests end for up to the grace of the options and returns nil. It takes over the
// listener.
func Serve(ctx context.Context, listener net.Listener, o Options) error {
	wait := cmp.Or(o.Grace, Grace)
	server := &http.Server{
		Handler:           Handler(o),
		ReadTimeout:       5 * time.Second,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       15 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("http server on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	// The parent has ended already, so the grace needs a context of its own.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("http server on %s: requests did not end within %s: %w", listener.Addr(), wait, err), server.Close())
	}
	return nil
}

// ListenAndServe is Serve on a new listener for the address, such as ":8080".
func ListenAndServe(ctx context.Context, address string, o Options) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("http server: %w; choose a free port with -port", err)
	}
	return Serve(ctx, listener, o)
}
