package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxIdle is more connections than requests are ever under way at once, so
// that the kept ones are really kept.
const maxIdle = 4096

// maxBody bounds what is read of an answer, in bytes.
const maxBody = 1 << 20

// newClient returns a client that follows no redirects and uses no proxy of
// the environment: what is measured is the answer of the server at the URL.
func newClient(c Config, fresh bool) *http.Client {
	return &http.Client{
		Timeout: c.Timeout,
		Transport: &http.Transport{
			DisableKeepAlives:   fresh,
			MaxIdleConns:        maxIdle,
			MaxIdleConnsPerHost: maxIdle,
			IdleConnTimeout:     90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send makes one request and records its outcome.
func (g *Generator) send(ctx context.Context, client *http.Client, due time.Time, fresh bool) {
	g.record.sent(due)
	o := g.request(ctx, client)
	o.due, o.fresh = due, fresh
	o.latency = g.cfg.Clock.Since(due)
	g.record.add(o)
}

// outcome is what became of a request. An error means there was no answer.
type outcome struct {
	due     time.Time
	latency time.Duration
	status  int
	origin  Origin
	err     string
	fresh   bool
	// resent says that the HTTP client found its connection closed by the
	// server and repeated the request on another, as the protocol allows.
	resent bool
}

func (g *Generator) request(ctx context.Context, client *http.Client) outcome {
	var connections atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connections.Add(1) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.cfg.URL, nil)
	if err != nil {
		return outcome{err: err.Error()}
	}
	req.Host = g.cfg.Host
	req.Header.Set("User-Agent", "testbed-load")
	resp, err := client.Do(req)
	if err != nil {
		return outcome{err: reason(err), resent: connections.Load() > 1}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		err = fmt.Errorf("%w: %w", errNoAnswer, err)
		return outcome{err: reason(err), resent: connections.Load() > 1}
	}
	return outcome{
		status: resp.StatusCode,
		origin: g.cfg.Identify(resp.Header, body),
		resent: connections.Load() > 1,
	}
}

// reason is a short description that is the same for errors of one kind:
// messages of net contain port numbers, which would make each unique.
func reason(err error) string {
	var timeout net.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &dns):
		return "name not resolved: " + dns.Name
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed before the answer"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
