package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestErrorsAreOfTheGivenShareAndMarked(t *testing.T) {
	for percent, want := range map[string]int{"0": 0, "30": 60, "100": 200, "": 200} {
		f, err := readFault(env(map[string]string{"FAULTY_VERSION": "6.9.4", "FAULTY_ERRORS": percent}))
		if err != nil {
			t.Fatal(err)
		}
		a := newApp(f)
		failed := 0
		for range 200 {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			var body struct{ Version, Hostname string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Version != "6.9.4" || body.Hostname == "" {
				t.Fatalf("answer %d %s: want version and pod in every one", w.Code, w.Body)
			}
			if w.Code == http.StatusInternalServerError {
				failed++
			}
		}
		if failed != want {
			t.Errorf("FAULTY_ERRORS=%q: %d of 200 failed, want %d", percent, failed, want)
		}
	}
}

func TestAnswersAreCountedByStatus(t *testing.T) {
	a := newApp(fault{errors: 50})
	for range 4 {
		a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/version", nil))
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, status := range []string{"200", "500"} {
		want := `http_request_duration_seconds_count{method="GET",path="version",status="` + status + `"} 2`
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
}

func TestProbesSucceedUntilItEnds(t *testing.T) {
	a := newApp(fault{errors: 100})
	a.ready.Store(true)
	for _, path := range []string{"/healthz", "/readyz"} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d, want 200", path, w.Code)
		}
	}
	a.ready.Store(false)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("/readyz of an unready one: %d, want 503", w.Code)
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for name, value := range map[string]string{"FAULTY_ERRORS": "101", "FAULTY_DELAY": "soon"} {
		if _, err := readFault(env(map[string]string{name: value})); err == nil {
			t.Errorf("%s=%s was accepted", name, value)
		}
	}
	f, err := readFault(env(map[string]string{"FAULTY_DELAY": "1s"}))
	if err != nil || f.delay != time.Second {
		t.Errorf("FAULTY_DELAY=1s: %v, %v", f.delay, err)
	}
}
