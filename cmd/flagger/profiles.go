package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// listenForProfiles serves the profiles of the Go runtime on an address until ctx ends. They tell a lot about the process and cost it
// something, so they have an address of their own, which nobody has to be let in to.
func listenForProfiles(ctx context.Context, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("profiles: %w; choose a free address with -pprof-address", err)
	}
	return serveProfiles(ctx, listener)
}

// serveProfiles takes over the listener.
func serveProfiles(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// A profile of the processor takes as long as was asked for, so an answer has no deadline.
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return fmt.Errorf("profiles on %s: %w", listener.Addr(), err)
	}
	return nil
}
