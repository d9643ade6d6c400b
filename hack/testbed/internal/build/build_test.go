package build

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

// recipe is a recipe that writes its content and counts.
type recipe struct {
	key     string
	content string
	err     error
	mu      sync.Mutex
	builds  int
	// gate, if set, holds each build until it is closed.
	gate <-chan struct{}
	// order, if set, gets the component's file name when a build begins.
	order chan<- string
}

func (r *recipe) Key(context.Context) (string, error) { return r.key, nil }
func (r *recipe) Place() string                       { return "here" }

func (r *recipe) Build(ctx context.Context, out string, progress Progress) error {
	r.mu.Lock()
	r.builds++
	r.mu.Unlock()
	if r.order != nil {
		r.order <- filepath.Base(out)
	}
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if r.err != nil {
		return r.err
	}
	return os.WriteFile(out, []byte(r.content), 0o755)
}

func newTestBuilder(t *testing.T, cache string, components ...Component) *Builder {
	t.Helper()
	b, err := New(Options{CacheDir: cache, Components: components, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func waitFor(t *testing.T, b *Builder, name string) (Result, error) {
	t.Helper()
	handles, err := b.Start(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return handles[name].Wait(t.Context())
}

func TestSeveralProgramsAreOneFileAndCached(t *testing.T) {
	cache := t.TempDir()
	r := &recipe{key: "1", content: "program"}
	c := Component{Name: "all", Programs: []string{"one", "two"}, Recipe: r}
	for _, origin := range []string{"built", "cache"} {
		result, err := waitFor(t, newTestBuilder(t, cache, c), "all")
		if err != nil || result.Origin != origin {
			t.Fatalf("got origin %q, error %v; want %q", result.Origin, err, origin)
		}
		for _, program := range c.Programs {
			content, err := os.ReadFile(result.Programs[program])
			if err != nil || string(content) != "program" || filepath.Base(result.Programs[program]) != program {
				t.Errorf("program %s at %s: %q, %v", program, result.Programs[program], content, err)
			}
		}
	}
	r.key = "2"
	if result, err := waitFor(t, newTestBuilder(t, cache, c), "all"); err != nil || result.Origin != "built" {
		t.Errorf("with another key: origin %q, error %v; want built", result.Origin, err)
	}
}

func TestRecipeWithoutKeyRunsEachTimeAndReplaces(t *testing.T) {
	cache := t.TempDir()
	var path string
	for _, content := range []string{"old", "new"} {
		r := &recipe{content: content}
		result, err := waitFor(t, newTestBuilder(t, cache, Component{Name: "p", Recipe: r}), "p")
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(result.Programs["p"])
		if err != nil || string(got) != content {
			t.Errorf("program is %q, %v; want %q", got, err, content)
		}
		if path != "" && path != result.Programs["p"] {
			t.Errorf("path changed from %s to %s", path, result.Programs["p"])
		}
		path = result.Programs["p"]
	}
}

func TestFailureLeavesNothingAndIsNotCached(t *testing.T) {
	cache := t.TempDir()
	r := &recipe{key: "1", content: "x", err: errors.New("no luck")}
	b := newTestBuilder(t, cache, Component{Name: "p", Recipe: r})
	if _, err := waitFor(t, b, "p"); err == nil || !strings.Contains(err.Error(), "build p: no luck") {
		t.Errorf("error %v, want it to name the component and the cause", err)
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			t.Errorf("%s is left in the cache", e.Name())
		}
	}
	r.err = nil
	if result, err := waitFor(t, b, "p"); err != nil || result.Origin != "built" {
		t.Errorf("second try: origin %q, error %v; want built", result.Origin, err)
	}
}

// Two builders stand for two processes: file locks do not tell them apart.
func TestTwoBuildersBuildOnce(t *testing.T) {
	cache := t.TempDir()
	gate, order := make(chan struct{}), make(chan string, 2)
	r := &recipe{key: "1", content: "x", gate: gate, order: order}
	c := Component{Name: "p", Recipe: r}
	first, err := newTestBuilder(t, cache, c).Start(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	<-order
	second, err := newTestBuilder(t, cache, c).Start(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	close(gate)
	for i, h := range []*Handle{first["p"], second["p"]} {
		want := []string{"built", "cache"}[i]
		if result, err := h.Wait(t.Context()); err != nil || result.Origin != want {
			t.Errorf("builder %d: origin %q, error %v; want %q", i, result.Origin, err, want)
		}
	}
	if r.builds != 1 {
		t.Errorf("built %d times, want once", r.builds)
	}
}

func TestBuildsKeepTheGivenOrder(t *testing.T) {
	order := make(chan string, 3)
	var components []Component
	for _, name := range []string{"a", "b", "c"} {
		components = append(components, Component{Name: name, Recipe: &recipe{key: name, content: name, order: order}})
	}
	b := newTestBuilder(t, t.TempDir(), components...)
	handles, err := b.Start(t.Context(), "c", "a", "b", "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range handles {
		if _, err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(order)
	var got []string
	for name := range order {
		got = append(got, name)
	}
	if diff := cmp.Diff([]string{"c", "a", "b"}, got); diff != "" {
		t.Errorf("order of builds (-want +got):\n%s", diff)
	}
}

func TestCancelledBuildEnds(t *testing.T) {
	order := make(chan string, 1)
	cache := t.TempDir()
	b := newTestBuilder(t, cache,
		Component{Name: "slow", Recipe: &recipe{key: "1", gate: make(chan struct{}), order: order}},
		Component{Name: "queued", Recipe: &recipe{key: "2"}})
	ctx, cancel := context.WithCancel(t.Context())
	handles, err := b.Start(ctx, "slow", "queued")
	if err != nil {
		t.Fatal(err)
	}
	<-order
	cancel()
	for name, h := range handles {
		if _, err := h.Wait(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want it canceled", name, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(cache, ".tmp-*")); err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	c := Component{Name: "p", Recipe: &recipe{}}
	if _, err := New(Options{CacheDir: t.TempDir(), Components: []Component{c, c}}); err == nil {
		t.Error("two components of one name are accepted")
	}
	b := newTestBuilder(t, t.TempDir(), c)
	if _, err := b.Start(t.Context(), "p", "q"); err == nil || !strings.Contains(err.Error(), "q; there are: p") {
		t.Errorf("error %v, want it to name q and the known components", err)
	}
}

func TestInstalledProgramsAreUsedIfAllSuit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv("KUBEBUILDER_ASSETS", "")
	version := func(name, printed string) {
		script := "#!/bin/sh\necho " + printed + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	installed := func(name string) Installed {
		return Installed{Program: name, Version: regexp.MustCompile(`v(\d+)\.(\d+)`), Major: 1, MinMinor: 35, MaxMinor: 36}
	}
	c := Component{
		Name: "all", Programs: []string{"one", "two"}, Recipe: &recipe{key: "1"},
		Installed: []Installed{installed("one"), installed("two")},
	}
	for _, step := range []struct{ one, two, origin string }{
		{"v1.36.0", "v1.34.9", "built"},
		{"v1.36.0", "v2.36.0", "cache"},
		{"v1.36.0", "nothing", "cache"},
		{"v1.36.0", "v1.35.2", "installed"},
	} {
		version("one", step.one)
		version("two", step.two)
		result, err := waitFor(t, newTestBuilder(t, filepath.Join(dir, "cache"), c), "all")
		if err != nil || result.Origin != step.origin {
			t.Errorf("with %s and %s: origin %q, error %v; want %q", step.one, step.two, result.Origin, err, step.origin)
		}
	}
}

// writeModule makes a Go module with one program.
func writeModule(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module example.com/p\n\ngo 1.26\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestGoModule(t *testing.T) {
	dir := writeModule(t, "package main\n\nvar said string\n\nfunc main() { println(said) }\n")
	cache := t.TempDir()
	module := GoModule{Dir: dir, Package: ".", LDFlags: []string{"-X main.said=hello"}}
	c := Component{Name: "p", Recipe: module}
	result, err := waitFor(t, newTestBuilder(t, cache, c), "p")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(result.Programs["p"]).CombinedOutput()
	if err != nil || string(out) != "hello\n" {
		t.Errorf("the program said %q, %v; want hello", out, err)
	}
	before, err := module.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]GoModule{
		"tag":  {Dir: dir, Package: ".", LDFlags: module.LDFlags, Tags: []string{"x"}},
		"flag": {Dir: dir, Package: "."},
	} {
		if after, err := change.Key(t.Context()); err != nil || after == before {
			t.Errorf("another %s: key %s, %v; want it to change", what, after, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), []byte("\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if after, err := module.Key(t.Context()); err != nil || after == before {
		t.Errorf("with another go.sum: key %s, %v; want it to change", after, err)
	}
}

func TestGoPackageFollowsItsSource(t *testing.T) {
	dir := writeModule(t, "package main\n\nfunc main() { println(1) }\n")
	b := newTestBuilder(t, t.TempDir(), Component{Name: "p", Recipe: GoPackage{Dir: dir, Package: "."}})
	for _, want := range []string{"1\n", "2\n"} {
		source := "package main\n\nfunc main() { println(" + strings.TrimSpace(want) + ") }\n"
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		result, err := waitFor(t, b, "p")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(result.Programs["p"]).CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("the program said %q, %v; want %q", out, err, want)
		}
	}
}

func TestCompilerMessagesAreInTheError(t *testing.T) {
	dir := writeModule(t, "package main\n\nfunc main() { undefinedName() }\n")
	b := newTestBuilder(t, t.TempDir(), Component{Name: "p", Recipe: GoModule{Dir: dir, Package: "."}})
	if _, err := waitFor(t, b, "p"); err == nil || !strings.Contains(err.Error(), "undefinedName") {
		t.Errorf("error %v, want the compiler's words in it", err)
	}
}

func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := newTestBuilder(t, t.TempDir(),
		Component{Name: "g", Recipe: GoModule{Dir: t.TempDir(), Package: "."}},
		Component{Name: "w", Recipe: PythonWheel{Requirement: "p==1", Member: "p"}})
	for name, tool := range map[string]string{"g": "go", "w": "python3"} {
		_, err := waitFor(t, b, name)
		var missing *MissingToolError
		if !errors.As(err, &missing) || missing.Tool != tool || missing.Component != name || missing.Remedy == "" {
			t.Errorf("%s: error %v, want a MissingToolError for %s", name, err, tool)
		}
	}
}

func TestFollowCountsPackagesAndKeepsMessages(t *testing.T) {
	r := NewReporter(&bytes.Buffer{}, false, clocktesting.NewFakeClock(time.Unix(0, 0)))
	task := r.begin("p")
	messages := follow(strings.NewReader("fmt\ngo: downloading x v1\nexample.com/a/v2\n# example.com/b\n./b.go:1:2: bad\n"), 4, task)
	if diff := cmp.Diff("# example.com/b\n./b.go:1:2: bad", messages); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("p: 2 of 4 packages compiled (50 %)", r.line()); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestReporterInLogAndOnTerminal(t *testing.T) {
	for _, test := range []struct {
		name     string
		terminal bool
		every    time.Duration
		want     string
	}{
		{"log", false, lineEvery, "p: 1 of 4 packages compiled (25 %)\nnote\np is built (15s)\n"},
		{"terminal", true, 15 * time.Second, "\r\x1b[Kp: 1 of 4 packages compiled (25 %)\r\x1b[Knote\n" +
			"\r\x1b[Kp: 1 of 4 packages compiled (25 %)\r\x1b[Kp is built (15s)\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			clk := clocktesting.NewFakeClock(time.Unix(0, 0))
			var out bytes.Buffer
			r := NewReporter(&out, test.terminal, clk)
			task := r.begin("p")
			task.Count(1, 4)
			clk.Step(test.every)
			r.mu.Lock()
			r.show()
			r.mu.Unlock()
			r.Println("note")
			task.end("built", nil)
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtract(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "p.whl")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for _, name := range []string{"p/bin/p", "p/bin/q", "p/__init__.py"} {
		member, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := member.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := extract(archive, "*/bin/p", out); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil || string(content) != "p/bin/p" {
		t.Errorf("got %q, %v; want the member's content", content, err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("mode %v, %v; want it executable", info.Mode(), err)
	}
	for _, pattern := range []string{"*/bin/x", "*/bin/*"} {
		if err := extract(archive, pattern, out); err == nil {
			t.Errorf("pattern %q is accepted, want an error unless one file matches", pattern)
		}
	}
}
