// Package proc runs the programs of a testbed: output goes to a log file, an
// end nobody asked for is an error that quotes the log, and no program
// outlives the testbed.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	// Name is used in errors and for the log file.
	Name string
	// Path is the program, Args its arguments without argv[0].
	Path string
	Args []string
	// Env is added to the environment of this process.
	Env []string
	// Dir is the working folder; empty means that of this process.
	Dir string
	// LogDir gets the log, <Name>.log.
	LogDir string
	// Grace is how long the program may take to end after SIGTERM until it is
	// killed; 0 means it is killed at once.
	Grace time.Duration
}

// Process is a running program.
type Process struct {
	spec   Spec
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	pid    int
}

// Start starts the program; it is stopped when ctx ends.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	if err := os.MkdirAll(spec.LogDir, 0o755); err != nil {
		return nil, fmt.Errorf("%s: make log folder: %w", spec.Name, err)
	}
	log, err := os.OpenFile(spec.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: open log: %w", spec.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &Process{spec: spec, cancel: cancel, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(ctx, log, started)
	if err := <-started; err != nil {
		cancel()
		return nil, fmt.Errorf("%s: start %s: %w", spec.Name, spec.Path, err)
	}
	return p, nil
}

func (s Spec) logPath() string { return filepath.Join(s.LogDir, s.Name+".log") }

// run owns the OS thread that the program's parent-death signal hangs on.
func (p *Process) run(ctx context.Context, log *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	defer func() { _ = log.Close() }()
	defer p.cancel()

	cmd := exec.CommandContext(ctx, p.spec.Path, p.spec.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.spec.Env...)
	cmd.Dir = p.spec.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if p.spec.Grace > 0 {
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = p.spec.Grace
	}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	err := cmd.Wait()
	if ctx.Err() == nil {
		p.err = p.spec.unexpected(err)
	}
}

// unexpected describes an end nobody asked for.
func (s Spec) unexpected(err error) error {
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w; the end of %s:\n%s", s.Name, err, s.logPath(), Tail(s.logPath()))
}

// PID is the process id in the PID namespace of this process.
func (p *Process) PID() int { return p.pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is why the program ended, nil if it was stopped. Valid once Done is closed.
func (p *Process) Err() error { return p.err }

// Stop ends the program and waits until it has.
func (p *Process) Stop() {
	p.cancel()
	<-p.done
}

// tailSize is how much of a log an error quotes, in bytes.
const tailSize = 2048

// Tail returns the last whole lines of the file, empty if it cannot be read.
func Tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(0, size-tailSize)
	content := make([]byte, size-from)
	n, err := f.ReadAt(content, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	content = content[:n]
	if from > 0 {
		if _, rest, found := bytes.Cut(content, []byte("\n")); found {
			content = rest
		}
	}
	return string(bytes.TrimRight(content, "\n"))
}
