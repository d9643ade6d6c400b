package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// target is where the application exports its metrics, as istiod's injector
// writes it down when it leads Prometheus to the proxy's agent instead.
type target struct {
	Scrape string `json:"scrape"`
	Path   string `json:"path"`
	Port   string `json:"port"`
}

// merged exports the series of the proxy and, after them, those of the
// application, so that a pod needs one target only.
func merged(own http.Handler) (http.Handler, error) {
	var app target
	if written := os.Getenv("ISTIO_PROMETHEUS_ANNOTATIONS"); written != "" {
		if err := json.Unmarshal([]byte(written), &app); err != nil {
			return nil, fmt.Errorf("ISTIO_PROMETHEUS_ANNOTATIONS: %w", err)
		}
	}
	if app.Path == "" {
		app.Path = "/metrics"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// As text, which can be written in pieces.
		r.Header.Del("Accept")
		r.Header.Del("Accept-Encoding")
		own.ServeHTTP(w, r)
		if app.Scrape != "true" || app.Port == "" {
			return
		}
		if err := app.copyTo(w, r); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "istioproxy: metrics of the application:", err)
		}
	}), nil
}

func (t target) copyTo(w io.Writer, r *http.Request) error {
	url := "http://" + net.JoinHostPort("localhost", t.Port) + t.Path
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, response.Status)
	}
	_, err = io.Copy(w, response.Body)
	return err
}
