package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Command is a command to be run inside.
type Command struct {
	Args  []string
	Env   []string
	Dir   string
	Stdin *os.File
	// Stdout and Stderr are passed on as they are.
	Stdout, Stderr *os.File
}

// ErrLost says that the testbed ended while the command ran.
var ErrLost = errors.New("the testbed ended while the command ran")

// Run runs the command in the testbed behind the socket, passes on signals
// that this process gets, and returns the command's exit code. If ctx ends the
// command is killed.
func Run(ctx context.Context, socket string, c Command) (int, error) {
	conn, err := connect(ctx, socket)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	terminal, err := openTerminal(&c)
	if err != nil {
		return 0, err
	}
	defer terminal.close()
	r := request{Exec: &execRequest{Args: c.Args, Env: c.Env, Dir: c.Dir, Terminal: terminal != nil}}
	if err := errors.Join(sendFiles(conn, c.Stdin, c.Stdout, c.Stderr), writeLine(conn, r)); err != nil {
		return 0, err
	}
	defer forwardSignals(conn)()
	for {
		var answer reply
		if err := readLine(conn, &answer); err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			return 0, fmt.Errorf("%w: %w", ErrLost, err)
		}
		switch {
		case answer.Error != "":
			return 0, errors.New(answer.Error)
		case answer.Exited != nil:
			return *answer.Exited, nil
		}
	}
}

// forwardSignals sends the signals that usually end a program to the command instead.
func forwardSignals(conn *net.UnixConn) (stop func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if number, ok := s.(syscall.Signal); ok {
					_ = writeLine(conn, signalMessage{Signal: int(number)})
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// Dial opens a TCP connection to an address inside; names are those of the
// cluster.
func Dial(ctx context.Context, socket, address string) (*net.UnixConn, error) {
	conn, err := connect(ctx, socket)
	if err != nil {
		return nil, err
	}
	var answer reply
	err = errors.Join(sendFiles(conn), writeLine(conn, request{Dial: &dialRequest{Address: address}}))
	if err == nil {
		err = readLine(conn, &answer)
	}
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func connect(ctx context.Context, socket string) (*net.UnixConn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("no testbed is up here (%w); start one by: testbed up", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("connection to %s is a %T", socket, conn)
	}
	return unixConn, nil
}

// halfCloser is a connection one direction of which can be closed.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// join carries bytes both ways until both directions are closed.
func join(a, b halfCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		carry(a, b)
	}()
	carry(b, a)
	<-done
}

// carry copies until from is at its end. If the copy breaks, both connections
// are closed, so that neither side waits for bytes that will not come.
func carry(to, from halfCloser) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		_ = to.Close()
		_ = from.Close()
	}
}

// Join carries bytes between the two connections until both directions are closed.
func Join(a *net.TCPConn, b *net.UnixConn) { join(a, b) }

// lookPath finds a command by the PATH of its own environment.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	var path string
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, folder := range filepath.SplitList(path) {
		file := filepath.Join(folder, name)
		info, err := os.Stat(file)
		if filepath.IsAbs(file) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
