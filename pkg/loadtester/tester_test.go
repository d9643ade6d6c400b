package loadtester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/hook"
)

// served is a load tester that a test talks to.
type served struct {
	*testing.T
	*Tester
	logs     *observer.ObservedLogs
	registry *prometheus.Registry
}

func serve(t *testing.T, edits ...func(*Options)) *served {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	registry := prometheus.NewRegistry()
	o := Options{
		Timeout: time.Hour, MaxCommands: 10, Shell: true, Gates: &MemoryGates{}, Clock: clock.RealClock{}, Log: zap.New(core), Metrics: registry,
	}
	for _, edit := range edits {
		edit(&o)
	}
	tester, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tester.Stop)
	return &served{T: t, Tester: tester, logs: logs, registry: registry}
}

// send sends a body to a path.
func (s *served) send(ctx context.Context, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body)))
	return w
}

func (s *served) wants(method, path, body string, status int, texts ...string) string {
	s.Helper()
	w := s.send(s.Context(), method, path, body)
	if w.Code != status {
		s.Errorf("%s %s %s: %d %q, want %d", method, path, body, w.Code, w.Body, status)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			s.Errorf("%s %s %s: %q lacks %q", method, path, body, w.Body, text)
		}
	}
	return w.Body.String()
}

func payload(metadata ...string) string { return payloadOf("test", metadata...) }

func payloadOf(namespace string, metadata ...string) string {
	p := hook.Payload{Name: "podinfo", Namespace: namespace, Phase: "Progressing", Checksum: "844fcbbb88", Metadata: map[string]string{}}
	for i := 0; i < len(metadata); i += 2 {
		p.Metadata[metadata[i]] = metadata[i+1]
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// eventually waits for something that other processes do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 60_000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// tools puts programs that print their arguments on the PATH.
func tools(t *testing.T, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		script := "#!/bin/sh\necho " + name + "\nfor a in \"$@\"; do echo \"[$a]\"; done\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestTasksAnswerWithTheirResult(t *testing.T) {
	tools(t, "helm", "kubectl")
	s := serve(t)
	for name, c := range map[string]struct {
		metadata []string
		status   int
		body     string
	}{
		"bash":              {[]string{"type", "bash", "cmd", "echo token | grep token"}, 200, ""},
		"bash, output":      {[]string{"type", "bash", "cmd", "echo out; echo err >&2", "returnCmdOutput", "true"}, 200, "out\nerr\n"},
		"bash is bash":      {[]string{"type", "bash", "cmd", "[[ abc =~ b ]] && echo ${BASH_VERSION%%.*} | grep -q '[0-9]'"}, 200, ""},
		"bash fails":        {[]string{"type", "bash", "cmd", "false"}, 500, "command false failed: : exit status 1"},
		"bash says why":     {[]string{"type", "bash", "cmd", "echo no token; exit 3"}, 500, "command echo no token; exit 3 failed: no token\n: exit status 3"},
		"helm":              {[]string{"type", "helm", "cmd", "test podinfo --cleanup", "returnCmdOutput", "true"}, 200, "helm\n[test]\n[podinfo]\n[--cleanup]\n"},
		"helmv3":            {[]string{"type", "helmv3", "cmd", "test podinfo", "returnCmdOutput", "true"}, 200, "helm\n[test]\n[podinfo]\n"},
		"kubectl":           {[]string{"type", "kubectl", "cmd", `get pods -l 'a in (b, c)' --template "{{ .x }}"`, "returnCmdOutput", "true"}, 200, "kubectl\n[get]\n[pods]\n[-l]\n[a in (b, c)]\n[--template]\n[{{ .x }}]\n"},
		"no shell for helm": {[]string{"type", "helm", "cmd", `upgrade --set a\.b=$HOME | cat`, "returnCmdOutput", "true"}, 200, "helm\n[upgrade]\n[--set]\n[a\\.b=$HOME]\n[|]\n[cat]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.send(t.Context(), "POST", "/", payload(c.metadata...))
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	s.wants("POST", "/", payload("type", "kubectl", "cmd", "get pods"), 500, "command get pods failed", "kubectl", "not found")
}

func TestWhatCannotRunIsRefusedWithAReason(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/", "/any/path"} {
		s.wants("POST", path, "", 400, "not the payload of a webhook")
		s.wants("POST", path, `{"name":`, 400, "not the payload of a webhook")
		s.wants("POST", path, `{"name":"a","namespace":"b","metadata":{"cmd":1}}`, 400, "metadata", "number")
		s.wants("POST", path, `{"name":"a","namespace":"b"}`, 400, "metadata not found in payload")
		s.wants("POST", path, payload("type", "k6", "cmd", "true"), 400, `unknown task type "k6"`, strings.Join(Types(), ", "))
	}
	for _, kind := range []string{"", "cmd", "bash", "helm", "helmv3", "kubectl"} {
		s.wants("POST", "/", payload("type", kind), 400, "metadata.cmd is empty")
		s.wants("POST", "/", payload("type", kind, "cmd", " \n"), 400, "metadata.cmd is empty")
	}
	s.wants("POST", "/", payload("type", "kubectl", "cmd", "get 'pods"), 400, "a quote is not closed")
	s.wants("POST", "/", payload("cmd", strings.Repeat("x", maxPayload)), 400, "too large")
	for _, path := range []string{"/", "/gate/open", "/gate/close", "/rollback/open", "/rollback/close"} {
		if w := s.send(t.Context(), "GET", path, payload("cmd", "true")); w.Code != 405 || w.Header().Get("Allow") != "POST, PUT" {
			t.Errorf("GET %s: %d, Allow %q", path, w.Code, w.Header().Get("Allow"))
		}
	}
	for _, path := range []string{"/gate/check", "/gate/open", "/gate/close", "/rollback/check", "/rollback/open", "/rollback/close"} {
		s.wants("POST", path, "{", 400, "not the payload")
		s.wants("POST", path, `{"name":"a"}`, 400, "name and namespace")
	}
	if logged := s.logs.FilterMessage("command starts").Len(); logged > 0 {
		t.Errorf("%d commands ran", logged)
	}
}

func TestGates(t *testing.T) {
	s := serve(t)
	s.wants("POST", "/gate/approve", payload(), 200, "OK")
	s.wants("GET", "/gate/approve", "", 200, "OK")
	s.wants("POST", "/gate/halt", payload(), 403, "Forbidden")
	gates(s)
}

// gates opens and closes gates of the load tester, which are all closed.
func gates(s *served) {
	s.Helper()
	// The key of a gate must not depend on which part of it a dot belongs to.
	other := `{"name":"rollback.podinfo","namespace":"test"}`
	closed := func(path, body string) { s.Helper(); s.wants("POST", path, body, 403, "Forbidden") }
	open := func(path, body string) { s.Helper(); s.wants("POST", path, body, 200, "Approved") }
	closed("/gate/check", payload())
	closed("/rollback/check", payload())
	for _, kind := range []string{"/rollback", "/gate"} {
		if body := s.wants("POST", kind+"/open", payload(), 202); body != "" {
			s.Errorf("open answers %q", body)
		}
		open(kind+"/check", payload())
		closed(kind+"/check", payloadOf("other"))
		closed("/gate/check", other)
		if kind == "/rollback" {
			closed("/gate/check", payload())
		}
	}
	s.wants("POST", "/gate/close", payload(), 202)
	s.wants("POST", "/gate/close", payload(), 202)
	closed("/gate/check", payload())
	open("/rollback/check", payload())
}

type brokenGates struct{}

func (brokenGates) Open(context.Context, Gate) (bool, error) {
	return true, errors.New("no route to host")
}
func (brokenGates) Set(context.Context, Gate, bool) error { return errors.New("no route to host") }

func TestGateThatGivesNoAnswerIsClosed(t *testing.T) {
	s := serve(t, func(o *Options) { o.Gates = brokenGates{} })
	for _, path := range []string{"/gate/check", "/gate/open", "/gate/close", "/rollback/check", "/rollback/open"} {
		s.wants("POST", path, payload(), 503, "podinfo.test", "no route to host")
	}
}

func TestNamespacesThatAreNotAllowedGetNothing(t *testing.T) {
	s := serve(t, func(o *Options) { o.Namespaces = regexp.MustCompile("^team-") })
	for _, path := range []string{"/", "/gate/check", "/gate/open", "/gate/close", "/rollback/check", "/rollback/open", "/rollback/close"} {
		s.wants("POST", path, payloadOf("other", "cmd", "true"), 403, "Forbidden")
	}
	s.wants("POST", "/gate/approve", payloadOf("other"), 200)
	s.wants("POST", "/gate/open", payloadOf("team-a"), 202)
	s.wants("POST", "/", payloadOf("team-a", "type", "bash", "cmd", "true"), 200)
}

func TestShellIsForThoseWhoMayUseIt(t *testing.T) {
	tools(t, "program")
	off := serve(t, func(o *Options) { o.Shell = false })
	some := serve(t, func(o *Options) { o.ShellNamespaces = []string{"trusted"} })
	for _, s := range []*served{off, some} {
		for _, script := range []string{"program | cat", "program; program", "program &", "program > /tmp/x", "program $(id)", "program `id`", "program $HOME", `program "$HOME"`, "program\nprogram"} {
			s.wants("POST", "/", payload("cmd", script), 403, "-enable-shell")
		}
		s.wants("POST", "/", payload("type", "bash", "cmd", "true"), 403, "-enable-shell")
		s.wants("POST", "/", payload("cmd", "program 'a b' \\\n http://x/?y -H 'Cookie: a=$b'\n", "logCmdOutput", "true"), 202)
		finished(s)
		if got := s.output(); got != "program\n[a b]\n[http://x/?y]\n[-H]\n[Cookie: a=$b]\n" {
			t.Errorf("the program printed %q", got)
		}
	}
	some.wants("POST", "/", payloadOf("trusted", "type", "bash", "cmd", "true | true"), 200)
	off.wants("POST", "/", payloadOf("trusted", "type", "bash", "cmd", "true | true"), 403)
}

// finished waits until nothing runs.
func finished(s *served) {
	s.Helper()
	s.runs.wait.Wait()
}

// output is that in the last line of the log.
func (s *served) output() string {
	all := s.logs.All()
	text, _ := all[len(all)-1].ContextMap()["output"].(string)
	return text
}

func TestBackgroundCommands(t *testing.T) {
	s := serve(t)
	s.wants("POST", "/", payload("cmd", "echo quiet"), 202, "accepted, the result is not judged")
	finished(s)
	if got := s.output(); got != "" {
		t.Errorf("%q is logged without logCmdOutput", got)
	}
	s.wants("POST", "/", payload("type", "cmd", "cmd", "echo a; echo b >&2", "logCmdOutput", "true"), 202)
	finished(s)
	if got := s.output(); got != "a\nb\n" {
		t.Errorf("logged %q", got)
	}
	s.wants("POST", "/", payload("cmd", "echo why; exit 2"), 202)
	finished(s)
	last := s.logs.All()[s.logs.Len()-1]
	fields := last.ContextMap()
	if last.Level != zapcore.ErrorLevel || fields["canary"] != "podinfo.test" || fields["output"] != "why\n" || fields["error"] != "exit status 2" || fields["command"] != "echo why; exit 2" {
		t.Errorf("logged %s %v", last.Level, fields)
	}
}

// A load test of two minutes is asked for at every step.
func TestCommandRunsOnceAtATime(t *testing.T) {
	s := serve(t)
	fifo := makeFifo(t)
	hold := func(namespace, more string) string { return payloadOf(namespace, "cmd", "cat "+fifo+more) }
	s.wants("POST", "/", hold("test", ""), 202, "accepted")
	s.wants("POST", "/", hold("test", ""), 202, "skipped", "running since")
	s.wants("POST", "/", hold("test", " # edited"), 202, "accepted")
	s.wants("POST", "/", hold("other", ""), 202, "accepted")
	release(t, fifo)
	finished(s)
	s.wants("POST", "/", payload("cmd", "cat "+fifo), 202, "accepted")
	s.metric(`flagger_loadtester_tasks_total{result="skipped",type="cmd"} 1`)
	s.metric(`flagger_loadtester_tasks_total{result="succeeded",type="cmd"} 3`)
	release(t, fifo)
	finished(s)
}

func (s *served) metric(want string) {
	s.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "\n"+want+"\n") {
		s.Errorf("no %s in\n%s", want, w.Body)
	}
}

func makeFifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// Whoever reads before somebody writes waits, and so does the writer: this one never does.
	return path
}

// release ends all who read from a fifo, those that come later too, until the test ends.
func release(t *testing.T, path string) {
	t.Helper()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			// Without a reader this fails at once.
			if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				f.Close()
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

func TestNumberOfCommandsIsBounded(t *testing.T) {
	s := serve(t, func(o *Options) { o.MaxCommands = 1 })
	fifo := makeFifo(t)
	s.wants("POST", "/", payload("cmd", "cat "+fifo), 202, "accepted")
	if w := s.send(t.Context(), "POST", "/", payload("cmd", "true")); w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "-max-commands is 1") {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	s.metric(`flagger_loadtester_tasks_total{result="refused",type="cmd"} 1`)
	answered := make(chan *httptest.ResponseRecorder)
	go func() { answered <- s.send(t.Context(), "POST", "/", payload("type", "bash", "cmd", "true")) }()
	release(t, fifo)
	if w := <-answered; w.Code != 200 {
		t.Errorf("a test that waited for its turn: %d %q", w.Code, w.Body)
	}
	finished(s)
	s.wants("POST", "/", payload("cmd", "true"), 202, "accepted")
}

// What a caller asks again about the same revision is answered by the test that runs already.
func TestCallerThatAsksAgainJoinsTheTest(t *testing.T) {
	s := serve(t)
	ends := make(chan struct{})
	j := job{key: "a", do: func(context.Context, *zap.Logger) (string, <-chan struct{}, error) {
		<-ends
		return "once", done(), nil
	}}
	first, second := s.runs.blocking(j), s.runs.blocking(j)
	if first != second {
		t.Error("the test runs twice")
	}
	close(ends)
	<-second.done
	if second.written != "once" {
		t.Errorf("got %q", second.written)
	}
	// Either waits for the file that the other makes.
	dir := t.TempDir()
	script := func(revision string) string {
		p := payload("type", "bash", "cmd", "cd "+dir+"; mkdir a 2>/dev/null || mkdir b; until [ -d b ]; do sleep 0.01; done")
		return strings.ReplaceAll(p, "844fcbbb88", revision)
	}
	answered := make(chan int)
	for _, revision := range []string{"1", "2"} {
		go func() { answered <- s.send(t.Context(), "POST", "/", script(revision)).Code }()
	}
	if a, b := <-answered, <-answered; a != 200 || b != 200 {
		t.Errorf("tests of two revisions: %d, %d", a, b)
	}
}

func TestTestGoesOnWithoutItsCaller(t *testing.T) {
	s := serve(t)
	fifo, dir := makeFifo(t), t.TempDir()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		s.send(ctx, "POST", "/", payload("type", "bash", "cmd", "touch "+dir+"/begun; cat "+fifo+"; touch "+dir+"/ended"))
		close(left)
	}()
	eventually(t, "the test begins", func() bool { _, err := os.Stat(dir + "/begun"); return err == nil })
	leave()
	<-left
	release(t, fifo)
	finished(s)
	if _, err := os.Stat(dir + "/ended"); err != nil {
		t.Error(err)
	}
}

func alive(t *testing.T, pid int) bool {
	t.Helper()
	err := syscall.Kill(pid, 0)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	return err == nil
}

// A shell that is killed alone would leave its children, which keep its output open.
func TestTimeoutKillsTheCommandWithItsChildren(t *testing.T) {
	for timeout := 500 * time.Millisecond; ; timeout *= 2 {
		s := serve(t, func(o *Options) { o.Timeout = timeout })
		// The second one has left its parent, which has ended.
		w := s.send(t.Context(), "POST", "/", payload("type", "bash", "cmd", `sleep 1000 & echo "pid $!"; (sleep 1000 & echo "pid $!"); wait`))
		if w.Code != 500 || !strings.Contains(w.Body.String(), "ended after "+timeout.String()+", the limit that -timeout sets") {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
		found := regexp.MustCompile(`pid (\d+)`).FindAllStringSubmatch(w.Body.String(), -1)
		if len(found) < 2 && timeout < time.Minute {
			continue
		}
		finished(s)
		for _, f := range found {
			pid, _ := strconv.Atoi(f[1])
			if alive(t, pid) {
				t.Errorf("child %d is there after the end, dead or alive", pid)
			}
		}
		s.metric(`flagger_loadtester_tasks_total{result="timeout",type="bash"} 1`)
		return
	}
}

func TestStopEndsWhatGoesOnInTheBackground(t *testing.T) {
	s := serve(t)
	out := s.wants("POST", "/", payload("type", "bash", "cmd", "sleep 1000 >/dev/null 2>&1 & echo $!", "returnCmdOutput", "true"), 200)
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(t, pid) {
		t.Error("what a command leaves in the background is killed at its end")
	}
	s.metric(`flagger_loadtester_tasks_running{type="bash"} 1`)
	s.Stop()
	if alive(t, pid) {
		t.Error("it outlives the load tester")
	}
}

func TestLongOutput(t *testing.T) {
	s := serve(t)
	out := s.wants("POST", "/", payload("type", "bash", "cmd", "echo begin; head -c 5000000 /dev/zero | tr '\\0' x; printf '\\xff'; echo end", "returnCmdOutput", "true"), 200, "begin\n", "bytes left out", "�end\n")
	if len(out) > 2*side+100 {
		t.Errorf("%d bytes are kept", len(out))
	}
}

// The server gives up answers that take long, as those of metrics and health never do.
func TestTestMayTakeLongerThanTheServerWaits(t *testing.T) {
	s := serve(t)
	patient := httptest.NewUnstartedServer(s.Handler())
	patient.Config.WriteTimeout = time.Second
	patient.Start()
	defer patient.Close()
	resp, err := http.Post(patient.URL, "application/json", strings.NewReader(payload("type", "bash", "cmd", "sleep 1.5; echo done", "returnCmdOutput", "true")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || string(body) != "done\n" || err != nil {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
}

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                              nil,
		"  a\tb\n c ":                   {"a", "b", "c"},
		`-d '{"a": 1}' "b \"c\" \\ \d"`: {"-d", `{"a": 1}`, `b "c" \ \d`},
		`a\ b c\'d e\.f \\`:             {"a b", "c'd", `e\.f`, `\`},
		`a''b "" c"d e"'f g'`:           {"ab", "", "cd ef g"},
		"a \\\n b":                      {"a", "b"},
	} {
		got, err := words(text)
		if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: %q %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`'a`, `"a`, `a\`} {
		if got, err := words(text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}
