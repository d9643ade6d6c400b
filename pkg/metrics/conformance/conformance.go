// Package conformance plays, to a metric back-end that speaks HTTP, a server with all its good and bad days.
package conformance

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Backend is what the kit has to know of a back-end.
type Backend struct {
	// Type is spec.provider.type, Name what errors call it.
	Type, Name string
	// New builds the Factory under test, whose time is that of the clock.
	New func(*outbound.Transports, clock.Clock) provider.Factory
	// Credentials are the keys of a complete Secret. Their values must not appear anywhere, but for those that are Public: accounts
	// and projects.
	Credentials map[string]string
	Public      []string
	// OptionalKeys are those that the back-end works without.
	OptionalKeys []string
	// Optional is set if the back-end works without a Secret.
	Optional bool
	// SkipsVerify is set if insecureSkipVerify has an effect.
	SkipsVerify bool
	// Query is one that the back-end understands.
	Query string
	// Value is the answer with one value, which is given as JSON. Null stands for no value at that time.
	Value func(json string) string
	// Empty are answers without data, by what is empty about them.
	Empty map[string]string
	// Answers are others, with what comes of them.
	Answers map[string]Answer
	// Strings is set if the back-end may send numbers in quotation marks.
	Strings bool
}

// Answer is a body and what comes of it: Value, or an error that Is one of package provider or Says something.
type Answer struct {
	Body  string
	Value float64
	Is    error
	Says  string
}

// Now is the time of the clock that the kit gives to the back-end.
func Now() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 500e6, time.UTC) }

// Interval is that of the metric.
const Interval = time.Minute

// Run plays all cases.
func Run(t *testing.T, b *Backend) {
	t.Run("answers", b.answers)
	t.Run("refusals", b.refusals)
	t.Run("a busy server is asked again", b.busy)
	t.Run("a server that wants a long pause is not waited for", b.longPause)
	t.Run("a server that hangs", b.hangs)
	t.Run("a server that is gone", b.gone)
	t.Run("link-local addresses", b.LinkLocal)
	t.Run("a long answer", b.long)
	t.Run("a redirect takes no credentials elsewhere", b.redirect)
	t.Run("certificates", b.certificates)
	t.Run("missing keys", b.missingKeys)
	t.Run("connections are shared", b.connections)
}

// Server answers everything in the same way, and keeps what it was asked.
type Server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

// Serve starts a Server that answers as the handler does.
func Serve(t *testing.T, handler http.HandlerFunc) *Server {
	t.Helper()
	s := &Server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
		s.mu.Unlock()
		handler(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// Requests are those so far, and their bodies.
func (s *Server) Requests() ([]*http.Request, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests), slices.Clone(s.bodies)
}

// Always answers with a status and a body.
func Always(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Config is a complete one for a server.
func (b *Backend) Config(address string) provider.Config {
	cfg := provider.Config{
		Spec:     v1beta1.MetricTemplateProvider{Type: b.Type, Address: address},
		Interval: Interval.String(),
	}
	if b.Credentials != nil {
		cfg.Spec.SecretRef = &corev1.LocalObjectReference{Name: "creds"}
		cfg.Credentials = map[string][]byte{}
		for key, value := range b.Credentials {
			// Editors leave a line break at the end.
			cfg.Credentials[key] = []byte(value + "\n")
		}
	}
	return cfg
}

// Provider is the back-end for a server.
func (b *Backend) Provider(t *testing.T, cfg provider.Config, c clock.Clock) provider.Provider {
	t.Helper()
	p, err := b.New(outbound.NewTransports(c), c)(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *Backend) ask(t *testing.T, handler http.HandlerFunc) (float64, *Server, *Clock, error) {
	t.Helper()
	server, c := Serve(t, handler), &Clock{}
	value, err := b.Provider(t, b.Config(server.URL), c).Query(t.Context(), b.Query)
	b.secretsAreKept(t, err)
	return value, server, c, err
}

func (b *Backend) secretsAreKept(t *testing.T, err error) {
	t.Helper()
	for key, secret := range b.secrets() {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the key %s: %v", key, err)
		}
	}
}

func (b *Backend) secrets() map[string]string {
	secrets := maps.Clone(b.Credentials)
	for _, key := range b.Public {
		delete(secrets, key)
	}
	return secrets
}

func (b *Backend) answers(t *testing.T) {
	cases := map[string]Answer{
		"a value":      {Body: b.Value("98.5"), Value: 98.5},
		"zero":         {Body: b.Value("0"), Value: 0},
		"null":         {Body: b.Value("null"), Is: provider.ErrNoValues},
		"broken JSON":  {Body: b.Value("98.5")[:len(b.Value("98.5"))-2], Says: "not understood"},
		"no JSON":      {Body: "<html>sign in</html>", Says: "not understood"},
		"no text":      {Body: "", Says: "not understood"},
		"empty object": {Body: "{}", Is: provider.ErrNoValues},
	}
	if b.Strings {
		cases["a number as text"] = Answer{Body: b.Value(`"98.5"`), Value: 98.5}
		cases["NaN"] = Answer{Body: b.Value(`"NaN"`), Is: provider.ErrNoValues}
		cases["infinity"] = Answer{Body: b.Value(`"+Inf"`), Is: provider.ErrNoValues}
		cases["text"] = Answer{Body: b.Value(`"many"`), Says: "not understood"}
	}
	for name, body := range b.Empty {
		cases[name] = Answer{Body: body, Is: provider.ErrNoValues}
	}
	for name, answer := range b.Answers {
		cases[name] = answer
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			value, _, _, err := b.ask(t, Always(http.StatusOK, want.Body))
			Expect(t, want, value, err)
		})
	}
}

// Expect compares what came of an answer with what should have.
func Expect(t *testing.T, want Answer, value float64, err error) {
	t.Helper()
	if want.Is == nil && want.Says == "" {
		if err != nil || value != want.Value {
			t.Errorf("got %v, %v; want %v", value, err, want.Value)
		}
		return
	}
	if err == nil {
		t.Fatalf("got %v, want an error", value)
	}
	for _, sentinel := range []error{provider.ErrNoValues, provider.ErrMultipleValues, provider.ErrInvalidQuery} {
		if errors.Is(err, sentinel) != errors.Is(want.Is, sentinel) {
			t.Errorf("error %q: is %q = %v", err, sentinel, errors.Is(err, sentinel))
		}
	}
	if !strings.Contains(err.Error(), want.Says) {
		t.Errorf("error %q does not say %q", err, want.Says)
	}
	if len(err.Error()) > 1000 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

func (b *Backend) refusals(t *testing.T) {
	echo := strings.Repeat("x ", 10)
	for _, secret := range b.Credentials {
		echo += secret + " "
	}
	for _, status := range []int{400, 401, 403, 404, 429, 500, 503} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			for _, body := range []string{"", echo, strings.Repeat(echo, 500)} {
				_, server, _, err := b.ask(t, Always(status, body))
				host := server.Listener.Addr().String()
				if err == nil || !strings.Contains(err.Error(), http.StatusText(status)) || !strings.Contains(err.Error(), host) {
					t.Fatalf("error %v does not name status %d and host %s", err, status, host)
				}
				if !strings.Contains(err.Error(), body[:min(len(body), 10)]) || len(err.Error()) > 600 {
					t.Errorf("error %v is not short, or without the start of the body", err)
				}
			}
		})
	}
}

func (b *Backend) busy(t *testing.T) {
	for _, status := range []int{429, 500, 502, 503} {
		left := 2
		value, _, c, err := b.ask(t, func(w http.ResponseWriter, r *http.Request) {
			if left--; left >= 0 {
				w.Header().Set("Retry-After", "2")
				w.WriteHeader(status)
				return
			}
			Always(http.StatusOK, b.Value("7"))(w, r)
		})
		if err != nil || value != 7 {
			t.Errorf("status %d twice: got %v, %v", status, value, err)
		}
		if waits := c.Waits(); len(waits) != 2 || waits[0] != 2*time.Second || waits[1] != 2*time.Second {
			t.Errorf("status %d with Retry-After: 2: waited %v", status, waits)
		}
	}
}

func (b *Backend) longPause(t *testing.T) {
	server, c := Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}), &Clock{}
	ctx, cancel := context.WithDeadline(t.Context(), clock.RealClock{}.Now().Add(time.Hour/2))
	defer cancel()
	c.real = true
	_, err := b.Provider(t, b.Config(server.URL), c).Query(ctx, b.Query)
	if requests, _ := server.Requests(); err == nil || !strings.Contains(err.Error(), "429") || len(requests) != 1 || len(c.Waits()) != 0 {
		t.Errorf("got %v after %d requests and waits of %v", err, len(requests), c.Waits())
	}
}

func (b *Backend) hangs(t *testing.T) {
	release := make(chan struct{})
	server := Serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Provider(t, b.Config(server.URL), &Clock{}).Query(ctx, b.Query)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("error %v", err)
	}
}

func (b *Backend) gone(t *testing.T) {
	server := Serve(t, Always(http.StatusOK, ""))
	server.Close()
	p := b.Provider(t, b.Config(server.URL), &Clock{})
	for what, err := range map[string]error{"Query": second(p.Query(t.Context(), b.Query)), "Online": p.Online(t.Context())} {
		b.secretsAreKept(t, err)
		if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "is unreachable") {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// LinkLocal plays the addresses at which clouds serve credentials.
func (b *Backend) LinkLocal(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"} {
		p := b.Provider(t, b.Config("http://"+host), &Clock{})
		for what, err := range map[string]error{"Query": second(p.Query(t.Context(), b.Query)), "Online": p.Online(t.Context())} {
			if !errors.Is(err, outbound.ErrLinkLocal) {
				t.Errorf("%s of %s: error %v", what, host, err)
			}
		}
	}
}

func second(_ float64, err error) error { return err }

func (b *Backend) long(t *testing.T) {
	_, _, _, err := b.ask(t, Always(http.StatusOK, strings.Repeat(" ", 9<<20)+b.Value("1")))
	if err == nil || !strings.Contains(err.Error(), "8 MiB") {
		t.Errorf("an answer of 9 MiB: %v", err)
	}
}

func (b *Backend) redirect(t *testing.T) {
	other := Serve(t, Always(http.StatusOK, b.Value("7")))
	_, _, _, err := b.ask(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusTemporaryRedirect)
	})
	requests, bodies := other.Requests()
	for i, r := range requests {
		for key, secret := range b.secrets() {
			var text strings.Builder
			_ = r.Header.Write(&text)
			if strings.Contains(text.String(), secret) || strings.Contains(bodies[i], secret) {
				t.Errorf("another host got the key %s (%v)", key, err)
			}
		}
	}
}

func (b *Backend) certificates(t *testing.T) {
	server := httptest.NewUnstartedServer(Always(http.StatusOK, b.Value("1")))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	cfg := b.Config(server.URL)
	if _, err := b.Provider(t, cfg, &Clock{}).Query(t.Context(), b.Query); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown certificate: %v", err)
	}
	cfg.Spec.InsecureSkipVerify = true
	value, err := b.Provider(t, cfg, &Clock{}).Query(t.Context(), b.Query)
	if b.SkipsVerify && (err != nil || value != 1) {
		t.Errorf("insecureSkipVerify: %v, %v", value, err)
	}
}

func (b *Backend) missingKeys(t *testing.T) {
	factory := b.New(outbound.NewTransports(&Clock{}), &Clock{})
	for key := range b.Credentials {
		cfg := b.Config("http://127.0.0.1:1")
		delete(cfg.Credentials, key)
		if slices.Contains(b.OptionalKeys, key) {
			continue
		}
		if _, err := factory(cfg); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "creds") {
			t.Errorf("Secret without %s: %v", key, err)
		}
	}
	cfg := b.Config("http://127.0.0.1:1")
	cfg.Spec.SecretRef, cfg.Credentials = nil, nil
	if _, err := factory(cfg); (err == nil) != (b.Optional || b.Credentials == nil) {
		t.Errorf("without secretRef: %v", err)
	}
}

func (b *Backend) connections(t *testing.T) {
	server := Serve(t, Always(http.StatusOK, b.Value("1")))
	factory := b.New(outbound.NewTransports(&Clock{}), &Clock{})
	for range 20 {
		p, err := factory(b.Config(server.URL))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Query(t.Context(), b.Query); err != nil {
			t.Fatal(err)
		}
	}
	remotes := map[string]bool{}
	requests, _ := server.Requests()
	for _, r := range requests {
		remotes[r.RemoteAddr] = true
	}
	if len(remotes) != 1 {
		t.Errorf("20 queries one after another used %d connections", len(remotes))
	}
}
