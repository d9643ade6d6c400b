// Package load makes HTTP requests at a fixed rate and says what became of
// each of them.
//
// It is open-loop: a request starts when it is due, whatever happened to the
// ones before it, and its latency counts from the moment it was due. A gateway
// that hangs for a second therefore shows as a second of slow requests, not as
// a pause in the traffic (the coordinated omission of generators that wait for
// an answer before they go on).
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Defaults of [Config].
const (
	DefaultRate    = 100
	DefaultTimeout = 10 * time.Second
	DefaultFresh   = 0.25
)

// Config says what to send.
type Config struct {
	// URL is what is requested, by GET. Required.
	URL string
	// Host is the Host header; empty means that of the URL.
	Host string
	// Rate is in requests per second; 0 means DefaultRate.
	Rate float64
	// Timeout is how long an answer may take before the request counts as
	// lost; 0 means DefaultTimeout.
	Timeout time.Duration
	// Fresh is the part of the requests, from 0 to 1, that open a connection
	// of their own and close it; the others share connections that are kept.
	// Negative means none, 0 means DefaultFresh.
	Fresh float64
	// Faulty are the versions that are meant to fail: their own 5xx answers
	// are not counted as lost.
	Faulty []string
	// Identify tells from an answer who gave it; nil means [PodinfoOrigin].
	Identify func(header http.Header, body []byte) Origin
	// Clock defaults to the real one.
	Clock clock.Clock
}

// Origin is who gave an answer. Both fields are empty if it was not the
// application, but for example the gateway.
type Origin struct {
	Version, Pod string
}

// PodinfoOrigin reads the fields version and hostname of a JSON body, which
// podinfo sends at / and /api/info.
func PodinfoOrigin(_ http.Header, body []byte) Origin {
	var info struct{ Version, Hostname string }
	if json.Unmarshal(body, &info) != nil {
		return Origin{}
	}
	return Origin{Version: info.Version, Pod: info.Hostname}
}

func (c Config) withDefaults() (Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return c, fmt.Errorf("load: URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return c, fmt.Errorf("load: URL %q: give one like http://10.96.0.20/", c.URL)
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.Rate < 0 {
		return c, fmt.Errorf("load: rate %g: it must be above 0", c.Rate)
	}
	if c.Fresh == 0 {
		c.Fresh = DefaultFresh
	}
	if c.Fresh > 1 {
		return c, fmt.Errorf("load: part of fresh connections %g: it must be at most 1", c.Fresh)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Identify == nil {
		c.Identify = PodinfoOrigin
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return c, nil
}

// Generator sends requests and remembers the outcome of each, in 40 bytes.
type Generator struct {
	cfg         Config
	kept, fresh *http.Client
	record      *record
}

// New returns a generator that does not send yet.
func New(c Config) (*Generator, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Generator{cfg: c, kept: newClient(c, false), fresh: newClient(c, true), record: newRecord(c)}, nil
}

// Run sends until ctx ends, then waits for the answers still under way, which
// takes at most the timeout of a request. It must be called once only.
func (g *Generator) Run(ctx context.Context) {
	var underway sync.WaitGroup
	begin := g.cfg.Clock.Now()
	g.record.start(begin)
	// Answers are waited for after ctx ends: a request that was sent counts.
	requests := context.WithoutCancel(ctx)
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(float64(n) / g.cfg.Rate * float64(time.Second)))
		if !g.waitUntil(ctx, due) {
			break
		}
		client, fresh := g.kept, g.isFresh(n)
		if fresh {
			client = g.fresh
		}
		underway.Go(func() { g.send(requests, client, due, fresh) })
	}
	underway.Wait()
	g.kept.CloseIdleConnections()
}

// waitUntil returns false if ctx ends first. When behind, it returns at once,
// so that the rate holds on average.
func (g *Generator) waitUntil(ctx context.Context, due time.Time) bool {
	wait := due.Sub(g.cfg.Clock.Now())
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := g.cfg.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// isFresh spreads the requests with connections of their own evenly.
func (g *Generator) isFresh(n int) bool {
	part := max(0, g.cfg.Fresh)
	return int(float64(n+1)*part) > int(float64(n)*part)
}

// Window returns what became of the requests that were due from one time to
// before another; those not answered yet are in Pending only.
func (g *Generator) Window(from, to time.Time) Window { return g.record.window(from, to) }

// Total returns what became of all requests so far.
func (g *Generator) Total() Window { return g.record.window(time.Time{}, g.cfg.Clock.Now()) }

// errNoAnswer is wrapped if the connection ended before the answer did.
var errNoAnswer = errors.New("no whole answer")
