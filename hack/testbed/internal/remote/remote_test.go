package remote

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// serve runs a server that adds ADDED=yes to the environment of commands.
func serve(t *testing.T) (socket string) {
	t.Helper()
	return serveUntil(context.Background(), t)
}

// serveUntil runs one that ends with ctx.
func serveUntil(ctx context.Context, t *testing.T) (socket string) {
	t.Helper()
	// t.TempDir can be too long for a socket.
	dir, err := os.MkdirTemp("", "remote")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	listener, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Env: func(callers []string) []string { return append(callers, "ADDED=yes") },
		Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket
}

// script runs a shell script with pipes, and returns its end of the output.
type script struct {
	stdin  *os.File
	stdout *os.File
	result chan error
	code   int
}

func start(ctx context.Context, t *testing.T, socket, text string) *script {
	t.Helper()
	inRead, inWrite, errIn := os.Pipe()
	outRead, outWrite, errOut := os.Pipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	s := &script{stdin: inWrite, stdout: outRead, result: make(chan error, 1)}
	t.Cleanup(func() { closeAll([]*os.File{inWrite, outRead}) })
	go func() {
		var err error
		s.code, err = Run(ctx, socket, Command{
			Args: []string{"sh", "-c", text, "name"}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin", "GIVEN=x"},
			Stdin: inRead, Stdout: outWrite, Stderr: outWrite,
		})
		closeAll([]*os.File{inRead, outWrite})
		s.result <- err
	}()
	return s
}

func (s *script) readAll(t *testing.T) string {
	t.Helper()
	out, err := io.ReadAll(s.stdout)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (s *script) readUp(t *testing.T) {
	t.Helper()
	if _, err := io.ReadFull(s.stdout, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
}

func TestRun(t *testing.T) {
	socket := serve(t)
	s := start(t.Context(), t, socket, `read line; echo "$line $0 $GIVEN $ADDED $PWD"; echo err >&2; exit 5`)
	if _, err := s.stdin.WriteString("typed\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := s.readAll(t), "typed name x yes /\nerr\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if err := <-s.result; err != nil || s.code != 5 {
		t.Errorf("exit code %d, %v; want 5", s.code, err)
	}
}

// A command that is killed because the testbed ends has no exit code of its own.
func TestRunInATestbedThatEnds(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	s := start(t.Context(), t, serveUntil(ctx, t), "echo up; exec sleep 1000")
	s.readUp(t)
	end()
	if err := <-s.result; !errors.Is(err, ErrLost) {
		t.Errorf("exit code %d, %v; want %v", s.code, err, ErrLost)
	}
}

func TestRunPassesSignals(t *testing.T) {
	socket := serve(t)
	// Keeps the signal from ending the test should forwarding be broken.
	for text, want := range map[string]int{
		`trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done`: 7,
		`echo up; exec sleep 1000`:                                  128 + int(syscall.SIGTERM),
	} {
		s := start(t.Context(), t, socket, text)
		s.readUp(t)
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-s.result; err != nil || s.code != want {
			t.Errorf("%s: exit code %d, %v; want %d", text, s.code, err, want)
		}
	}
}

func TestCommandEndsWithItsClient(t *testing.T) {
	socket := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := start(ctx, t, socket, `sleep 1000 & echo up; wait`)
	s.readUp(t)
	cancel()
	if err := <-s.result; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want it canceled", err)
	}
	// The output ends when both processes of the command have ended.
	if err := s.stdout.SetReadDeadline(deadline()); err != nil {
		t.Fatal(err)
	}
	if rest := s.readAll(t); rest != "" {
		t.Errorf("output %q after the end", rest)
	}
}

func deadline() time.Time { return clock.RealClock{}.Now().Add(5 * time.Minute) }

func TestRunErrors(t *testing.T) {
	socket := serve(t)
	for name, want := range map[string]string{"no-such-program": "not found", "/etc/passwd": "permission denied"} {
		_, err := Run(t.Context(), socket, Command{
			Args: []string{name}, Dir: "/", Env: []string{"PATH=/bin"}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	_, err := Run(t.Context(), socket+"x", Command{Args: []string{"true"}})
	if err == nil || !strings.Contains(err.Error(), "testbed up") {
		t.Errorf("without a server: error %v, want advice", err)
	}
}

func TestDialAndForward(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// Answers only once its client has said everything: half-closing must work.
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			said, _ := io.ReadAll(conn)
			_, _ = conn.Write(append([]byte("heard "), said...))
			_ = conn.Close()
		}
	}()
	ask := func(conn *net.UnixConn) string {
		defer conn.Close()
		_, writeErr := conn.Write([]byte("hello"))
		answer, readErr := "", error(nil)
		if err := conn.CloseWrite(); err == nil {
			var all []byte
			all, readErr = io.ReadAll(conn)
			answer = string(all)
		}
		if err := errors.Join(writeErr, readErr); err != nil {
			t.Error(err)
		}
		return answer
	}
	socket := serve(t)
	conn, err := Dial(t.Context(), socket, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(conn); got != "heard hello" {
		t.Errorf("Dial: answer %q", got)
	}
	if _, err := Dial(t.Context(), socket, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Dial to a closed port: error %v, want refused", err)
	}
	forwarded, err := Listen(socket + "f")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Forward(ctx, forwarded, listener.Addr().String()) }()
	conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: socket + "f", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(conn); got != "heard hello" {
		t.Errorf("Forward: answer %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Forward: %v", err)
	}
}
