package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Server runs commands and opens connections in its own namespaces.
type Server struct {
	// Env returns the environment of a command, given that of its caller.
	Env func(callers []string) []string
	Log *slog.Logger
}

// Serve answers on the listener until ctx ends.
func (s *Server) Serve(ctx context.Context, listener *net.UnixListener) error {
	return accept(ctx, listener, s.handle)
}

// Forward joins connections to the listener with new ones to a TCP address
// here, until ctx ends.
func Forward(ctx context.Context, listener *net.UnixListener, address string) error {
	return accept(ctx, listener, func(ctx context.Context, conn *net.UnixConn) error {
		return joinTCP(ctx, conn, address)
	})
}

// Listen listens on a unix socket that only its owner can use.
func Listen(socket string) (*net.UnixListener, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	return listener, nil
}

func accept(ctx context.Context, listener *net.UnixListener, handle func(context.Context, *net.UnixConn) error) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", listener.Addr(), err)
		}
		go func() {
			defer func() { _ = conn.Close() }()
			// An error of one conversation is told to its client, who may be gone.
			if err := handle(ctx, conn); err != nil {
				_ = writeLine(conn, reply{Error: err.Error()})
			}
		}()
	}
}

func (s *Server) handle(ctx context.Context, conn *net.UnixConn) error {
	files, err := receiveFiles(conn)
	if err != nil {
		return err
	}
	defer closeAll(files)
	var r request
	if err := readLine(conn, &r); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	switch {
	case r.Exec != nil && len(files) == stdFiles:
		return s.exec(ctx, conn, *r.Exec, files)
	case r.Dial != nil:
		return s.dial(ctx, conn, *r.Dial)
	default:
		return errors.New("unknown request; the testbed was started by another version of this program")
	}
}

// dial answers Started and then carries bytes.
func (s *Server) dial(ctx context.Context, conn *net.UnixConn, r dialRequest) error {
	far, err := dialTCP(ctx, r.Address)
	if err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	if err := writeLine(conn, reply{Started: true}); err != nil {
		return err
	}
	join(conn, far)
	return nil
}

// exec runs a command until it ends; it is killed when the client goes away.
func (s *Server) exec(ctx context.Context, conn *net.UnixConn, r execRequest, files []*os.File) error {
	if len(r.Args) == 0 {
		return errors.New("no command given")
	}
	env := s.Env(r.Env)
	path, err := lookPath(r.Args[0], r.Dir, env)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: path, Args: r.Args, Env: env, Dir: r.Dir,
		// Given as files, these are the command's own: no copying goes on here.
		Stdin: files[0], Stdout: files[1], Stderr: files[2],
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: r.Terminal, Pdeathsig: syscall.SIGKILL},
	}
	// The parent-death signal is bound to the thread that starts the command.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	// Otherwise a reader of the output would wait for our copies to be closed.
	closeAll(files)
	group := -cmd.Process.Pid
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(group, syscall.SIGKILL) })()
	if err := writeLine(conn, reply{Started: true}); err != nil {
		_ = syscall.Kill(group, syscall.SIGKILL)
	}
	go passSignals(conn, group)
	code := exitCode(cmd.Wait())
	if ctx.Err() != nil {
		// It was killed with all that is inside. The client is to say so, and not that it was killed.
		return nil
	}
	s.Log.Debug("command ended", "args", r.Args, "code", code)
	return writeLine(conn, reply{Exited: &code})
}

// passSignals sends on what the client sends until it is gone.
func passSignals(conn *net.UnixConn, group int) {
	for {
		var m signalMessage
		if err := readLine(conn, &m); err != nil {
			_ = syscall.Kill(group, syscall.SIGKILL)
			return
		}
		_ = syscall.Kill(group, syscall.Signal(m.Signal))
	}
}

// exitCode is that of a shell: 128 + n for a command that signal n ended.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return 126
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// dialTimeout bounds connecting to something that is on the same machine.
const dialTimeout = 10 * time.Second

func dialTCP(ctx context.Context, address string) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("connection to %s is a %T", address, conn)
	}
	return tcp, nil
}

func joinTCP(ctx context.Context, conn *net.UnixConn, address string) error {
	far, err := dialTCP(ctx, address)
	if err != nil {
		// The bytes here are the service's own protocol; closing is all we can say.
		return nil
	}
	defer func() { _ = far.Close() }()
	join(conn, far)
	return nil
}
