package proc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func shell(t *testing.T, script string) Spec {
	t.Helper()
	return Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", script}, LogDir: t.TempDir()}
}

func TestUnaskedEndQuotesTheLog(t *testing.T) {
	for script, want := range map[string]string{
		"echo out; echo oops >&2; exit 3": "exit status 3",
		"echo out; echo oops":             "exit status 0",
	} {
		p, err := Start(t.Context(), shell(t, script))
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if err := p.Err(); err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "out\noops") {
			t.Errorf("%s: error %v, want %q and the log in it", script, err, want)
		}
	}
}

func TestStop(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		grace  time.Duration
		want   string
	}{
		"killed at once":     {"trap 'echo orderly; exit' TERM; echo up; while :; do sleep 0.01; done", 0, "up\n"},
		"ends in order":      {"trap 'echo orderly; exit' TERM; echo up; while :; do sleep 0.01; done", time.Minute, "up\norderly\n"},
		"killed after grace": {"trap '' TERM; echo up; while :; do sleep 0.01; done", 50 * time.Millisecond, "up\n"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := shell(t, test.script)
			spec.Grace = test.grace
			p, err := Start(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			for log := ""; log != "up\n"; log = readLog(t, spec) {
				select {
				case <-p.Done():
					t.Fatalf("ended early: %v", p.Err())
				case <-time.After(time.Millisecond):
				}
			}
			p.Stop()
			if err := p.Err(); err != nil {
				t.Errorf("error %v after Stop, want none", err)
			}
			if got := readLog(t, spec); got != test.want {
				t.Errorf("log %q, want %q", got, test.want)
			}
		})
	}
}

func readLog(t *testing.T, spec Spec) string {
	t.Helper()
	content, err := os.ReadFile(spec.logPath())
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestMissingProgram(t *testing.T) {
	spec := Spec{Name: "p", Path: filepath.Join(t.TempDir(), "none"), LogDir: t.TempDir()}
	if _, err := Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), spec.Path) {
		t.Errorf("error %v, want one that names the path", err)
	}
}

func TestTailKeepsWholeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	lines := strings.Repeat("a line of the log\n", 1000) + "the end\n"
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	got := Tail(path)
	if !strings.HasPrefix(got, "a line of the log\n") || !strings.HasSuffix(got, "\nthe end") || len(got) > tailSize {
		t.Errorf("Tail begins %.20q and ends %q, %d bytes", got, got[len(got)-20:], len(got))
	}
	if got := Tail(path + ".none"); got != "" {
		t.Errorf("Tail of no file is %q", got)
	}
}
