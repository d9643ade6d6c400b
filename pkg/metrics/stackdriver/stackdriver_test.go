package stackdriver

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

const (
	mql    = "fetch k8s_container | metric 'kubernetes.io/container/restart_count'"
	promQL = "sum(rate(http_requests_total[1m]))"
)

// keyFor is the JSON of a key whose tokens are fetched from a server.
func keyFor(t *testing.T, tokens string) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "of-the-key", "client_email": "flagger@example", "token_uri": tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func backend(t *testing.T) (*conformance.Backend, *conformance.Server) {
	t.Helper()
	tokens := conformance.Serve(t, conformance.Always(200, `{"access_token":"ya29.secret","token_type":"Bearer","expires_in":3600}`))
	return &conformance.Backend{
		Type: Type, Name: "Google Cloud Monitoring", Query: mql, Optional: true,
		New: func(t *outbound.Transports, _ clock.Clock) provider.Factory {
			return newFactory(t, func(cfg provider.Config) string { return cfg.Spec.Address })
		},
		Credentials:  map[string]string{"project": "team-a", "serviceAccountKey": keyFor(t, tokens.URL)},
		Public:       []string{"project"},
		OptionalKeys: []string{"serviceAccountKey"},
	}, tokens
}

func TestMQL(t *testing.T) {
	b, tokens := backend(t)
	b.Strings = true
	points := func(values string) string { return `{"timeSeriesData":[{"pointData":[{"values":[` + values + `]}]}]}` }
	b.Value = func(json string) string { return points(`{"doubleValue":` + json + `}`) }
	b.Empty = map[string]string{
		"no series": `{"timeSeriesData":[]}`, "no points": `{"timeSeriesData":[{"pointData":[]}]}`, "no values": points(""),
	}
	b.Answers = map[string]conformance.Answer{
		"whole number":   {Body: points(`{"int64Value":"7"}`), Value: 7},
		"several series": {Body: `{"timeSeriesData":[{"pointData":[{"values":[{"doubleValue":1}]}]},{"pointData":[{"values":[{"doubleValue":2}]}]}]}`, Value: 1},
		"distribution":   {Body: points(`{"distributionValue":{"count":"3"}}`), Is: provider.ErrInvalidQuery, Says: "percentile"},
	}
	conformance.Run(t, b)
	if requests, _ := tokens.Requests(); len(requests) > 200 {
		t.Errorf("%d tokens were fetched", len(requests))
	}
}

func TestPromQL(t *testing.T) {
	b, _ := backend(t)
	b.Strings, b.Query = true, promQL
	b.Value = func(json string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000000.1,` + json + `]}]}}`
	}
	b.Empty = map[string]string{"no series": `{"status":"success","data":{"resultType":"vector","result":[]}}`}
	b.Answers = map[string]conformance.Answer{
		"several series": {Body: `{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}`, Is: provider.ErrMultipleValues},
		"a matrix":       {Body: `{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"1"]]}]}}`, Is: provider.ErrMultipleValues, Says: "range"},
		"empty object":   {Body: "{}", Says: "not understood"},
		"a short value":  {Body: `{"status":"success","data":{"resultType":"vector","result":[{"value":[1]}]}}`, Says: "elements"},
	}
	conformance.Run(t, b)
}

func TestRequests(t *testing.T) {
	b, tokens := backend(t)
	server := conformance.Serve(t, conformance.Always(200, `{"status":"success","data":{"resultType":"vector","result":[]}}`))
	p := b.Provider(t, b.Config(server.URL), &conformance.Clock{})
	for _, query := range []string{mql, "\n  def x = 1; fetch y", "{ fetch a; fetch b } | ratio", promQL, `{__name__="fetched"}`} {
		if _, err := p.Query(t.Context(), query); err != nil && !strings.Contains(err.Error(), provider.ErrNoValues.Error()) {
			t.Fatal(err)
		}
	}
	if err := p.Online(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests, bodies := server.Requests()
	const inMQL, inPromQL = "POST /v3/projects/team-a/timeSeries:query", "GET /v1/projects/team-a/location/global/prometheus/api/v1/query"
	for i, want := range []string{inMQL, inMQL, inMQL, inPromQL, inPromQL, inMQL} {
		r := requests[i]
		if got := r.Method + " " + r.URL.Path; got != want || r.Header.Get("Authorization") != "Bearer ya29.secret" {
			t.Errorf("request %d: got %s %v, want %s", i, got, r.Header, want)
		}
	}
	if requests[3].URL.Query().Get("query") != promQL || !strings.Contains(bodies[0], "restart_count") {
		t.Errorf("got %s and %s", requests[3].URL, bodies[0])
	}
	if fetched, _ := tokens.Requests(); len(fetched) != 1 {
		t.Errorf("%d tokens were fetched for 6 queries", len(fetched))
	}
}

func TestMistakes(t *testing.T) {
	b, _ := backend(t)
	server := conformance.Serve(t, conformance.Always(http.StatusBadRequest, `{"error":{"status":"INVALID_ARGUMENT","message":"no such metric"}}`))
	p := b.Provider(t, b.Config(server.URL), &conformance.Clock{})
	_, err := p.Query(t.Context(), mql)
	conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery, Says: "no such metric"}, 0, err)
	if err := p.Online(t.Context()); err != nil {
		t.Errorf("a server that finds a mistake is online: %v", err)
	}
}

func TestTokenIsRefused(t *testing.T) {
	b, _ := backend(t)
	refusing := conformance.Serve(t, conformance.Always(http.StatusBadRequest, `{"error":"invalid_grant","error_description":"assertion eyJ-secret"}`))
	b.Credentials["serviceAccountKey"] = keyFor(t, refusing.URL)
	_, err := b.Provider(t, b.Config("http://127.0.0.1:1"), &conformance.Clock{}).Query(t.Context(), mql)
	if err == nil || !strings.Contains(err.Error(), "answered 400") || strings.Contains(err.Error(), "eyJ") {
		t.Errorf("got %v", err)
	}
}

func TestKeyThatIsNone(t *testing.T) {
	b, _ := backend(t)
	b.Credentials["serviceAccountKey"] = "hunter2"
	if _, err := b.New(outbound.NewTransports(&conformance.Clock{}), nil)(b.Config("http://127.0.0.1:1")); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestIdentityOfTheOperator(t *testing.T) {
	b, _ := backend(t)
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, []byte(b.Credentials["serviceAccountKey"]), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	server := conformance.Serve(t, conformance.Always(200, `{}`))
	cfg := b.Config(server.URL)
	cfg.Spec.SecretRef, cfg.Credentials = nil, nil
	_, _ = b.Provider(t, cfg, &conformance.Clock{}).Query(t.Context(), mql)
	requests, _ := server.Requests()
	if len(requests) != 1 || requests[0].URL.Path != "/v3/projects/of-the-key/timeSeries:query" {
		t.Errorf("got %v", requests)
	}
}
