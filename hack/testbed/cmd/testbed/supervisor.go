package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	// ready is closed when the testbed works, done when it has ended; err says
	// why and is valid then.
	ready chan struct{}
	done  chan struct{}
	err   error
}

// killTimeout is how long the inside has to end after it was asked to.
const killTimeout = 10 * time.Second

// startSupervisor locks the state folder and begins to build and start
// everything. The testbed ends when ctx does.
func startSupervisor(ctx context.Context, dir state.Dir, plan control.Plan, builder *build.Builder, reporter *build.Reporter) (*supervisor, error) {
	s := &supervisor{
		dir: dir, plan: plan, reporter: reporter, builder: builder,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	names, err := s.components()
	if err != nil {
		return nil, err
	}
	lock, err := dir.Create()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	handles, err := builder.Start(ctx, names...)
	if err != nil {
		cancel()
		return nil, errors.Join(err, lock.Close())
	}
	go func() {
		defer close(s.done)
		defer lock.Close()
		defer cancel()
		s.err = s.supervise(ctx, handles)
	}()
	return s, nil
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
		for _, mapping := range f.images {
			if err := addImage(s.plan.Images, mapping); err != nil {
				return nil, fmt.Errorf("feature %s: %w", f.name, err)
			}
		}
	}
	var ofImages []string
	for _, image := range s.plan.Images {
		if image.Component != "" {
			ofImages = append(ofImages, image.Component)
		}
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
	defer near.Close()
	log, err := os.OpenFile(s.dir.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer log.Close()
	cmd := netns.Command(far, string(s.dir))
	cmd.Stdout, cmd.Stderr = log, log
	ended := start(cmd)
	_ = far.Close()
	if cmd.Process == nil {
		return netns.Explain(<-ended)
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
		s.stop(near, cmd, ended)
		return context.Cause(ctx)
	case err := <-ended:
		// The reason, if the worker could tell one, is in the socket already.
		return s.explainEnd(err, <-failure)
	}
}

// start starts the command on a thread that lives as long as the command; the
// channel gets its end. When start returns, cmd.Process is set if it runs.
func start(cmd *exec.Cmd) <-chan error {
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		close(started)
		if err == nil {
			err = cmd.Wait()
		}
		ended <- err
	}()
	<-started
	return ended
}

// stop asks the inside to end, and kills it if it does not.
func (s *supervisor) stop(conn *control.Conn[control.Order, control.Report], cmd *exec.Cmd, ended <-chan error) {
	_ = conn.Send(control.Order{Stop: true})
	select {
	case <-ended:
	case <-clock.RealClock{}.After(killTimeout):
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
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
