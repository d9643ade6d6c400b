package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/loadtester"
)

// The tests start the program itself: this process, told to be it.
const beProgram = "LOADTESTER_TEST_BE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// application is what commands put load on.
type application struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newApplication(t *testing.T) *application {
	t.Helper()
	a := &application{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.requests, a.bodies = append(a.requests, r), append(a.bodies, string(body))
		if r.URL.Path == "/token" {
			fmt.Fprintf(w, `{"token":"eyJ","body":%q}`, body)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// take is what came since the last call.
func (a *application) take() ([]*http.Request, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	requests, bodies := a.requests, a.bodies
	a.requests, a.bodies = nil, nil
	return requests, bodies
}

// ask sends a task to a load tester, and returns its answer.
func ask(t *testing.T, metadata map[string]string) (int, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	tester, err := loadtester.New(loadtester.Options{
		Timeout: time.Hour, MaxCommands: 1, Shell: metadata["shell"] != "no", BuiltIn: map[string]string{"hey": self, "ghz": self}, Gates: &loadtester.MemoryGates{}, Clock: clock.RealClock{}, Log: zap.NewNop(),
		Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tester.Stop()
	raw, err := json.Marshal(hook.Payload{Name: "podinfo", Namespace: "test", Metadata: metadata})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	tester.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(raw))))
	for w.Code == http.StatusAccepted && !ended(t, registry) {
		time.Sleep(10 * time.Millisecond)
	}
	return w.Code, w.Body.String()
}

// ended is whether a task has its result.
func ended(t *testing.T, registry *prometheus.Registry) bool {
	t.Helper()
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "flagger_loadtester_task_duration_seconds" })
}

// onlyTools leaves commands the shells, curl and grep, and the tools of this program.
func onlyTools(t *testing.T) {
	t.Helper()
	t.Setenv(beProgram, "1")
	dir := t.TempDir()
	for _, name := range []string{"sh", "bash", "curl", "grep"} {
		for _, folder := range []string{"/bin", "/usr/bin", "/usr/local/bin"} {
			if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
				if err := os.Symlink(filepath.Join(folder, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	t.Setenv("PATH", dir)
	_, remove, err := provideTools()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
}

// These are commands of published Canaries and of the documentation of Flagger, but for the host and the time.
func TestPublishedCommandsRunUnchanged(t *testing.T) {
	onlyTools(t)
	a := newApplication(t)
	if _, err := os.Stat("/usr/bin/curl"); err == nil {
		if code, text := ask(t, map[string]string{"type": "bash", "cmd": "curl -sd 'test' " + a.URL + "/token | grep token"}); code != 200 || text != "" {
			t.Errorf("%d %q", code, text)
		}
		if code, _ := ask(t, map[string]string{"type": "bash", "cmd": "curl -sd 'test' " + a.URL + "/nothing | grep token"}); code != 500 {
			t.Errorf("a test that finds nothing: %d", code)
		}
		a.take()
	}
	for command, check := range map[string]func(r *http.Request, body string) bool{
		"hey -z 1m -q 10 -c 2 URL/":                                   func(r *http.Request, _ string) bool { return r.Method == "GET" && r.URL.Path == "/" },
		"hey -z 1m -q 10 -c 2 -H 'Cookie: type=insider' URL/":         func(r *http.Request, _ string) bool { return r.Header.Get("Cookie") == "type=insider" },
		"hey -z 1m -q 10 -c 2 -h2 -host app.example.com URL/api/info": func(r *http.Request, _ string) bool { return r.Host == "app.example.com" && r.URL.Path == "/api/info" },
		"hey -z 1m -q 10 -c 2 -m POST -d '{test: 2}' URL/echo":        func(r *http.Request, body string) bool { return r.Method == "POST" && body == "{test: 2}" },
		"hey -z 1m -q 5 -c 2 -H 'X-Canary: insider' -H 'Host: a.test' URL/": func(r *http.Request, _ string) bool {
			return r.Header.Get("X-Canary") == "insider" && r.Host == "a.test"
		},
		"hey -n 4 -c 2 -T application/json -A text/plain -a u:p URL/x | grep -q 200 && hey -n 1 -c 1 -U me -H 'Content-Type: application/json' -H 'Accept: text/plain' -H 'Authorization: Basic dTpw' URL/x": func(r *http.Request, _ string) bool {
			user, password, _ := r.BasicAuth()
			return r.Header.Get("Content-Type") == "application/json" && r.Header.Get("Accept") == "text/plain" && user == "u" && password == "p" && strings.HasSuffix(r.UserAgent(), "hey/0.0.1")
		},
	} {
		var requests []*http.Request
		var bodies []string
		code, text := 0, ""
		for long := 300 * time.Millisecond; len(requests) == 0 && long < time.Minute; long *= 2 {
			line := strings.NewReplacer("URL", a.URL, "-z 1m", "-z "+long.String()).Replace(command)
			code, text = ask(t, map[string]string{"type": "bash", "cmd": line, "returnCmdOutput": "true"})
			requests, bodies = a.take()
		}
		if code != 200 || len(requests) == 0 || !strings.Contains(text, "Status code distribution") || !strings.Contains(text, "[200]") {
			t.Errorf("%s: %d %s, %d requests", command, code, text, len(requests))
		}
		for i, r := range requests {
			if !check(r, bodies[i]) {
				t.Errorf("%s sends %s %s %s %q", command, r.Method, r.URL, r.Header, bodies[i])
			}
		}
	}
}

// hey measures, it does not judge: this command was meant to fail a canary, and does nowhere.
func TestAnswersAreNoFailures(t *testing.T) {
	onlyTools(t)
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer a.Close()
	if code, text := ask(t, map[string]string{"type": "bash", "cmd": "hey -n 2 -c 1 " + a.URL + "/status/500", "returnCmdOutput": "true"}); code != 200 || !strings.Contains(text, "[500]\t2 responses") {
		t.Errorf("%d %s", code, text)
	}
}

func TestWrongCommandsOfTools(t *testing.T) {
	onlyTools(t)
	for command, want := range map[string]string{
		"hey":                         "one URL",
		"hey -c 0 http://x/":          "-c must be",
		"hey -n 1 -c 2 http://x/":     "-n must not be less than -c",
		"hey -o xml http://x/":        "-o must be csv",
		"hey -H nonsense http://x/":   "-H",
		"hey -a nonsense http://x/":   "-a",
		"hey -D /nowhere http://x/":   "/nowhere",
		"hey podinfo":                 "not a URL",
		"hey -nonsense http://x/":     "nonsense",
		"ghz --insecure x:1":          "--call",
		"ghz --nonsense x:1":          "nonsense",
		"ghz --call a.B/C -d '{' x:1": "--data",
		"ghz --call a.B/C --proto /nowhere/x.proto --insecure 127.0.0.1:1": "x.proto",
	} {
		if code, text := ask(t, map[string]string{"type": "bash", "cmd": command}); code != 500 || !strings.Contains(text, want) || strings.Contains(text, "panic") {
			t.Errorf("%s: %d %s", command, code, text)
		}
	}
	for _, command := range []string{"hey -help", "ghz --help"} {
		if code, text := ask(t, map[string]string{"type": "bash", "cmd": command, "returnCmdOutput": "true"}); code != 200 || !strings.Contains(text, "Usage") {
			t.Errorf("%s: %d %s", command, code, text)
		}
	}
}

// healthServer has no reflection, as most servers.
func healthServer(t *testing.T) (address string, calls *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = &atomic.Int64{}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return nil }))
	healthpb.RegisterHealthServer(server, counting{health.NewServer(), calls})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), calls
}

type counting struct {
	healthpb.HealthServer
	calls *atomic.Int64
}

func (c counting) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	c.calls.Add(1)
	return c.HealthServer.Check(ctx, r)
}

func TestCallsOfGHZ(t *testing.T) {
	onlyTools(t)
	address, calls := healthServer(t)
	config := filepath.Join(t.TempDir(), "ghz.json")
	if err := os.WriteFile(config, []byte(`{"insecure":true,"call":"grpc.health.v1.Health/Check","total":3,"concurrency":1,"host":"`+address+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int64{
		"ghz -z 1m -q 100 -c 2 --insecure --proto=/tmp/ghz/health.proto --call=grpc.health.v1.Health/Check ADDRESS":             0,
		"ghz -n 5 -c 1 --insecure --call grpc.health.v1.Health.Check -d '{\"service\":\"\"}' -m '{\"canary\":\"yes\"}' ADDRESS": 5,
		"ghz -n4 -c2 --insecure --call grpc.health.v1.Health/Check --rps 1000 --connections 2 ADDRESS":                          4,
		"ghz --config " + config:           3,
		"ghz --config " + config + " -n 6": 6,
	} {
		var n int64
		code, text := 0, ""
		for long := 300 * time.Millisecond; n == 0 && long < time.Minute; long *= 2 {
			line := strings.NewReplacer("ADDRESS", address, "-z 1m", "-z "+long.String()).Replace(command)
			code, text = ask(t, map[string]string{"type": "bash", "cmd": line, "returnCmdOutput": "true"})
			n = calls.Swap(0)
		}
		if code != 200 || !strings.Contains(text, "[OK]") || n == 0 || want > 0 && n != want {
			t.Errorf("%s: %d calls, %d %s", command, n, code, text)
		}
	}
	debug := filepath.Join(t.TempDir(), "debug.log")
	// A request for the service "test", which the server does not know.
	code, text := ask(t, map[string]string{"type": "bash", "returnCmdOutput": "true", "cmd": `printf '\n\004test' | ghz -n 2 -c 1 --insecure --binary --debug ` +
		debug + " --call grpc.health.v1.Health/Check " + address})
	if log, err := os.ReadFile(debug); code != 200 || !strings.Contains(text, "[NotFound]") || err != nil || !strings.Contains(string(log), `"level":"debug"`) {
		t.Errorf("%d %s, log %s, %v", code, text, log, err)
	}
	code, text = ask(t, map[string]string{"type": "bash", "cmd": "ghz -n 1 -c 1 -O json --name test --insecure --call grpc.health.v1.Health/Check " + address, "returnCmdOutput": "true"})
	var report struct {
		Name  string
		Count int
	}
	if err := json.Unmarshal([]byte(text), &report); code != 200 || err != nil || report.Name != "test" || report.Count != 1 {
		t.Errorf("%d %s %v", code, text, err)
	}
}

// Where nothing can be written there is no folder for the names of the tools.
func TestToolsOnAReadOnlyFileSystem(t *testing.T) {
	onlyTools(t)
	path, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	t.Setenv("PATH", path)
	a := newApplication(t)
	for _, metadata := range []map[string]string{
		{"type": "bash", "cmd": "hey -n 2 -c 1 -H 'Cookie: type=insider' " + a.URL + "/ | grep 'type=\\|200' && (hey -n 1 -c 1 " + a.URL + "/)", "returnCmdOutput": "true"},
		{"cmd": "hey -n 3 -c 1 -H 'Cookie: type=insider' " + a.URL + "/"},
		{"cmd": "hey -n 3 -c 1 -H 'Cookie: type=insider' " + a.URL + "/", "shell": "no"},
	} {
		code, text := ask(t, metadata)
		if requests, _ := a.take(); code >= 300 || len(requests) != 3 || requests[0].Header.Get("Cookie") != "type=insider" {
			t.Errorf("%v: %d %s, %d requests", metadata, code, text, len(requests))
		}
	}
}

// An image that brings a tool of its own has it for a reason.
func TestToolOfTheImageComesFirst(t *testing.T) {
	onlyTools(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hey"), []byte("#!/bin/sh\necho mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if code, text := ask(t, map[string]string{"type": "bash", "cmd": "hey", "returnCmdOutput": "true"}); code != 200 || text != "mine\n" {
		t.Errorf("%d %q", code, text)
	}
}
