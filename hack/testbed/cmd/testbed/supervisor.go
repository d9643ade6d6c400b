package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/term"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/control"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/proc"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// supervisor is the outside of a testbed: it builds programs, which needs the
// network, holds the state folder, and takes the inside down with it.
type supervisor struct {
	dir      state.Dir
	plan     control.Plan
	reporter *build.Reporter
	builder  *build.Builder
	keep     bool
	// ready is closed when the testbed works, done when it has ended. Then err says
	// why, or what went wrong with an end that was asked for.
	ready chan struct{}
	done  chan struct{}
	err   error
}

// killTimeout is how long the inside has to end after it was asked to.
const killTimeout = 10 * time.Second

// start locks the state folder and begins to build and start everything. The
// testbed ends when ctx does; then the folder is removed, unless it is to be
// kept. It stays if the testbed ends by itself.
func (s *supervisor) start(ctx context.Context) error {
	names, err := s.components()
	if err != nil {
		return err
	}
	lock, err := s.dir.Create()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	handles, err := s.builder.Start(ctx, names...)
	if err != nil {
		cancel()
		return errors.Join(err, lock.Close())
	}
	go func() {
		defer close(s.done)
		defer func() { _ = lock.Close() }()
		s.err = s.supervise(ctx, handles)
		asked := ctx.Err() != nil
		cancel()
		for _, h := range handles {
			// A build that was begun cleans up.
			<-h.Done()
		}
		if asked && !s.keep {
			s.err = s.dir.Remove()
		}
	}()
	return nil
}

// components are those the plan needs, the slowest to build first.
func (s *supervisor) components() ([]string, error) {
	names := []string{controlPlane}
	found, err := findFeatures(s.plan.Features)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		names = append(names, f.components...)
		maps.Copy(s.plan.Images, f.images)
	}
	var ofImages []string
	for _, image := range s.plan.Images {
		if image.Component != "" {
			ofImages = append(ofImages, image.Component)
		}
		ofImages = slices.AppendSeq(ofImages, maps.Values(image.Mounts))
	}
	slices.Sort(ofImages)
	return append(names, ofImages...), nil
}

// supervise runs the inside until it ends or ctx does.
func (s *supervisor) supervise(ctx context.Context, handles map[string]*build.Handle) error {
	near, far, err := control.Pair()
	if err != nil {
		return err
	}
	defer func() { _ = near.Close() }()
	log, err := os.OpenFile(s.dir.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := netns.Command(far, string(s.dir))
	cmd.Stdout, cmd.Stderr = log, log
	inside, err := start(cmd)
	_ = far.Close()
	if err != nil {
		return netns.Explain(err)
	}
	failure := make(chan error, 1)
	go func() { failure <- s.listen(near) }()
	if err := near.Send(control.Order{Plan: &s.plan}); err == nil {
		for _, h := range handles {
			go s.deliver(ctx, near, h)
		}
	}
	select {
	case <-ctx.Done():
		inside.stop(near)
		return nil
	case <-inside.done:
		// The reason, if the worker could tell one, is in the socket already.
		return s.explainEnd(inside.err, <-failure)
	}
}

// inside is the running init process.
type inside struct {
	cmd *exec.Cmd
	// done is closed when it has ended; err says how and is valid then.
	done chan struct{}
	err  error
}

// start starts the command on a thread that lives as long as the command.
func start(cmd *exec.Cmd) (*inside, error) {
	i := &inside{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(i.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			i.err = cmd.Wait()
		}
	}()
	return i, <-started
}

// stop asks the inside to end, and kills it if it does not.
func (i *inside) stop(conn *control.Conn[control.Order, control.Report]) {
	_ = conn.Send(control.Order{Stop: true})
	select {
	case <-i.done:
	case <-clock.RealClock{}.After(killTimeout):
		_ = i.cmd.Process.Signal(syscall.SIGKILL)
		<-i.done
	}
}

// deliver tells the worker when a component is there.
func (s *supervisor) deliver(ctx context.Context, conn *control.Conn[control.Order, control.Report], h *build.Handle) {
	result, err := h.Wait(ctx)
	c := control.Component{Name: h.Name(), Programs: result.Programs}
	if err != nil {
		c.Error = err.Error()
	}
	// A worker that is gone is noticed where its end is awaited.
	_ = conn.Send(control.Order{Component: &c})
}

// listen takes the worker's reports until it is gone, and returns the error it
// gave, if any.
func (s *supervisor) listen(conn *control.Conn[control.Order, control.Report]) error {
	var failure error
	for {
		report, err := conn.Receive()
		switch {
		case errors.Is(err, io.EOF), err != nil:
			return failure
		case report.Error != "":
			failure = errors.New(report.Error)
		case report.Ready:
			close(s.ready)
		case report.Status != "":
			s.reporter.Println(report.Status)
		}
	}
}

// explainEnd finds words for an inside that ended by itself.
func (s *supervisor) explainEnd(ended, failure error) error {
	if failure != nil {
		return fmt.Errorf("%w (logs are in %s)", failure, s.dir.Logs())
	}
	if ended == nil {
		return errors.New("the inside of the testbed was stopped")
	}
	return fmt.Errorf("the inside of the testbed ended: %w; the end of %s:\n%s", ended, s.dir.Log(), proc.Tail(s.dir.Log()))
}

// newReporter shows progress on standard error.
func newReporter() *build.Reporter {
	return build.NewReporter(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())), clock.RealClock{})
}
