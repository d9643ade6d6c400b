package prometheus

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// answering starts a server that gives the same answer to everything and keeps the requests.
func answering(t *testing.T, status int, body string) (*httptest.Server, func() []*http.Request) {
	t.Helper()
	var mu sync.Mutex
	var requests []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, r)
		mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server, func() []*http.Request {
		mu.Lock()
		defer mu.Unlock()
		return requests
	}
}

func factory() provider.Factory {
	return New(outbound.NewTransports(&conformance.Clock{}), &conformance.Clock{})
}

func TestConformance(t *testing.T) {
	conformance.Run(t, &conformance.Backend{
		Type: Type, Name: "prometheus", Query: "up", Strings: true, SkipsVerify: true, Optional: true,
		New:         func(t *outbound.Transports, c clock.Clock) provider.Factory { return New(t, c) },
		Credentials: map[string]string{"token": "prom-secret"},
		Value: func(json string) string {
			return `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000000.123,` + json + `]}]}}`
		},
		Empty: map[string]string{"no series": vector()},
		Answers: map[string]conformance.Answer{
			"a value":      {Body: vector("98.5"), Value: 98.5},
			"zero":         {Body: vector("0"), Value: 0},
			"empty object": {Body: "{}", Says: "not understood"},
		},
	})
}

func client(t *testing.T, cfg provider.Config) provider.Provider {
	t.Helper()
	c, err := factory()(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(address string) provider.Config {
	return provider.Config{Spec: v1beta1.MetricTemplateProvider{Type: Type, Address: address}}
}

func vector(samples ...string) string {
	series := make([]string, len(samples))
	for i, s := range samples {
		series[i] = fmt.Sprintf(`{"metric":{"i":"%d"},"value":[1700000000.123,%q]}`, i, s)
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(series, ",") + `]}}`
}

func TestQuery(t *testing.T) {
	const broken = `{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end of input"}`
	for name, tc := range map[string]struct {
		status int
		body   string
		value  float64
		is     error
		says   []string
	}{
		"value":                  {200, vector("98.5"), 98.5, nil, nil},
		"last series":            {200, vector("1", "2", "3"), 3, nil, nil},
		"infinity":               {200, vector("+Inf"), 0, provider.ErrNoValues, nil},
		"no data":                {200, vector(), 0, provider.ErrNoValues, nil},
		"NaN":                    {200, vector("1", "NaN"), 0, provider.ErrNoValues, nil},
		"matrix":                 {200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"2"]]}]}}`, 0, provider.ErrMultipleValues, []string{"range"}},
		"scalar":                 {200, `{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`, 0, provider.ErrInvalidQuery, []string{"scalar", "vector()"}},
		"native histogram":       {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"2","buckets":[]}]}]}}`, 0, provider.ErrInvalidQuery, []string{"native histogram"}},
		"string":                 {200, `{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`, 0, provider.ErrInvalidQuery, []string{"string"}},
		"value is no number":     {200, vector("many"), 0, nil, []string{"not understood"}},
		"broken JSON":            {200, `{"status":"success","data":{"resultType":"vec`, 0, nil, []string{"not understood", "unexpected EOF"}},
		"no JSON":                {200, `<html>sign in</html>`, 0, nil, []string{"not understood", "'<'"}},
		"empty answer":           {200, ``, 0, nil, []string{"not understood"}},
		"empty object":           {200, `{}`, 0, nil, []string{"not understood"}},
		"no content":             {204, ``, 0, nil, []string{"204 No Content"}},
		"error with status 200":  {200, broken, 0, provider.ErrInvalidQuery, []string{"parse error: unexpected end of input"}},
		"query does not parse":   {400, broken, 0, provider.ErrInvalidQuery, []string{"parse error: unexpected end of input"}},
		"query fails":            {422, `{"status":"error","errorType":"execution","error":"many-to-many matching"}`, 0, provider.ErrInvalidQuery, []string{"many-to-many matching"}},
		"query times out":        {503, `{"status":"error","errorType":"timeout","error":"query timed out"}`, 0, nil, []string{"503 Service Unavailable", "query timed out"}},
		"not authorized":         {401, `no`, 0, nil, []string{"401 Unauthorized: no"}},
		"not found":              {404, `404 page not found`, 0, nil, []string{"404 Not Found: 404 page not found"}},
		"bad gateway, long text": {502, strings.Repeat("x", 5000), 0, nil, []string{"502 Bad Gateway", "xxx…"}},
		"method not allowed":     {405, ``, 0, nil, []string{"405 Method Not Allowed"}},
	} {
		t.Run(name, func(t *testing.T) {
			server, _ := answering(t, tc.status, tc.body)
			value, err := client(t, at(server.URL)).Query(t.Context(), "up")
			if tc.is == nil && tc.says == nil {
				if err != nil || value != tc.value {
					t.Fatalf("got %v, %v; want %v", value, err, tc.value)
				}
				return
			}
			if err == nil {
				t.Fatalf("got %v, want an error", value)
			}
			for _, sentinel := range []error{provider.ErrNoValues, provider.ErrMultipleValues, provider.ErrInvalidQuery} {
				if errors.Is(err, sentinel) != errors.Is(tc.is, sentinel) {
					t.Errorf("error %q: is %q = %v", err, sentinel, errors.Is(err, sentinel))
				}
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestRequest(t *testing.T) {
	server, requests := answering(t, 200, vector("1"))
	for name, tc := range map[string]struct{ address, path string }{
		"plain":          {server.URL, "/api/v1/query"},
		"slash":          {server.URL + "/", "/api/v1/query"},
		"path":           {server.URL + "/prometheus/", "/prometheus/api/v1/query"},
		"path and query": {server.URL + "/select/0?tenant=1#x", "/select/0/api/v1/query"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := client(t, at(tc.address)).Query(t.Context(), "\n  sum(\n\t up ) \n"); err != nil {
				t.Fatal(err)
			}
			r := requests()[len(requests())-1]
			if r.Method != http.MethodGet || r.URL.Path != tc.path || r.URL.RawQuery != "query=sum%28+up+%29" {
				t.Errorf("got %s %s?%s, want GET %s?query=sum%%28+up+%%29", r.Method, r.URL.Path, r.URL.RawQuery, tc.path)
			}
		})
	}
}

func TestHeadersAndCredentials(t *testing.T) {
	server, requests := answering(t, 200, vector("1"))
	secret := &corev1.LocalObjectReference{Name: "creds"}
	for name, tc := range map[string]struct {
		credentials map[string][]byte
		secret      *corev1.LocalObjectReference
		want        string
	}{
		"none":               {nil, nil, ""},
		"token":              {map[string][]byte{"token": []byte("abc\n")}, secret, "Bearer abc"},
		"basic":              {map[string][]byte{"username": []byte("u"), "password": []byte("p")}, secret, "Basic dTpw"},
		"token wins":         {map[string][]byte{"token": []byte("abc"), "username": []byte("u"), "password": []byte("p")}, secret, "Bearer abc"},
		"no secretRef, data": {map[string][]byte{"token": []byte("abc")}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := at(server.URL)
			cfg.Credentials, cfg.Spec.SecretRef = tc.credentials, tc.secret
			cfg.Spec.Headers = map[string][]string{"x-scope-orgid": {"team-a"}, "X-Many": {"1", "2"}, "Host": {"prom.example"}}
			if _, err := client(t, cfg).Query(t.Context(), "up"); err != nil {
				t.Fatal(err)
			}
			r := requests()[len(requests())-1]
			if got := r.Header.Get("Authorization"); got != tc.want {
				t.Errorf("Authorization %q, want %q", got, tc.want)
			}
			if r.Header.Get("X-Scope-Orgid") != "team-a" || r.Host != "prom.example" {
				t.Errorf("headers %v, host %s", r.Header, r.Host)
			}
			if diff := cmp.Diff([]string{"1", "2"}, r.Header["X-Many"]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// credentials were added to the header map of the cached template, once per query.
func TestA15HeadersOfTheTemplateAreNotChanged(t *testing.T) {
	server, requests := answering(t, 200, vector("1"))
	cfg := at(server.URL)
	cfg.Spec.Headers = map[string][]string{"X-Scope-Orgid": {"team-a"}}
	cfg.Spec.SecretRef = &corev1.LocalObjectReference{Name: "creds"}
	cfg.Credentials = map[string][]byte{"token": []byte("abc")}
	before := cfg.Spec.DeepCopy()
	build := factory()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, err := build(cfg)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if _, err := c.Query(t.Context(), "up"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(before, &cfg.Spec); diff != "" {
		t.Errorf("the template was changed: %s", diff)
	}
	for _, r := range requests() {
		if got := r.Header.Values("Authorization"); len(got) != 1 {
			t.Fatalf("Authorization %q, want one value", got)
		}
	}
}

func TestRefusedConfigurations(t *testing.T) {
	secret := &corev1.LocalObjectReference{Name: "creds"}
	for name, tc := range map[string]struct {
		cfg  provider.Config
		says string
	}{
		"no address":      {at(""), "address is empty"},
		"no scheme":       {at("prometheus:9090"), "address"},
		"other scheme":    {at("ftp://prometheus"), "scheme"},
		"no host":         {at("http://"), "address"},
		"not a URL":       {at("http://user:secret@[::1"), "address is not a URL"},
		"empty Secret":    {provider.Config{Spec: v1beta1.MetricTemplateProvider{Address: "http://x", SecretRef: secret}}, "secret creds"},
		"password only":   {provider.Config{Spec: v1beta1.MetricTemplateProvider{Address: "http://x", SecretRef: secret}, Credentials: map[string][]byte{"password": nil}}, "username and password"},
		"secret in error": {at("ftp://user:secret@host"), "user:xxxxx@host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := factory()(tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "secret@") {
				t.Errorf("got %v, want an error with %q and without the password", err, tc.says)
			}
		})
	}
}

func TestUnreachableNamesTheServer(t *testing.T) {
	server, _ := answering(t, 200, "")
	server.Close()
	address := strings.Replace(server.URL, "http://", "http://user:secret@", 1)
	_, err := client(t, at(address)).Query(t.Context(), "sum(very_long_query)")
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "is unreachable") {
		t.Fatalf("error %v", err)
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "very_long_query") {
		t.Errorf("the error has the password or the query: %v", err)
	}
}

func TestOnline(t *testing.T) {
	server, requests := answering(t, 200, vector("1"))
	if err := client(t, at(server.URL)).Online(t.Context()); err != nil {
		t.Error(err)
	}
	if got := requests()[0].URL.Query().Get("query"); got != "vector(1)" {
		t.Errorf("query %q", got)
	}
	server, _ = answering(t, 200, vector("2"))
	if err := client(t, at(server.URL)).Online(t.Context()); err == nil || !strings.Contains(err.Error(), "returned 2 instead of 1") {
		t.Errorf("vector(1) = 2: %v", err)
	}
	server, _ = answering(t, 500, "")
	if err := client(t, at(server.URL)).Online(t.Context()); err == nil {
		t.Error("status 500 is online")
	}
}
