package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/cluster"
	"flagger.app/flagger/hack/testbed/internal/control"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/proc"
	"flagger.app/flagger/hack/testbed/internal/remote"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// worker is the inside of a testbed: everything runs in or below this process.
type worker struct {
	dir     state.Dir
	log     *slog.Logger
	clock   clock.WithTicker
	conn    *control.Conn[control.Report, control.Order]
	plan    control.Plan
	cluster *cluster.Cluster
	// failed takes the first failure of anything that should go on running.
	failed chan error
	// running counts the parts that get time for an orderly end.
	running sync.WaitGroup

	mu         sync.Mutex
	components map[string]control.Component
	arrived    chan struct{} // Closed and replaced when a component arrives.
}

// stopTimeout is how long the parts have for an orderly end.
const stopTimeout = 5 * time.Second

// work is the main function of the worker process.
func work(stateDir string) int {
	dir := state.Dir(stateDir)
	w := &worker{
		dir: dir, clock: clock.RealClock{}, failed: make(chan error, 1),
		log:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		components: map[string]control.Component{}, arrived: make(chan struct{}),
	}
	conn, err := control.Worker(netns.ControlFD)
	if err != nil {
		w.log.Error("cannot talk to the supervisor", "error", err)
		return 1
	}
	w.conn = conn
	if err := w.run(); err != nil {
		w.log.Error("testbed failed", "error", err)
		// If the supervisor is gone nobody is left to be told.
		_ = conn.Send(control.Report{Error: err.Error()})
		return 1
	}
	return 0
}

// run brings everything up and keeps it so until the supervisor says stop.
func (w *worker) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	order, err := w.conn.Receive()
	if err != nil || order.Plan == nil {
		return errors.Join(errors.New("no plan came from the supervisor"), err)
	}
	w.plan = *order.Plan
	go w.listen(stop)

	up := make(chan error, 1)
	go func() { up <- w.bringUp(ctx) }()
	for {
		select {
		case err = <-up:
			if err == nil {
				up = nil
				err = w.conn.Send(control.Report{Ready: true})
			}
		case err = <-w.failed:
		case <-ctx.Done():
			w.waitForParts()
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// waitForParts gives the node agent time to end its pods.
func (w *worker) waitForParts() {
	done := make(chan struct{})
	go func() {
		w.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-w.clock.After(stopTimeout):
		w.log.Warn("some parts did not end in time")
	}
}

// listen takes orders until the supervisor says stop or is gone.
func (w *worker) listen(stop func()) {
	defer stop()
	for {
		order, err := w.conn.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				w.log.Error("orders of the supervisor", "error", err)
			}
			return
		}
		if order.Stop {
			return
		}
		if order.Component != nil {
			w.arrive(*order.Component)
		}
	}
}

// arrive notes a component and gives its programs a place that is known from
// the start, for images.
func (w *worker) arrive(c control.Component) {
	if c.Error != "" {
		w.log.Error("component is missing", "component", c.Name, "error", c.Error)
		// Whoever needs it fails; if that is a pod, its owner is told here.
		_ = w.conn.Send(control.Report{Status: c.Error})
	}
	for name, path := range c.Programs {
		link := w.programLink(c.Name, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(path, link)); err != nil {
			w.fail(fmt.Errorf("component %s: %w", c.Name, err))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.components[c.Name] = c
	close(w.arrived)
	w.arrived = make(chan struct{})
}

// programLink is the path of a program of a component, once it has arrived.
func (w *worker) programLink(component, program string) string {
	return filepath.Join(w.dir.Sub("programs"), component, program)
}

// component waits until the component is there and returns the paths of its programs.
func (w *worker) component(ctx context.Context, name string) (map[string]string, error) {
	for {
		w.mu.Lock()
		c, ok := w.components[name]
		arrived := w.arrived
		w.mu.Unlock()
		switch {
		case ok && c.Error != "":
			return nil, errors.New(c.Error)
		case ok:
			return c.Programs, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// bringUp starts everything and returns when it is ready.
func (w *worker) bringUp(ctx context.Context) error {
	programs, err := w.component(ctx, controlPlane)
	if err != nil {
		return err
	}
	// The API outlives ctx: the node agent needs it for an orderly end. It ends with
	// this process, as everything in this PID namespace.
	w.cluster, err = cluster.Start(context.WithoutCancel(ctx), cluster.Config{
		Dir: string(w.dir), Programs: programs, NodeIP: netns.NodeIP,
		ServiceCIDR: netns.ServiceCIDR, PodCIDR: netns.PodCIDR, Clock: w.clock, Log: w.log,
	})
	if err != nil {
		return err
	}
	w.keep(func() error {
		select {
		case err := <-w.cluster.Failed():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	if err := w.expose(ctx, "apiserver", net.JoinHostPort(netns.NodeIP, strconv.Itoa(cluster.SecurePort))); err != nil {
		return err
	}
	if err := w.link("kubectl", programs["kubectl"]); err != nil {
		return err
	}
	if err := w.startNode(ctx); err != nil {
		return err
	}
	if err := w.startFeatures(ctx); err != nil {
		return err
	}
	listener, err := remote.Listen(w.dir.ControlSocket())
	if err != nil {
		return err
	}
	server := &remote.Server{Env: w.environment, Log: w.log}
	w.keep(func() error { return server.Serve(ctx, listener) })
	return nil
}

// startFeatures starts all features of the plan and waits until they are ready.
func (w *worker) startFeatures(ctx context.Context) error {
	found, err := findFeatures(w.plan.Features)
	if err != nil {
		return err
	}
	// The context of the group ends with it, but features go on running.
	group := errgroup.Group{}
	for _, f := range found {
		group.Go(func() error {
			if err := f.start(ctx, w); err != nil {
				return fmt.Errorf("feature %s: %w", f.name, err)
			}
			_ = w.conn.Send(control.Report{Status: f.name + " is ready"})
			return nil
		})
	}
	return group.Wait()
}

// keep runs a part of the testbed that is to go on; its error is that of all.
func (w *worker) keep(part func() error) {
	w.running.Go(func() {
		if err := part(); err != nil {
			w.fail(err)
		}
	})
}

func (w *worker) fail(err error) {
	select {
	case w.failed <- err:
	default: // Only the first failure is the cause.
	}
}

// watch makes an unasked end of the process the end of the testbed.
func (w *worker) watch(p *proc.Process) {
	go func() {
		<-p.Done()
		if err := p.Err(); err != nil {
			w.fail(err)
		}
	}()
}

// expose makes a TCP address reachable from outside by a socket in the state folder.
func (w *worker) expose(ctx context.Context, name, address string) error {
	listener, err := remote.Listen(w.dir.Socket(name))
	if err != nil {
		return err
	}
	w.keep(func() error { return remote.Forward(ctx, listener, address) })
	return nil
}

// link puts a program on the PATH of commands run inside.
func (w *worker) link(name, path string) error {
	if err := os.MkdirAll(w.dir.Bin(), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := os.Symlink(path, filepath.Join(w.dir.Bin(), name)); err != nil {
		return fmt.Errorf("link program %s: %w", name, err)
	}
	return nil
}

// environment is what commands inside see: their caller's environment with our
// cluster and programs.
func (w *worker) environment(callers []string) []string {
	path := w.dir.Bin()
	var env []string
	for _, v := range callers {
		name, value, _ := strings.Cut(v, "=")
		switch name {
		case "PATH":
			path += string(filepath.ListSeparator) + value
		case "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
			"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY":
			// A cluster or proxy outside cannot be reached from here.
		default:
			env = append(env, v)
		}
	}
	return append(env,
		"PATH="+path,
		"KUBECONFIG="+w.cluster.AdminKubeconfig(),
		"TESTBED_NAME="+w.plan.Name,
		"TESTBED_STATE="+string(w.dir),
	)
}
