package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/remote"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// timeoutCode is the exit code of a command that was ended by --timeout, the
// same as that of timeout(1).
const timeoutCode = 124

// runCommand starts a testbed for one command.
func runCommand(ctx context.Context, args []string) error {
	var at where
	var has what
	flags := newFlags("run")
	at.register(flags)
	has.register(flags)
	timeout := flags.Duration("timeout", 0, "end the command after this time, with exit code 124; 0 means never")
	if err := parse(flags, "-- command [argument…]", args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("run: no command given; write it after --")
	}
	if at.name == "" && at.state == "" {
		at.name = fmt.Sprintf("run-%d", os.Getpid())
	}
	dir, err := at.find()
	if err != nil {
		return err
	}
	// Signals end the start, but are the command's own once it runs.
	up, down := context.WithCancel(context.WithoutCancel(ctx))
	defer down()
	s, err := has.launch(up, dir, filepath.Base(string(dir)))
	if err != nil {
		return err
	}
	select {
	case <-s.ready:
		err = runInside(s, flags.Args(), *timeout)
	case <-s.done:
		return s.err
	case <-ctx.Done():
		err = errors.New("interrupted")
	}
	down()
	<-s.done
	return errors.Join(err, s.err)
}

// runInside runs the command and returns its exit code as an error.
func runInside(s *supervisor, args []string, timeout time.Duration) error {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := execInside(ctx, s.dir, args)
	if errors.Is(err, context.DeadlineExceeded) {
		fmt.Fprintf(os.Stderr, "testbed: the command did not end within %s\n", timeout)
		return exitError{code: timeoutCode}
	}
	if errors.Is(err, remote.ErrLost) {
		// The supervisor is about to learn why, if it has not yet.
		select {
		case <-s.done:
		case <-clock.RealClock{}.After(killTimeout):
		}
	}
	return err
}

// execCommand runs a command in a testbed that is up.
func execCommand(_ context.Context, args []string) error {
	var at where
	flags := newFlags("exec")
	at.register(flags)
	if err := parse(flags, "-- command [argument…]", args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("exec: no command given; write it after --")
	}
	dir, err := at.find()
	if err != nil {
		return err
	}
	// Signals are passed on; the command decides what they mean.
	return execInside(context.Background(), dir, flags.Args())
}

// execInside runs a command with the files, environment and working folder of
// this process.
func execInside(ctx context.Context, dir state.Dir, args []string) error {
	cwd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("working folder: %w", err)
	}
	code, err := remote.Run(ctx, dir.ControlSocket(), remote.Command{
		Args: args, Env: os.Environ(), Dir: cwd, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError{code: code}
	}
	return nil
}

// forwardCommand listens on a local port and joins connections to it with new
// ones to an address inside.
func forwardCommand(ctx context.Context, args []string) error {
	var at where
	flags := newFlags("forward")
	at.register(flags)
	if err := parse(flags, "local-address address-inside", args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("forward: give two addresses, as 127.0.0.1:9090 prometheus.monitoring:9090")
	}
	dir, err := at.find()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", flags.Arg(0))
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "forwarding %s to %s; Ctrl-C ends it\n", listener.Addr(), flags.Arg(1))
	return forward(ctx, listener, dir, flags.Arg(1))
}

func forward(ctx context.Context, listener net.Listener, dir state.Dir, address string) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }()
			far, err := remote.Dial(ctx, dir.ControlSocket(), address)
			if err != nil {
				fmt.Fprintf(os.Stderr, "testbed: connect to %s: %v\n", address, err)
				return
			}
			defer func() { _ = far.Close() }()
			if tcp, ok := conn.(*net.TCPConn); ok {
				remote.Join(tcp, far)
			}
		}()
	}
}

// downTimeout is how long a testbed has to end, a bit more than its
// supervisor gives to the inside.
const downTimeout = killTimeout + 5*time.Second
