// Package sharing sends queries of many askers to a few servers: identical ones once, and no more than a number at a time to each
// server. It knows nothing of Canaries and back-ends.
//
//	Ask ──► join ──► flight ──► place in the line of its server ──► send
//	          │                                                       │
//	          └── an answer that is young enough, and new to this asker ┘
package sharing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/provider"
)

// Oldest is the age at which no answer is handed out any more, however long ago its asker wants it to be at the most.
const Oldest = 5 * time.Second

// Query is one that is asked.
type Query struct {
	// ID is of all that the answer depends on: the server, what it is asked by, and the text.
	ID [sha256.Size]byte
	// Server is whom Send reaches. All queries with the same one stand in one line.
	Server string
	// Asker gets no answer twice. An empty one may.
	Asker string
	// Age is how long ago a query of somebody else may have been sent whose answer this asker gets. 0 is for a query of its own.
	Age time.Duration
	// Limit is how long Send may take. Time in the line does not count.
	Limit time.Duration
	// Send asks the server. It is canceled when nobody waits for it.
	Send func(context.Context) (float64, error)
}

// Desk takes queries. It is safe for concurrent use and must not be copied. The zero value is of no use: it needs a Clock.
type Desk struct {
	// Clock is what the age of answers is measured by.
	Clock clock.PassiveClock
	// PerServer bounds the queries that are sent to one server at the same time. 0 means no bound.
	PerServer int

	mu      sync.Mutex
	flights map[[sha256.Size]byte]*flight
	lines   map[string]*line
	swept   time.Time
}

// flight is a query that was begun, with its answer once that is there. What follows done belongs to the desk's lock, but for the
// result, which stands when done is closed.
type flight struct {
	id     [sha256.Size]byte
	done   chan struct{}
	cancel context.CancelFunc
	// deadline is that of its first asker, zero for none.
	deadline time.Time

	// sent is zero for one that stands in the line.
	sent    time.Time
	waiting int
	askers  map[string]struct{}

	value    float64
	err      error
	panicked any
}

// line is the queries that want to be sent to one server.
type line struct {
	places chan struct{}
	users  int
}

// Ask returns the answer to the query: that of another asker, if it is under way or was sent no longer than Age ago and has not
// been given to this one, or one of its own. An error is shared by those who wait for it, and by nobody later; no data is no error
// in this sense. It panics where Send did.
func (d *Desk) Ask(ctx context.Context, q Query) (float64, error) {
	f, began := d.join(ctx, q)
	value, err := d.wait(ctx, f)
	if began || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return value, err
	}
	// Whoever came when the query was under way has given it less time than its limit.
	f, _ = d.join(ctx, q)
	return d.wait(ctx, f)
}

// join finds a flight for a query, or begins one.
func (d *Desk) join(ctx context.Context, q Query) (f *flight, began bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.Clock.Now()
	d.sweep(now)
	f = d.flights[q.ID]
	if began = f == nil || !f.serves(q, now); began {
		f = d.begin(ctx, q)
	}
	if q.Asker != "" {
		f.askers[q.Asker] = struct{}{}
	}
	f.waiting++
	return f, began
}

func (f *flight) serves(q Query, now time.Time) bool {
	if _, had := f.askers[q.Asker]; had || q.Age <= 0 {
		return false
	}
	return f.sent.IsZero() || now.Sub(f.sent) < min(q.Age, Oldest)
}

func (d *Desk) begin(ctx context.Context, q Query) *flight {
	f := &flight{id: q.ID, done: make(chan struct{}), askers: map[string]struct{}{}}
	// It outlives its first asker for those who have joined, and keeps its time.
	flying := context.WithoutCancel(ctx)
	var limited bool
	if f.deadline, limited = ctx.Deadline(); limited {
		flying, f.cancel = context.WithDeadline(flying, f.deadline)
	} else {
		flying, f.cancel = context.WithCancel(flying)
	}
	if d.flights == nil {
		d.flights, d.lines = map[[sha256.Size]byte]*flight{}, map[string]*line{}
	}
	d.flights[q.ID] = f
	go d.fly(flying, f, q)
	return f
}

// fly sends the query of a flight when it is its turn, and keeps the answer.
func (d *Desk) fly(ctx context.Context, f *flight, q Query) {
	defer close(f.done)
	defer f.cancel()
	func() {
		defer func() {
			if p := recover(); p != nil {
				f.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		f.value, f.err = d.send(ctx, f, q)
	}()
	if f.panicked == nil && (f.err == nil || errors.Is(f.err, provider.ErrNoValues)) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(f)
}

func (d *Desk) send(ctx context.Context, f *flight, q Query) (float64, error) {
	leave, err := d.queue(ctx, q.Server)
	if err != nil {
		return 0, err
	}
	defer leave()
	d.mu.Lock()
	f.sent = d.Clock.Now()
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, q.Limit)
	defer cancel()
	return q.Send(ctx)
}

// queue waits for a place among the queries that a server is asked at the same time. It is given back by leave.
func (d *Desk) queue(ctx context.Context, server string) (leave func(), err error) {
	if d.PerServer <= 0 {
		return func() {}, nil
	}
	d.mu.Lock()
	l := d.lines[server]
	if l == nil {
		l = &line{places: make(chan struct{}, d.PerServer)}
		d.lines[server] = l
	}
	l.users++
	d.mu.Unlock()
	gone := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(d.lines, server)
		}
	}
	select {
	case l.places <- struct{}{}:
		return func() { <-l.places; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, fmt.Errorf("%d queries to this server are under way, as many as -max-concurrent-queries allows, and none of them came "+
			"to its end in time: %w", d.PerServer, ctx.Err())
	}
}

// wait returns the result of a flight, or why it was not waited for. The last to leave takes the flight along, and sees its end.
func (d *Desk) wait(ctx context.Context, f *flight) (float64, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		if !d.leave(ctx, f) {
			return 0, fmt.Errorf("the query gave no answer in time: %w", ctx.Err())
		}
		<-f.done
		return f.result()
	}
	d.leave(ctx, f)
	return f.result()
}

func (f *flight) result() (float64, error) {
	if f.panicked != nil {
		panic(f.panicked)
	}
	return f.value, f.err
}

// leave counts out one who waited. It reports whether nobody is left, in which case the flight has ended or is told to.
func (d *Desk) leave(ctx context.Context, f *flight) (last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return false
	}
	select {
	case <-f.done:
	default:
		// Nobody may join what is told to end.
		d.drop(f)
		// One whose time is over ends by itself, and says so.
		if deadline, _ := ctx.Deadline(); !errors.Is(ctx.Err(), context.DeadlineExceeded) || !deadline.Equal(f.deadline) {
			f.cancel()
		}
	}
	return true
}

// drop forgets a flight, unless another one has taken its place.
func (d *Desk) drop(f *flight) {
	if d.flights[f.id] == f {
		delete(d.flights, f.id)
	}
}

// sweep forgets answers that are too old for anybody.
func (d *Desk) sweep(now time.Time) {
	if now.Sub(d.swept) < Oldest {
		return
	}
	d.swept = now
	for id, f := range d.flights {
		if f.waiting == 0 && now.Sub(f.sent) >= Oldest {
			delete(d.flights, id)
		}
	}
}
