package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is a program to run in a container that runs already.
type Command struct {
	Argv []string
	Env  []string
	Dir  string
	// Stdin, Stdout and Stderr may be nil.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY, when set, is the terminal the program gets instead.
	TTY *os.File
}

// joinOrder matters: the mount namespace comes last because it takes the
// descriptors' origin, /proc of the machine, out of sight.
var joinOrder = []struct {
	name string
	flag int
}{
	{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC},
	{"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
}

// Exec runs a command in the namespaces of the container and gives its exit
// code. The end of ctx kills it.
func (p *Process) Exec(ctx context.Context, command Command) (int, error) {
	type outcome struct {
		code int
		err  error
	}
	result := make(chan outcome, 1)
	go func() {
		// The thread has left our namespaces for good: it is never
		// unlocked and so ends with this goroutine.
		runtime.LockOSThread()
		code, err := p.execOnThread(ctx, command)
		result <- outcome{code, err}
	}()
	r := <-result
	return r.code, r.err
}

func (p *Process) execOnThread(ctx context.Context, command Command) (int, error) {
	if err := p.join(); err != nil {
		return 0, err
	}
	if len(command.Argv) == 0 {
		return 0, fmt.Errorf("no command given")
	}
	// Looked up on this thread, hence in the container.
	program, err := lookPath(command.Argv[0], command.Env)
	if err != nil {
		return 0, fmt.Errorf("find command in the container: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, command.Argv[1:]...)
	cmd.Env, cmd.Dir = command.Env, command.Dir
	// No parent death signal: os/exec would take the foreign process namespace
	// for a dead parent. The program ends with the container at the latest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if command.TTY != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = command.TTY, command.TTY, command.TTY
		cmd.SysProcAttr.Setctty = true
	} else if err := pipeStdin(cmd, command); err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run %q in the container: %w", command.Argv[0], err)
	}
	err = cmd.Wait()
	if cmd.ProcessState == nil {
		return 0, fmt.Errorf("run %q in the container: %w", command.Argv[0], err)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("run %q in the container: %w", command.Argv[0], ctx.Err())
	}
	code, _ := exitCode(cmd.ProcessState)
	return code, nil
}

// lookPath searches the PATH of the given environment.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	for _, variable := range env {
		path, ok := strings.CutPrefix(variable, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			if program, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return program, nil
			}
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// pipeStdin copies the input itself: os/exec would wait for an input that
// never ends although the program has.
func pipeStdin(cmd *exec.Cmd, command Command) error {
	cmd.Stdout, cmd.Stderr = command.Stdout, command.Stderr
	if command.Stdin == nil {
		return nil
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	go func() {
		// Broken when the program ends first, which is its right.
		_, _ = io.Copy(stdin, command.Stdin)
		_ = stdin.Close()
	}()
	return nil
}

// join moves this thread to the namespaces of the container.
func (p *Process) join() error {
	fds := make([]int, len(joinOrder))
	for i, ns := range joinOrder {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", p.Pid(), ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s namespace of the container: %w", ns.name, err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	// A mount namespace cannot be joined while the working directory is
	// shared with the other threads.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare working directory: %w", err)
	}
	for i, ns := range joinOrder {
		if err := unix.Setns(fds[i], ns.flag); err != nil {
			return fmt.Errorf("join %s namespace of the container: %w", ns.name, err)
		}
	}
	return nil
}
