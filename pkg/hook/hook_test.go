package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// skipClock lets every timer fire at once and keeps what it was set to.
type skipClock struct {
	clock.RealClock
	mu    sync.Mutex
	waits []time.Duration
}

func (c *skipClock) Now() time.Time { return start }

func (c *skipClock) NewTimer(d time.Duration) clock.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
	return c.RealClock.NewTimer(0)
}

// received is what a server got.
type received struct {
	method, path, body string
	header             http.Header
}

type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []received
}

// serve starts a server that answers the n-th request, counted from 1, with handle.
func serve(t *testing.T, handle func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	s := &receiver{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.requests = append(s.requests, received{r.Method, r.URL.Path, string(body), r.Header})
		n := len(s.requests)
		s.mu.Unlock()
		handle(n, w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func statuses(codes ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(n int, w http.ResponseWriter, _ *http.Request) {
		code := codes[min(n, len(codes))-1]
		w.WriteHeader(code)
		if code != http.StatusNoContent {
			fmt.Fprintf(w, "answer %d", n)
		}
	}
}

var payload = Payload{Name: "podinfo", Namespace: "test", Phase: v1beta1.CanaryPhaseProgressing, Checksum: "758df7c9fc"}

func TestRequest(t *testing.T) {
	s := serve(t, statuses(200))
	h := v1beta1.CanaryWebhook{Name: "gate", URL: s.URL + "/gate/check", Metadata: &map[string]string{"k": "v", "a": "<&>"}}
	got := NewCaller(clock.RealClock{}).Call(t.Context(), h, payload, "rev/gate\nß")
	if diff := cmp.Diff(Result{Passed: true, Status: 200}, got); diff != "" {
		t.Error(diff)
	}
	r := s.requests[0]
	if r.method != http.MethodPost || r.path != "/gate/check" || r.header.Get("Content-Type") != "application/json" || r.header.Get("Idempotency-Key") != "rev/gate__" {
		t.Errorf("request %+v", r)
	}
	const want = `{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"758df7c9fc","metadata":{"a":"\u003c\u0026\u003e","k":"v"}}`
	if r.body != want {
		t.Errorf("body %s\nwant %s", r.body, want)
	}
}

func TestPayload(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	for name, tc := range map[string]struct {
		payload  Payload
		metadata *map[string]string
		want     string
	}{
		"no metadata": {payload, nil, `{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"758df7c9fc"}`},
		"event": {EventPayload(payload, "Warning", "Halt", at), nil,
			`{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"758df7c9fc","metadata":{"eventMessage":"Halt","eventType":"Warning","timestamp":"1700000000123"}}`},
		"event with own metadata": {EventPayload(payload, "Normal", "Go", at), &map[string]string{"env": "prod", "eventType": "mine"},
			`{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"758df7c9fc","metadata":{"env":"prod","eventMessage":"Go","eventType":"Normal","timestamp":"1700000000123"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			before := cmp.Diff(nil, tc.metadata)
			got, err := json.Marshal(tc.payload.withMetadata(tc.metadata))
			if err != nil || string(got) != tc.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tc.want)
			}
			if after := cmp.Diff(nil, tc.metadata); after != before {
				t.Errorf("the metadata of the webhook was changed: %s", after)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		codes    []int
		retries  int32
		want     Result
		attempts int
		waits    []time.Duration
	}{
		{[]int{200}, 0, Result{true, "", 200}, 1, nil},
		{[]int{202}, 0, Result{true, "", 202}, 1, nil},
		{[]int{204}, 0, Result{true, "", 204}, 1, nil},
		{[]int{226}, 0, Result{true, "", 226}, 1, nil},
		{[]int{400}, 3, Result{false, "answer 1", 400}, 1, nil},
		{[]int{403}, 3, Result{false, "answer 1", 403}, 1, nil},
		{[]int{501}, 3, Result{false, "answer 1", 501}, 1, nil},
		{[]int{500}, 0, Result{false, "POST URL giving up after 1 attempt(s)", 500}, 1, nil},
		{[]int{429}, 1, Result{false, "POST URL giving up after 2 attempt(s)", 429}, 2, []time.Duration{1e9}},
		{[]int{503, 500, 200}, 5, Result{true, "", 200}, 3, []time.Duration{1e9, 2e9}},
		{[]int{503, 404}, 5, Result{false, "answer 2", 404}, 2, []time.Duration{1e9}},
		{[]int{500}, 7, Result{false, "POST URL giving up after 8 attempt(s)", 500}, 8, []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
	} {
		t.Run(fmt.Sprint(tc.codes, tc.retries), func(t *testing.T) {
			s := serve(t, statuses(tc.codes...))
			clk := &skipClock{}
			got := NewCaller(clk).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Retries: tc.retries}, payload, "k")
			tc.want.Text = strings.Replace(tc.want.Text, "URL", s.URL, 1)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if len(s.requests) != tc.attempts {
				t.Errorf("%d attempts, want %d", len(s.requests), tc.attempts)
			}
			if diff := cmp.Diff(tc.waits, clk.waits); diff != "" {
				t.Errorf("waits: %s", diff)
			}
		})
	}
}

func TestEveryAttemptIsTheSame(t *testing.T) {
	s := serve(t, statuses(500, 500, 200))
	got := NewCaller(&skipClock{}).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Retries: 2}, payload, "key")
	if !got.Passed {
		t.Fatalf("got %+v", got)
	}
	for i, r := range s.requests {
		if r.body != s.requests[0].body || r.body == "" || r.header.Get("Idempotency-Key") != "key" {
			t.Errorf("attempt %d: %+v", i+1, r)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, tc := range map[string]struct {
		status int
		want   time.Duration
	}{
		"5":    {503, 5 * time.Second},
		"7":    {429, 7 * time.Second},
		"0":    {503, 0},
		"9":    {500, time.Second},
		"3600": {503, 30 * time.Second},
		"-4":   {503, time.Second},
		"soon": {503, time.Second},
		start.Add(9 * time.Second).Format(http.TimeFormat):  {503, 9 * time.Second},
		start.Add(-9 * time.Second).Format(http.TimeFormat): {503, 0},
	} {
		t.Run(value, func(t *testing.T) {
			s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", value)
				if n == 1 {
					w.WriteHeader(tc.status)
				}
			})
			clk := &skipClock{}
			got := NewCaller(clk).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Retries: 1}, payload, "k")
			if diff := cmp.Diff([]time.Duration{tc.want}, clk.waits); diff != "" || !got.Passed {
				t.Errorf("%+v, waits: %s", got, diff)
			}
		})
	}
}

func TestConnectionErrors(t *testing.T) {
	s := serve(t, statuses(200))
	s.Close()
	clk := &skipClock{}
	address := strings.Replace(s.URL, "http://", "http://token:secret@", 1)
	got := NewCaller(clk).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: address, Retries: 1}, payload, "k")
	if got.Passed || got.Status != 0 || len(clk.waits) != 1 {
		t.Errorf("got %+v after %d retries", got, len(clk.waits))
	}
	want := "POST " + strings.Replace(address, "token:secret", "xxxxx", 1) + " giving up after 2 attempt(s): Post "
	if !strings.HasPrefix(got.Text, want) || !strings.HasSuffix(got.Text, "connection refused") {
		t.Errorf("text %q, want %q…", got.Text, want)
	}
	if strings.Contains(got.Text, "secret") || strings.Contains(got.Text, "token") {
		t.Errorf("text %q shows the credentials", got.Text)
	}
}

func TestAnswerCutOff(t *testing.T) {
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
		}
	})
	clk := &skipClock{}
	if got := NewCaller(clk).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Retries: 1}, payload, "k"); !got.Passed || len(clk.waits) != 1 {
		t.Errorf("got %+v after %d retries, want success after 1", got, len(clk.waits))
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(int, http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	got := NewCaller(&skipClock{}).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Timeout: "20ms", Retries: 1}, payload, "k")
	if want := fmt.Sprintf("POST %s giving up after 2 attempt(s): Post %q: no answer within 20ms", s.URL, s.URL); got.Text != want {
		t.Errorf("text %q, want %q", got.Text, want)
	}
}

func TestStopEndsTheWait(t *testing.T) {
	s := serve(t, statuses(500))
	ctx, cancel := context.WithCancel(t.Context())
	clk := &cancelClock{cancel: cancel}
	got := NewCaller(clk).Call(ctx, v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Retries: 100}, payload, "k")
	if got.Passed || len(s.requests) != 1 {
		t.Errorf("got %+v after %d attempts", got, len(s.requests))
	}
}

// cancelClock ends the context while somebody waits.
type cancelClock struct {
	clock.RealClock
	cancel func()
}

func (c *cancelClock) NewTimer(time.Duration) clock.Timer {
	c.cancel()
	return c.RealClock.NewTimer(time.Hour)
}

func TestTimeoutField(t *testing.T) {
	for text, want := range map[string]time.Duration{"": DefaultTimeout, "5": DefaultTimeout, "0s": DefaultTimeout, "-3s": DefaultTimeout, "1m30s": 90 * time.Second} {
		if got, err := timeoutOf(v1beta1.CanaryWebhook{Timeout: text}); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestWrongFields(t *testing.T) {
	for name, h := range map[string]v1beta1.CanaryWebhook{
		"timeout": {Name: "gate", URL: "http://x", Timeout: "5 minutes"},
		"url":     {Name: "gate", URL: "ftp://u:secret@x"},
		"url ":    {Name: "gate", URL: "http://u:secret@[::1"},
		"url  ":   {Name: "gate", URL: "gate.test/check"},
	} {
		got := NewCaller(&skipClock{}).Call(t.Context(), h, payload, "k")
		if got.Passed || !strings.Contains(got.Text, "webhook gate: "+strings.TrimSpace(name)+" ") || strings.Contains(got.Text, "secret") {
			t.Errorf("%+v: %+v", h, got)
		}
	}
}

// D-03: what an answer shows is limited, and is text.
func TestD03AnswerIsLimited(t *testing.T) {
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("no\xff"))
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
	})
	got := NewCaller(&skipClock{}).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL}, payload, "k")
	if !strings.HasPrefix(got.Text, "no�xxx") || len(got.Text) > maxText+2 {
		t.Errorf("%d bytes, %.20q", len(got.Text), got.Text)
	}
}

func TestD03LinkLocalAddressesAreRefused(t *testing.T) {
	for _, address := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"} {
		clk := &skipClock{}
		got := NewCaller(clk).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: "http://" + address + "/latest/meta-data", Retries: 3, Timeout: "5m"}, payload, "k")
		if got.Passed || !strings.Contains(got.Text, "link-local addresses are not called") || len(clk.waits) != 0 {
			t.Errorf("%s: %+v", address, got)
		}
	}
}

func TestD03Redirects(t *testing.T) {
	elsewhere := serve(t, statuses(200))
	for name, tc := range map[string]struct {
		status int
		to     string
		passed bool
		says   string
	}{
		"307 keeps the call":     {307, "/final", true, ""},
		"308 keeps the call":     {308, "/final", true, ""},
		"301 would become a GET": {301, "/final", false, "/final, which is not followed"},
		"302 would become a GET": {302, "/final", false, "/final, which is not followed"},
		"303 would become a GET": {303, "/final", false, "/final, which is not followed"},
		"another host":           {307, elsewhere.URL + "/x", false, elsewhere.URL + "/x, which is not followed"},
		"endless":                {307, "/first", false, "/first, which is not followed"},
		"no location":            {302, "", false, "moved"},
		"location with password": {302, "http://u:secret@x/", false, "http://xxxxx@x/"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/first" {
					if tc.to != "" {
						w.Header().Set("Location", tc.to)
					}
					w.WriteHeader(tc.status)
					_, _ = io.WriteString(w, "moved")
				}
			})
			got := NewCaller(&skipClock{}).Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL + "/first"}, payload, "k")
			if got.Passed != tc.passed || !strings.Contains(got.Text, tc.says) || strings.Contains(got.Text, "secret") {
				t.Errorf("got %+v", got)
			}
			last := s.requests[len(s.requests)-1]
			if last.method != http.MethodPost || last.body == "" {
				t.Errorf("last request %+v", last)
			}
		})
	}
	if len(elsewhere.requests) != 0 {
		t.Errorf("another host got %d calls", len(elsewhere.requests))
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	clk := &skipClock{}
	caller := NewCaller(clk)
	got := caller.Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Retries: 3}, payload, "k")
	if got.Passed || !strings.Contains(got.Text, "giving up after 1 attempt(s)") || !strings.Contains(got.Text, "certificate") || len(clk.waits) != 0 {
		t.Errorf("got %+v after %d retries", got, len(clk.waits))
	}
	if got := caller.Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, DisableTLS: true}, payload, "k"); !got.Passed {
		t.Errorf("disableTLS: %+v", got)
	}
}

// C-11: each call built a client of its own and left its connection and two goroutines behind.
func TestC11CallsShareConnections(t *testing.T) {
	var mu sync.Mutex
	remotes := map[string]bool{}
	s := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		remotes[r.RemoteAddr] = true
		mu.Unlock()
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, strings.Repeat("x", 3*maxText))
	})
	caller := NewCaller(clock.RealClock{})
	before := runtime.NumGoroutine()
	for i := range 50 {
		caller.Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, DisableTLS: i%2 == 0}, payload, "k")
	}
	if len(remotes) != 2 {
		t.Errorf("50 calls with and without disableTLS used %d connections, want 2", len(remotes))
	}
	if grown := runtime.NumGoroutine() - before; grown > 10 {
		t.Errorf("%d more goroutines", grown)
	}
}

func TestCallAll(t *testing.T) {
	s := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/no") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "closed")
		}
	})
	hooks := func(kind v1beta1.HookType, paths ...string) []v1beta1.CanaryWebhook {
		var out []v1beta1.CanaryWebhook
		for _, p := range paths {
			out = append(out, v1beta1.CanaryWebhook{Type: kind, Name: p, URL: s.URL + "/" + p})
		}
		return out
	}
	pass, fail := Result{true, "", 200}, Result{false, "closed", 403}
	for name, tc := range map[string]struct {
		hooks []v1beta1.CanaryWebhook
		want  []Result
	}{
		"none":                          {nil, nil},
		"all pass":                      {hooks(v1beta1.RolloutHook, "yes1", "yes2"), []Result{pass, pass}},
		"stops at the first failure":    {hooks("", "yes1", "no1", "yes2"), []Result{pass, fail}},
		"rollback stops at a success":   {hooks(v1beta1.RollbackHook, "no1", "yes1", "no2"), []Result{fail, pass}},
		"rollback goes through to last": {hooks(v1beta1.RollbackHook, "no1", "no2"), []Result{fail, fail}},
		"post-rollout calls every one":  {hooks(v1beta1.PostRolloutHook, "yes1", "no1", "yes2"), []Result{pass, fail, pass}},
	} {
		t.Run(name, func(t *testing.T) {
			first := len(s.requests)
			got := NewCaller(&skipClock{}).CallAll(t.Context(), tc.hooks, payload, "rev/step")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			for i, r := range s.requests[first:] {
				if want := "rev/step/" + tc.hooks[i].Name; r.header.Get(HeaderIdempotencyKey) != want {
					t.Errorf("key %q, want %q", r.header.Get(HeaderIdempotencyKey), want)
				}
			}
		})
	}
}
