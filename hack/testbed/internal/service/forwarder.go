package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// dialTimeout bounds the wait for a backend, whose node may be gone.
const dialTimeout = 5 * time.Second

// forwarder listens on one Service port and leads every connection to a
// backend. A change of backends concerns new connections only; those that are
// established live until one of their ends closes them, also when the
// forwarder itself is closed.
type forwarder struct {
	listener net.Listener
	log      *slog.Logger
	clock    clock.PassiveClock

	mu     sync.Mutex
	target servicePort
	next   int
	sticky map[string]stickyBackend
}

type stickyBackend struct {
	address string
	until   time.Time
}

func listen(key portKey, target servicePort, clk clock.PassiveClock, log *slog.Logger) (*forwarder, error) {
	listener, err := net.Listen("tcp4", key.String())
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", target.name, err)
	}
	f := &forwarder{listener: listener, log: log, clock: clk, target: target, sticky: map[string]stickyBackend{}}
	go f.accept()
	return f, nil
}

// close ends the listening, not the connections.
func (f *forwarder) close() { _ = f.listener.Close() }

func (f *forwarder) setTarget(target servicePort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
}

func (f *forwarder) accept() {
	for {
		conn, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// One connection that could not be accepted (too many open
			// files, aborted by the client) is no reason to stop.
			f.log.Warn("connection to Service not accepted", "err", err)
			continue
		}
		go f.forward(conn.(*net.TCPConn))
	}
}

// pick chooses the backend of a new connection, taking turns.
func (f *forwarder) pick(client string) (address, service string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	backends := f.target.backends
	if len(backends) == 0 {
		return "", f.target.name, false
	}
	if f.target.affinity <= 0 {
		f.next++
		return backends[f.next%len(backends)], f.target.name, true
	}
	now := f.clock.Now()
	choice, known := f.sticky[client]
	if !known || now.After(choice.until) || !slices.Contains(backends, choice.address) {
		f.next++
		choice.address = backends[f.next%len(backends)]
	}
	choice.until = now.Add(time.Duration(f.target.affinity) * time.Second)
	f.sticky[client] = choice
	return choice.address, f.target.name, true
}

// forward serves one connection. A backend that refuses is not replaced by
// another: kube-proxy would not do so either, and a test must not see a
// cluster that is kinder than a real one.
func (f *forwarder) forward(client *net.TCPConn) {
	host, _, _ := net.SplitHostPort(client.RemoteAddr().String())
	address, service, ok := f.pick(host)
	if !ok {
		f.log.Debug("Service has no ready endpoint", "service", service)
		reset(client)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", address)
	if err != nil {
		f.log.Info("endpoint did not accept a connection", "service", service, "endpoint", address, "err", err)
		reset(client)
		return
	}
	relay(client, conn.(*net.TCPConn))
}

// relay copies both ways. The end of one direction is passed on while the
// other goes on; a broken connection breaks the other one too.
func relay(a, b *net.TCPConn) {
	defer a.Close()
	defer b.Close()
	var both sync.WaitGroup
	pass := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			reset(to)
			reset(from)
			return
		}
		_ = to.CloseWrite()
	}
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
}

// reset closes a connection such that the peer sees it was not done in order.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
