package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"flagger.app/flagger/pkg/kube/objects"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/telemetry"
)

// Without a flag that asks for one there is no limit but that of the server. One that is set in part is that of Flagger for the rest.
func TestPaceOfCalls(t *testing.T) {
	for _, test := range []struct {
		args  []string
		qps   float32
		burst int
	}{
		{nil, -1, 0},
		{[]string{"-kubeconfig-qps=20"}, 20, 250},
		{[]string{"-kubeconfig-burst=30"}, 100, 30},
		{[]string{"-kubeconfig-qps=20", "-kubeconfig-burst=30"}, 20, 30},
	} {
		cfg := configOf(t, "http://127.0.0.1:1", test.args...)
		if cfg.QPS != test.qps || cfg.Burst != test.burst || cfg.RateLimiter != nil {
			t.Errorf("%v: %v per second, %d in a burst, limiter %v", test.args, cfg.QPS, cfg.Burst, cfg.RateLimiter)
		}
	}
}

func configOf(t *testing.T, server string, args ...string) *rest.Config {
	t.Helper()
	o, err := parse(append(args, "-master="+server), noEnvironment, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := restConfig(o, "", telemetry.New("test", "istio"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A server that has too much to do says when to come back. Neither reads nor writes come earlier, and none is lost.
func TestBusyServerIsObeyed(t *testing.T) {
	var mu sync.Mutex
	refused := map[string]time.Time{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		at, again := refused[r.Method]
		if !again {
			refused[r.Method] = time.Now()
		}
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch {
		case !again:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429}`)
			return
		case time.Since(at) < time.Second:
			t.Errorf("%s comes back after %s", r.Method, time.Since(at))
		}
		_, _ = io.WriteString(w, `{"kind":"Service","apiVersion":"v1","metadata":{"name":"podinfo","namespace":"test"}}`)
	}))
	defer server.Close()
	client, err := objects.NewForConfig(configOf(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	resource := client.Resource(services.Ref("", "").Resource).Namespace("test")
	service, err := resource.Get(t.Context(), "podinfo", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resource.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if len(refused) != 2 {
		t.Errorf("refused were %v", refused)
	}
}
