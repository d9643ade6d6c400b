package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaybeRun takes over when this process is the init or the worker of a
// testbed: it runs it and exits the program. Otherwise it returns at once.
// work gets the state folder and returns the exit code.
func MaybeRun(work func(stateDir string) int) {
	if len(os.Args) != 3 {
		return
	}
	switch os.Args[1] {
	case initArg:
		os.Exit(runInit(os.Args[2]))
	case workerArg:
		os.Exit(work(os.Args[2]))
	}
}

// setupFailed is the exit code of an init that could not prepare the namespaces.
const setupFailed = 70

// runInit is PID 1.
func runInit(stateDir string) int {
	// The worker's parent-death signal hangs on this very thread.
	runtime.LockOSThread()
	if err := setUp(stateDir); err != nil {
		fmt.Fprintf(os.Stderr, "testbed: %v\n", Explain(err))
		return setupFailed
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	cmd := exec.Command("/proc/self/exe", workerArg, stateDir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(ControlFD, "control")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "testbed: start worker: %v\n", err)
		return setupFailed
	}
	// Only the worker holds the control file now, so that its end is seen outside.
	_ = cmd.ExtraFiles[0].Close()
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	return reap(cmd.Process.Pid)
}

// setUp prepares the namespaces this process was born into.
func setUp(stateDir string) error {
	if err := unix.Sethostname([]byte("testbed")); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := setUpMounts(stateDir); err != nil {
		return err
	}
	return setUpNetwork()
}

// reap collects every child that ends, orphans included, until the worker
// does, and returns the worker's exit code. All others then end with us.
func reap(worker int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			fmt.Fprintf(os.Stderr, "testbed: wait for worker: %v\n", err)
			return setupFailed
		case pid != worker:
			continue
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}
