package externalmetrics

import (
	"os"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

func list(items string) string {
	return `{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[` + items + `]}`
}

func backend(kube *rest.Config) *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "External Metrics API", Query: "apps/errors?labelSelector=app%3Dpodinfo", SkipsVerify: true, Optional: true,
		New:          func(t *outbound.Transports, _ clock.Clock) provider.Factory { return New(t, kube) },
		Credentials:  map[string]string{"token": "adapter-secret"},
		OptionalKeys: []string{"token"},
		Value: func(json string) string {
			return list(`{"metricName":"errors","timestamp":"2026-11-29T12:00:00Z","value":"` + strings.Trim(json, `"`) + `"}`)
		},
		Empty: map[string]string{"no items": list("")},
		Answers: map[string]conformance.Answer{
			"null":           {Body: list(`{"metricName":"errors","value":"many"}`), Says: "not understood"},
			"milli":          {Body: list(`{"metricName":"errors","value":"98500m"}`), Value: 98.5},
			"several series": {Body: list(`{"value":"7"},{"value":"8"}`), Value: 7},
		},
	}
}

func TestConformance(t *testing.T) { conformance.Run(t, backend(nil)) }

func TestQueries(t *testing.T) {
	b := backend(nil)
	server := conformance.Serve(t, conformance.Always(200, b.Value("1")))
	p := b.Provider(t, b.Config(server.URL), &conformance.Clock{})
	const prefix = "/apis/external.metrics.k8s.io/v1beta1/namespaces/"
	for i, tc := range []struct{ query, path, selector string }{
		{"errors", "default/errors", ""},
		{"apps/errors", "apps/errors", ""},
		{"\napps/errors?labelSelector=app%3Dpodinfo%2Ctier+in+%28a%2Cb%29\n", "apps/errors", "app=podinfo,tier in (a,b)"},
	} {
		if _, err := p.Query(t.Context(), tc.query); err != nil {
			t.Fatal(err)
		}
		requests, _ := server.Requests()
		if r := requests[i]; r.URL.Path != prefix+tc.path || r.URL.Query().Get("labelSelector") != tc.selector || r.Header.Get("Authorization") != "Bearer adapter-secret" {
			t.Errorf("%q: got %s %v", tc.query, r.URL, r.Header)
		}
	}
	for _, query := range []string{"", "/errors", "apps/", "a/b/c", "errors?labelSelector=a%20b", "errors?labelSelector=%zz"} {
		_, err := p.Query(t.Context(), query)
		conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery}, 0, err)
	}
}

func TestOnline(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		online bool
	}{
		"no such metric": {404, `{"kind":"Status","status":"Failure","message":"metric not found","code":404}`, true},
		"nothing there":  {200, list(""), true},
		"no adapter":     {404, "404 page not found\n", false},
		"not allowed":    {403, `{"kind":"Status","message":"forbidden"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := backend(nil)
			server := conformance.Serve(t, conformance.Always(tc.status, tc.body))
			if err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Online(t.Context()); (err == nil) != tc.online {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The token of the operator is for its own API server.
func TestWhoseToken(t *testing.T) {
	file := t.TempDir() + "/token"
	if err := os.WriteFile(file, []byte("operator-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := backend(nil)
	own, other := conformance.Serve(t, conformance.Always(200, b.Value("1"))), conformance.Serve(t, conformance.Always(200, b.Value("1")))
	b = backend(&rest.Config{Host: own.URL, BearerTokenFile: file})
	for _, tc := range []struct {
		name    string
		server  *conformance.Server
		address string
		secret  bool
		want    string
	}{
		{"own server", own, "", false, "Bearer operator-secret"},
		{"own server, token", own, "", true, "Bearer adapter-secret"},
		{"other server", other, other.URL, false, ""},
		{"other server, token", other, other.URL, true, "Bearer adapter-secret"},
	} {
		cfg := b.Config(tc.address)
		if !tc.secret {
			cfg.Spec.SecretRef, cfg.Credentials = nil, nil
		}
		if _, err := b.Provider(t, cfg, &conformance.Clock{}).Query(t.Context(), "errors"); err != nil {
			t.Fatal(err)
		}
		requests, _ := tc.server.Requests()
		if got := requests[len(requests)-1].Header.Get("Authorization"); got != tc.want {
			t.Errorf("%s: Authorization %q, want %q", tc.name, got, tc.want)
		}
	}
}

// Kubernetes refuses a configuration that has a CA and skips verification.
func TestInsecureWithAnAuthority(t *testing.T) {
	cfg := backend(nil).Config("")
	cfg.Spec.InsecureSkipVerify = true
	kube := &rest.Config{Host: "https://127.0.0.1:1", TLSClientConfig: rest.TLSClientConfig{CAFile: "/var/run/secrets/ca.crt"}}
	if _, err := backend(kube).New(outbound.NewTransports(&conformance.Clock{}), nil)(cfg); err != nil {
		t.Error(err)
	}
	if _, err := backend(nil).New(outbound.NewTransports(&conformance.Clock{}), nil)(backend(nil).Config("")); err == nil {
		t.Error("no API server was missed")
	}
}
