package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawner starts containers. Their lives end with it, however this process
// ends: the kernel sends SIGKILL when the thread that started a process is
// gone, so that all are started by one thread that stays.
type Spawner struct {
	requests chan func()
	done     chan struct{}
}

// NewSpawner starts the thread. Close ends it and all containers.
func NewSpawner() *Spawner {
	s := &Spawner{requests: make(chan func()), done: make(chan struct{})}
	go func() {
		// Never unlocked, so the thread ends with the goroutine.
		runtime.LockOSThread()
		for {
			select {
			case request := <-s.requests:
				request()
			case <-s.done:
				return
			}
		}
	}()
	return s
}

// Close kills what still runs.
func (s *Spawner) Close() { close(s.done) }

// Process is a running container.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs the container in a network namespace and returns once its
// program runs. stdout and stderr stay with the caller, which closes them.
func (s *Spawner) Start(spec *Spec, netns *os.File, stdout, stderr *os.File) (*Process, error) {
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer specRead.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe: %w", err), specWrite.Close())
	}
	defer statusRead.Close()
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{"container", initArg},
		Env:        []string{},
		Stdout:     stdout,
		Stderr:     stderr,
		ExtraFiles: []*os.File{specRead, netns, statusWrite},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
			Pdeathsig:  unix.SIGKILL,
			Setsid:     true,
		},
	}
	err = s.start(cmd)
	_ = statusWrite.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start container helper: %w", err), specWrite.Close())
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		// How it ended is read from ProcessState.
		_ = cmd.Wait()
	}()
	encodeErr := json.NewEncoder(specWrite).Encode(spec)
	_ = specWrite.Close()
	message, readErr := io.ReadAll(statusRead)
	if err := errors.Join(encodeErr, readErr); err != nil {
		p.Signal(unix.SIGKILL)
		<-p.done
		return nil, fmt.Errorf("hand over container spec: %w", err)
	}
	if len(message) > 0 {
		<-p.done
		return nil, errors.New(string(message))
	}
	return p, nil
}

func (s *Spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	select {
	case s.requests <- func() { result <- cmd.Start() }:
		return <-result
	case <-s.done:
		return errors.New("the node is shutting down")
	}
}

// Pid of the container's first process, as seen from here.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the container has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the first process; one that has ended already is
// no error, as it can end at any time.
func (p *Process) Signal(signal syscall.Signal) { _ = p.cmd.Process.Signal(signal) }

// ExitCode is the exit status after Done, 128 plus the signal when one ended
// it, and that signal (0 if none).
func (p *Process) ExitCode() (code int, signal syscall.Signal) {
	return exitCode(p.cmd.ProcessState)
}

func exitCode(state *os.ProcessState) (code int, signal syscall.Signal) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), status.Signal()
	}
	return state.ExitCode(), 0
}
