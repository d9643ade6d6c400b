package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestProfiles(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- serveProfiles(ctx, listener) }()
	for path, want := range map[string]int{"/debug/pprof/heap?gc=1": http.StatusOK, "/debug/pprof/goroutine": http.StatusOK, "/metrics": http.StatusNotFound} {
		response, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != want {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	if err := listenForProfiles(ctx, listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "-pprof-address") {
		t.Errorf("a port that is taken: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("a normal stop: %v", err)
	}
}
