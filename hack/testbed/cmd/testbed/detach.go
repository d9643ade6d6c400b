package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"flagger.app/flagger/hack/testbed/internal/state"
)

// backgroundVariable tells the process that upDetached starts that it is one.
const backgroundVariable = "TESTBED_BACKGROUND"

// backgroundFD is where that process says that the testbed is ready.
const backgroundFD = 3

// upDetached starts the same command line in a session of its own and waits
// until the testbed is ready. Both write to the same terminal until then.
func upDetached(ctx context.Context, args []string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start in background: %w", err)
	}
	defer func() { _ = read.Close() }()
	cmd := exec.Command("/proc/self/exe", append(append([]string{"up"}, args...), "--detach=false")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{write}
	cmd.Env = append(os.Environ(), backgroundVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return fmt.Errorf("start in background: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	if n, _ := read.Read(make([]byte, 1)); n == 1 {
		return cmd.Process.Release()
	}
	// It ended, and has said why.
	_ = cmd.Wait()
	return exitError{code: 1}
}

// background is the process that upDetached started, or nil in any other.
type background struct{ notify *os.File }

func openBackground() (*background, error) {
	if os.Getenv(backgroundVariable) == "" {
		return nil, nil
	}
	if err := os.Unsetenv(backgroundVariable); err != nil {
		return nil, err
	}
	unix.CloseOnExec(backgroundFD)
	return &background{notify: os.NewFile(backgroundFD, "background")}, nil
}

// ready leaves the terminal and says that the testbed is ready.
func (b *background) ready(dir state.Dir) error {
	if b == nil {
		return nil
	}
	log, err := os.OpenFile(dir.SupervisorLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer func() { _ = log.Close() }()
	for _, fd := range []int{1, 2} {
		if err := unix.Dup3(int(log.Fd()), fd, 0); err != nil {
			return fmt.Errorf("leave terminal: %w", err)
		}
	}
	_, err = b.notify.Write([]byte{1})
	return err
}
