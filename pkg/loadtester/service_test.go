package loadtester

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// hasty is a clock whose timers don't take their time.
type hasty struct{ clock.RealClock }

func (h hasty) NewTimer(time.Duration) clock.Timer { return h.RealClock.NewTimer(time.Millisecond) }

// tests is a service that runs tests: it answers with what it was told to, the last answer again and again.
type tests struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string][]string
	calls   []string
	seen    func(*http.Request)
}

func newTests(t *testing.T, answers map[string][]string) *tests {
	t.Helper()
	s := &tests{answers: answers, seen: func(*http.Request) {}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *tests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := r.Method + " " + r.URL.RequestURI()
	s.calls = append(s.calls, call)
	s.seen(r)
	all := s.answers[call]
	if len(all) == 0 {
		http.Error(w, "no such thing as my-key or secret", http.StatusNotFound)
		return
	}
	if len(all) > 1 {
		s.answers[call] = all[1:]
	}
	if status := 0; strings.HasPrefix(all[0], "!") {
		_, _ = fmt.Sscanf(all[0], "!%d", &status)
		w.WriteHeader(status)
		return
	}
	_, _ = io.WriteString(w, all[0])
}

func (s *tests) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func inHaste(o *Options) { o.Clock = hasty{} }

func concordTask(t *testing.T, server string, more ...string) []string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("my-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return append([]string{
		"type", "concord", "server", server, "org", "Default", "project", "p", "repo", "r", "entrypoint", "default", "apiKeyPath", key,
		"endpoint", "http://podinfo-canary.test",
	}, more...)
}

func TestConcord(t *testing.T) {
	const start, status = "POST /base/api/v1/process", "GET /base/api/v1/process/i-1"
	const started = `{"instanceId":"i-1","ok":true}`
	for name, c := range map[string]struct {
		start, status []string
		code          int
		text          string
	}{
		"passes":      {[]string{started}, []string{`{"status":"RUNNING"}`, `{"status":"ENQUEUED"}`, `{"status":"FINISHED"}`}, 200, ""},
		"fails":       {[]string{started}, []string{`{"status":"FAILED"}`}, 500, "concord process i-1 ended as FAILED"},
		"is canceled": {[]string{started}, []string{`{"status":"RUNNING"}`, `{"status":"CANCELLED"}`}, 500, "i-1 ended as CANCELLED"},
		"times out":   {[]string{started}, []string{`{"status":"TIMED_OUT"}`}, 500, "i-1 ended as TIMED_OUT"},
		"is busy":     {[]string{started}, []string{"!503", "!503", "!503", `{"status":"FINISHED"}`}, 500, "answered 503"},
		"never ends":  {[]string{started}, []string{`{"status":"RUNNING"}`}, 500, `last seen as "RUNNING": the process did not end within 2s, the limit that metadata.pollTimeout sets`},
		"not started": {[]string{`{"ok":false}`}, nil, 500, "did not start the process"},
		"refused":     {[]string{"!401"}, nil, 500, "answered 401"},
		"broken":      {[]string{started}, []string{`{`}, 500, "not understood"},
		// Nobody knows whether the process was started.
		"not started twice": {[]string{"!502"}, nil, 500, "answered 502"},
		"unknown process":   {[]string{started}, nil, 500, "no such thing as ***"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, service := serve(t, inHaste), newTests(t, map[string][]string{start: c.start, status: c.status})
			var form map[string][]string
			service.seen = func(r *http.Request) {
				if key := r.Header.Get("Authorization"); key != "my-key" {
					t.Errorf("Authorization is %q", key)
				}
				if r.Method == http.MethodPost {
					if err := r.ParseMultipartForm(1 << 20); err != nil {
						t.Error(err)
						return
					}
					form = r.MultipartForm.Value
				}
			}
			limit := "30"
			if name == "never ends" || name == "broken" {
				limit = "2"
			}
			body := s.wants("POST", "/", payload(concordTask(t, service.URL+"/base/", "pollTimeout", limit, "arguments.color", "red")...), c.code, c.text)
			if c.text == "" && body != "" || strings.Contains(body, "my-key") {
				t.Errorf("answered %q", body)
			}
			if n := service.count(start); n != 1 {
				t.Errorf("started %d times", n)
			}
			want := map[string]string{"org": "Default", "project": "p", "repo": "r", "entryPoint": "default", "arguments.endpoint": "http://podinfo-canary.test", "arguments.color": "red"}
			for key, value := range want {
				if !slices.Equal(form[key], []string{value}) {
					t.Errorf("%s is %q", key, form[key])
				}
			}
			if len(form) != len(want) {
				t.Errorf("the form is %v", form)
			}
		})
	}
}

func TestMetadataOfServicesIsChecked(t *testing.T) {
	s := serve(t)
	s.wants("POST", "/", payload("type", "concord", "server", "http://x", "org", "o", "project", "p"), 400, "metadata.repo, metadata.entrypoint, metadata.apiKeyPath, metadata.endpoint")
	s.wants("POST", "/", payload("type", "ngrinder"), 400, "metadata.server, metadata.clone, metadata.username, metadata.passwd")
	for want, more := range map[string][2]string{
		"metadata.pollInterval":       {"pollInterval", "fast"},
		"metadata.pollTimeout":        {"pollTimeout", "0"},
		"metadata.arguments.endpoint": {"arguments.endpoint", "x"},
		"metadata.apiKeyPath":         {"apiKeyPath", "/nowhere"},
		"metadata.server":             {"server", "concord:8001"},
	} {
		s.wants("POST", "/", payload(concordTask(t, "http://x", more[:]...)...), 400, want)
	}
	for want, more := range map[string][2]string{
		"metadata.pollInterval": {"pollInterval", "1ms"},
		"metadata.clone":        {"clone", "one"},
		"metadata.passwd":       {"passwd", "%"},
		"metadata.server":       {"server", "grinder"},
	} {
		s.wants("POST", "/", payload(ngrinderTask("http://x", more[:]...)...), 400, want)
	}
}

func ngrinderTask(server string, more ...string) []string {
	return append([]string{"type", "ngrinder", "server", server, "clone", "960", "username", "admin", "passwd", "c2VjcmV0"}, more...)
}

func TestNGrinder(t *testing.T) {
	const start, status, stop = "POST /perftest/api/960/clone_and_start", "GET /perftest/api/961/status", "PUT /perftest/api/961?action=stop"
	for name, c := range map[string]struct {
		start, status []string
		failure       string
	}{
		"passes":     {[]string{`{"id":961}`}, []string{`{"status":[]}`, `{"status":[{"status_id":"TESTING"}]}`, `{"status":[{"status_id":"FINISHED"}]}`}, ""},
		"fails":      {[]string{`{"id":961}`}, []string{`{"status":[{"status_id":"STOP_BY_ERROR"}]}`}, "ngrinder test 961 ended as STOP_BY_ERROR"},
		"canceled":   {[]string{`{"id":961}`}, []string{`{"status":[{"status_id":"CANCELED"}]}`}, "ended as CANCELED"},
		"refused":    {[]string{`{"success":false,"message":"no such test"}`}, nil, "ngrinder refused: no such test"},
		"gone":       {[]string{`{"id":961}`}, []string{`{"success":false}`}, "ngrinder refused: success is false"},
		"not there":  {nil, nil, "no such thing as my-key or ***"},
		"started":    {[]string{`{}`}, nil, "did not say which test"},
		"takes long": {[]string{`{"id":961}`}, []string{`{"status":[{"status_id":"TESTING"}]}`}, "the limit that -timeout sets"},
	} {
		t.Run(name, func(t *testing.T) {
			service := newTests(t, map[string][]string{start: c.start, status: c.status, stop: {"{}"}})
			service.seen = func(r *http.Request) {
				if user, password, _ := r.BasicAuth(); user != "admin" || password != "secret" {
					t.Errorf("user %q, password %q", user, password)
				}
			}
			for timeout := time.Second; ; timeout *= 2 {
				s := serve(t, inHaste, func(o *Options) {
					if name == "takes long" {
						o.Timeout = timeout
					}
				})
				s.wants("POST", "/", payload(ngrinderTask(service.URL)...), 202, "accepted, the result is not judged")
				finished(s)
				if name == "takes long" && service.count(status) == 0 && timeout < time.Minute {
					continue
				}
				last := s.logs.All()[s.logs.Len()-1]
				text, _ := last.ContextMap()["error"].(string)
				if !strings.Contains(text, c.failure) || (c.failure == "") != (text == "") || strings.Contains(text, "secret") {
					t.Errorf("%s: %q", last.Message, text)
				}
				break
			}
			if n := service.count(stop); (n > 0) != (name == "takes long") {
				t.Errorf("stopped %d times", n)
			}
		})
	}
}

// One second was 31 years, and ten seconds a crash.
func Test36_PollInterval(t *testing.T) {
	for text, want := range map[string]time.Duration{"": time.Second, "1s": time.Second, "10s": 10 * time.Second, "10": 10 * time.Second, "2m": 2 * time.Minute} {
		if got, err := interval(text); got != want || err != nil {
			t.Errorf("%q: %s %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1s", "soon", "1000000h"} {
		if got, err := interval(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}
