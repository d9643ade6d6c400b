package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/hack/testbed/internal/state"
)

// buildVariable, if set, lets the tests build what they need.
const buildVariable = "TESTBED_BUILD"

// patience bounds every wait of the tests, on a busy machine too.
const patience = 10 * time.Minute

// needComponent skips the test unless the component is there or may be built,
// and returns the paths of its programs.
func needComponent(t *testing.T, name string) map[string]string {
	t.Helper()
	builder, err := newBuilder("", nil)
	if err != nil {
		t.Fatal(err)
	}
	available, err := builder.Available(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if !available && os.Getenv(buildVariable) == "" {
		t.Skipf("%s is not built yet; build it by: go run ./cmd/testbed build %s (minutes), or set %s=1 to have the tests do so",
			name, name, buildVariable)
	}
	handles, err := builder.Start(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	result, err := handles[name].Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result.Programs
}

// testbed runs this test binary as the testbed program and returns its output
// and exit code.
func testbed(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return output(t, cmd)
}

func output(t *testing.T, cmd *exec.Cmd) (string, int) {
	t.Helper()
	var out bytes.Buffer
	// A file, unlike a buffer, is not waited for: it may stay open in the background.
	file, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	err = cmd.Run()
	if _, copyErr := io.Copy(&out, io.NewSectionReader(file, 0, 1<<20)); copyErr != nil {
		t.Fatal(copyErr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// must fails the test unless the exit code is 0.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := testbed(t, args...)
	if code != 0 {
		t.Fatalf("testbed %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// shortDir is a temporary folder with a path short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "testbed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// processes are those on this machine whose command line contains the text.
func processes(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || file == fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			continue // It has ended meanwhile, or is us.
		}
		if line := string(bytes.ReplaceAll(content, []byte{0}, []byte{' '})); strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// waitNone waits until no process has any of the texts in its command line.
func waitNone(t *testing.T, texts ...string) {
	t.Helper()
	var left []string
	none := func(context.Context) (bool, error) {
		left = nil
		for _, text := range texts {
			left = append(left, processes(t, text)...)
		}
		return len(left) == 0, nil
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, none); err != nil {
		t.Errorf("these processes are left:\n%s", strings.Join(left, "\n"))
	}
}

// Two testbeds on one machine do not see each other, and of one whose
// supervisor or init is killed nothing remains, pods included.
func TestSideBySideAndKilled(t *testing.T) {
	needComponent(t, controlPlane)
	root := shortDir(t)
	// Tells the process of the pod from all others on this machine.
	marker := strconv.Itoa(1_000_000 + os.Getpid())
	dirs := []string{filepath.Join(root, "a"), filepath.Join(root, "b")}
	var both sync.WaitGroup
	for _, dir := range dirs {
		both.Go(func() {
			if out, code := testbed(t, "up", "--detach", "--state", dir, "--image", "sleeper=/bin/sleep"); code != 0 {
				t.Errorf("up: exit code %d\n%s", code, out)
			}
		})
		t.Cleanup(func() { testbed(t, "down", "--state", dir) })
	}
	both.Wait()
	if t.Failed() {
		t.FailNow()
	}
	a, b := dirs[0], dirs[1]
	must(t, "exec", "--state", a, "--", "kubectl", "create", "configmap", "only-in-a")
	if out, code := testbed(t, "exec", "--state", b, "--", "kubectl", "get", "configmap", "only-in-a"); code == 0 || !strings.Contains(out, "NotFound") {
		t.Errorf("the other testbed has it too: exit code %d\n%s", code, out)
	}
	must(t, "exec", "--state", a, "--", "kubectl", "run", "p", "--image=sleeper", "--restart=Never", "--", marker)
	must(t, "exec", "--state", a, "--", "kubectl", "wait", "pod/p", "--for=condition=Ready", "--timeout="+patience.String())
	if len(processes(t, marker)) == 0 {
		t.Error("the pod's process is not there")
	}
	if _, code := testbed(t, "up", "--detach", "--state", a); code != 1 {
		t.Errorf("up where one is up: exit code %d, want 1", code)
	}

	kill(t, supervisorOf(t, a))
	waitNone(t, a+" ", a+"/", marker)
	must(t, "exec", "--state", b, "--", "kubectl", "get", "nodes")

	supervisor := supervisorOf(t, b)
	kill(t, initOf(t, supervisor))
	waitNone(t, b+" ", b+"/")
	for _, dir := range dirs {
		must(t, "down", "--state", dir)
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func supervisorOf(t *testing.T, dir string) int {
	t.Helper()
	pid, err := state.Dir(dir).Supervisor()
	if err != nil || pid == 0 {
		t.Fatalf("supervisor of %s: %d, %v", dir, pid, err)
	}
	return pid
}

// initOf returns the only child of the supervisor.
func initOf(t *testing.T, supervisor int) int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", supervisor))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if fields := strings.Fields(string(content)); len(fields) > 0 {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("supervisor %d has no child", supervisor)
	return 0
}

func TestRunPassesExitCodeAndCleansUp(t *testing.T) {
	needComponent(t, controlPlane)
	t.Parallel()
	dir := filepath.Join(shortDir(t), "r")
	out, code := testbed(t, "run", "--state", dir, "--", "sh", "-c", "kubectl get --raw /readyz && exit 7")
	if code != 7 || !strings.HasSuffix(out, "ok") {
		t.Errorf("exit code %d, want 7; output:\n%s", code, out)
	}
	waitNone(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state folder is left: %v", err)
	}
}

// When a part of the testbed dies, the error says which and quotes its log.
func TestRunNamesThePartThatDied(t *testing.T) {
	needComponent(t, controlPlane)
	t.Parallel()
	dir := filepath.Join(shortDir(t), "d")
	out, code := testbed(t, "run", "--state", dir, "--", "sh", "-c",
		"kill -9 $(pidof kube-scheduler); exec sleep 1000")
	if code != 1 || !strings.Contains(out, "kube-scheduler ended: signal: killed") {
		t.Errorf("exit code %d, want 1; output:\n%s", code, out)
	}
	waitNone(t, dir+"/", dir+" ")
}

func TestRunTimeout(t *testing.T) {
	needComponent(t, controlPlane)
	t.Parallel()
	dir := filepath.Join(shortDir(t), "t")
	out, code := testbed(t, "run", "--state", dir, "--timeout", "100ms", "--", "sleep", "1000")
	if code != timeoutCode || !strings.Contains(out, "did not end within 100ms") {
		t.Errorf("exit code %d, want %d; output:\n%s", code, timeoutCode, out)
	}
	waitNone(t, dir)
}

// An ordinary user can run a testbed, here with programs installed beforehand.
func TestUnprivilegedUser(t *testing.T) {
	programs := needComponent(t, controlPlane)
	if os.Getuid() != 0 {
		t.Skip("run as an ordinary user: the other tests show it already")
	}
	t.Parallel()
	const nobody = 65534
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	programs["testbed"] = "/proc/self/exe"
	for name, path := range programs {
		copyFile(t, path, filepath.Join(dir, "bin", name))
	}
	copyFile(t, "../../tools/controlplane/go.mod", filepath.Join(dir, "source", "tools", "controlplane", "go.mod"))
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "bin", "testbed"), "run", "--image", "true=/bin/true", "--", "sh", "-c",
		"kubectl run p --image=true --restart=Never && kubectl wait pod/p --for=jsonpath='{.status.phase}'=Succeeded --timeout=10m")
	cmd.Dir = "/"
	cmd.Env = []string{
		asProgram + "=1", "HOME=" + home, "TMPDIR=" + home, "PATH=/usr/bin:/bin",
		"KUBEBUILDER_ASSETS=" + filepath.Join(dir, "bin"), sourceVariable + "=" + filepath.Join(dir, "source"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, code := output(t, cmd); code != 0 || !strings.Contains(out, "condition met") {
		t.Errorf("exit code %d, output:\n%s", code, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o755)); err != nil {
		t.Fatal(err)
	}
}
