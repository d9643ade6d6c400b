package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is what a program's main does: the tests re-execute this binary.
func TestMain(m *testing.M) {
	MaybeRun(inside)
	os.Exit(m.Run())
}

// inside is the worker of the tests: it reports on the file ControlFD whatever
// is wrong in its world, then "done", then waits for the file to be closed.
func inside(stateDir string) int {
	control := os.NewFile(ControlFD, "control")
	for _, err := range checkWorld(stateDir) {
		fmt.Fprintln(control, err)
	}
	fmt.Fprintln(control, "done")
	// A grandchild that nobody waits for must not outlive us.
	orphan := exec.Command("sleep", "1000")
	orphan.ExtraFiles = []*os.File{control}
	if err := orphan.Start(); err != nil {
		fmt.Fprintln(control, err)
	}
	fmt.Fprintln(control, "running")
	_, _ = control.Read(make([]byte, 1))
	return 42
}

func checkWorld(stateDir string) []error {
	var problems []error
	for _, address := range []string{"10.96.0.10:53", "10.96.123.45:80", NodeIP + ":443"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		conn, err := net.Dial("tcp", address)
		problems = append(problems, err)
		if err == nil {
			problems = append(problems, conn.Close(), l.Close())
		}
	}
	if l, err := net.Listen("tcp", "10.244.0.5:80"); err == nil {
		problems = append(problems, fmt.Errorf("%s is local, which hides the routes to pods", l.Addr()))
	}
	for file, want := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward": "1",
		"/etc/resolv.conf":              "nameserver " + DNSIP,
		"/proc/1/cmdline":               initArg,
		"/etc/hosts":                    "localhost",
	} {
		content, err := os.ReadFile(file)
		problems = append(problems, err)
		if !strings.Contains(string(content), want) {
			problems = append(problems, fmt.Errorf("%s: %q, want %q in it", file, content, want))
		}
	}
	problems = append(problems,
		os.WriteFile("/run/file", nil, 0o600),
		os.WriteFile(filepath.Join(stateDir, "file"), nil, 0o600))
	if os.Getuid() != 0 {
		problems = append(problems, fmt.Errorf("user id is %d, want 0", os.Getuid()))
	}
	return nonNil(problems)
}

func nonNil(errs []error) []error {
	var kept []error
	for _, err := range errs {
		if err != nil {
			kept = append(kept, err)
		}
	}
	return kept
}

// launch starts the inside on a locked thread of its own and returns the
// command, our end of the control file and a channel with its end.
func launch(t *testing.T) (*exec.Cmd, *os.File, <-chan error) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	cmd := Command(far, t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- cmd.Start()
		ended <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Skipf("this machine does not allow it: %v", Explain(err))
	}
	t.Cleanup(func() {
		_ = near.Close()
		if t.Failed() {
			t.Logf("error output of the inside:\n%s", stderr.String())
		}
	})
	_ = far.Close()
	return cmd, near, ended
}

func readUntil(t *testing.T, r io.Reader, end string) string {
	t.Helper()
	var all strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(all.String(), end) {
		if _, err := r.Read(one); err != nil {
			t.Fatalf("the inside said %q and then: %v", all.String(), err)
		}
		all.Write(one)
	}
	return all.String()
}

func TestInside(t *testing.T) {
	_, control, ended := launch(t)
	if said := readUntil(t, control, "done\n"); said != "done\n" {
		t.Errorf("the inside is not as it should be:\n%s", said)
	}
	readUntil(t, control, "running\n")
	_ = control.Close()
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("the inside ended with %v, want the worker's exit code 42", err)
	}
}

func TestKillInitEndsAll(t *testing.T) {
	cmd, control, ended := launch(t)
	readUntil(t, control, "running\n")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	// The worker and its grandchild hold the other end: it closes with the last of them.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = control.Close() })()
	if rest, err := io.ReadAll(control); err != nil || len(rest) > 0 {
		t.Errorf("after the kill of init: %q, %v; want the end of the file", rest, err)
	}
}

func TestFollowLinks(t *testing.T) {
	dir := t.TempDir()
	for link, target := range map[string]string{
		"a": "b", "b": filepath.Join(dir, "c"), "loop": "loop", "old": "/var/run/resolv.conf",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for link, want := range map[string]string{
		"a": filepath.Join(dir, "c"), "none": filepath.Join(dir, "none"), "old": "/run/resolv.conf",
	} {
		if got, err := followLinks(filepath.Join(dir, link)); err != nil || got != want {
			t.Errorf("followLinks(%s) = %q, %v; want %q", link, got, err, want)
		}
	}
	if got, err := followLinks(filepath.Join(dir, "loop")); err == nil {
		t.Errorf("followLinks(loop) = %q, want an error", got)
	}
}

func TestStateFolderBelowRunIsRefused(t *testing.T) {
	if err := checkStateDir("/run/user/1000/testbed"); err == nil || !strings.Contains(err.Error(), "--state") {
		t.Errorf("error %v, want one that names --state", err)
	}
}

func TestExplain(t *testing.T) {
	other := errors.New("other")
	if got := Explain(other); !errors.Is(got, other) || got.Error() != "other" {
		t.Errorf("Explain(%v) = %v, want it unchanged", other, got)
	}
	refused := fmt.Errorf("mount: %w", syscall.EPERM)
	if got := Explain(refused); !errors.Is(got, syscall.EPERM) || got.Error() == refused.Error() {
		t.Errorf("Explain(%v) = %v, want advice added", refused, got)
	}
}
