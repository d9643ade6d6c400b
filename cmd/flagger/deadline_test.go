package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/telemetry"
)

// mute is a server that begins its answers and never ends them; to /silent it does not even begin. It says when it was asked.
func mute(t *testing.T) (server *httptest.Server, asked <-chan struct{}) {
	t.Helper()
	calls := make(chan struct{}, 100)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls <- struct{}{}
		if r.URL.Path != "/silent" {
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	return server, calls
}

// limit is how long an answer may take by a clock that only the test sets.
const limit = time.Minute

func get(t *testing.T, url string, clock *clocktesting.FakeClock) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return (&http.Client{Transport: patient{http.DefaultTransport, limit, clock}}).Do(request)
}

func TestCallsWithoutAnAnswerEnd(t *testing.T) {
	server, asked := mute(t)
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	for _, path := range []string{"/silent", "/silent?watch=true"} {
		go func() {
			<-asked
			clock.Step(limit)
		}()
		response, err := get(t, server.URL+path, clock)
		if err == nil {
			response.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "no answer within 1m0s (-kubeconfig-timeout)") {
			t.Errorf("%s: %v", path, err)
		}
	}
	response, err := get(t, server.URL+"/half", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	clock.Step(limit)
	if got, err := io.ReadAll(response.Body); string(got) != "a" || err == nil || !strings.Contains(err.Error(), "-kubeconfig-timeout") {
		t.Errorf("read %q, %v", got, err)
	}
}

// A watch goes on for as long as it lives.
func TestWatchesHaveNoLimit(t *testing.T) {
	more := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "event")
	}))
	defer server.Close()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	response, err := get(t, server.URL+"/?watch=true", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	clock.Step(3 * limit)
	close(more)
	if got, err := io.ReadAll(response.Body); string(got) != "event" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// C-02: nothing that was begun is still to arrive when the process has stopped and somebody else acts.
func TestC02_WritesAreNotGivenUp(t *testing.T) {
	begun, answer := make(chan string), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		begun <- r.Method
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	client := &http.Client{Transport: patient{http.DefaultTransport, time.Minute, clock.RealClock{}}}
	ended := make(chan error)
	do := func(ctx context.Context, method string) {
		// A body makes the server notice when the client goes away.
		request, err := http.NewRequestWithContext(ctx, method, server.URL, strings.NewReader("{}"))
		if err != nil {
			t.Error(err)
		}
		response, err := client.Do(request)
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		ended <- err
	}

	stopped, stop := context.WithCancel(t.Context())
	go do(stopped, http.MethodGet)
	<-begun
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		go do(stopped, method)
		<-begun
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a read whose caller stopped ended with %v", err)
	}
	close(answer)
	for range 4 {
		if err := <-ended; err != nil {
			t.Errorf("a write whose caller stopped ended with %v", err)
		}
	}
	go do(stopped, http.MethodPost)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a write was begun after the stop: %v", err)
	}
}

func TestWritesKeepTheirDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	server, _ := mute(t)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/silent", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := patient{http.DefaultTransport, time.Minute, clock.RealClock{}}.RoundTrip(request)
	if err == nil {
		response.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

func TestEveryClientHasTheLimit(t *testing.T) {
	server, _ := mute(t)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	recorder := telemetry.New("test", "istio")
	c, err := connect(&options{master: server.URL, timeout: 20 * time.Millisecond, election: electionOptions{renewDeadline: time.Hour}}, recorder)
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() error{
		"kube":    func() error { _, err := c.kube.Secret(t.Context(), "test", "silent"); return err },
		"flagger": func() error { return c.flagger.Get().AbsPath("/silent").Do(t.Context()).Error() },
		"lease":   func() error { _, err := c.lease.GetLease(t.Context(), "test", "silent"); return err },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "-kubeconfig-timeout") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := httptest.NewRecorder()
	recorder.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	host := strings.TrimPrefix(server.URL, "http://")
	// Two of the answers begin.
	for _, code := range []string{`"error",host="` + host + `",method="GET"} 1`, `"200",host="` + host + `",method="GET"} 2`} {
		if want := "rest_client_requests_total{code=" + code; !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}
