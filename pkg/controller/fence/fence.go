// Package fence keeps a process from writing that others may have replaced. A lease is lost while a process stands still, as under
// SIGSTOP, on a machine that is suspended, or for want of CPU, and a write that it was about to send goes out when it runs again, before
// anything has told it. So each write is looked at when its first byte is about to leave, and not sent unless the lease was renewed
// shortly before.
//
//	lease ──Renewed, Close──► Fence ──With──► context of the work ──► Transport of its clients
package fence

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// Fence is open for as long after the last renewal of a lease as its holder may work without another. It is safe for concurrent use.
type Fence struct {
	limit   time.Duration
	clock   clock.PassiveClock
	renewed atomic.Pointer[time.Time]
}

// New returns a Fence that is closed until the first renewal, and again when limit has passed since the last one.
func New(limit time.Duration, c clock.PassiveClock) *Fence { return &Fence{limit: limit, clock: c} }

// Renewed opens it. The time is when the renewal began, by the clock of the Fence.
func (f *Fence) Renewed(began time.Time) { f.renewed.Store(&began) }

// Close closes it, until a renewal.
func (f *Fence) Close() { f.renewed.Store(nil) }

// Check returns nil while it is open, and a ClosedError when not.
func (f *Fence) Check() error {
	began := f.renewed.Load()
	if began == nil {
		return ClosedError{}
	}
	// The monotonic clock stands still while the machine is suspended, and the wall clock may be set: what either says counts.
	passed := max(f.clock.Since(*began), f.clock.Now().Round(0).Sub(began.Round(0)))
	if passed >= f.limit {
		return ClosedError{Passed: passed, Limit: f.limit}
	}
	return nil
}

// ClosedError is why a write was not sent. It had no effect.
type ClosedError struct {
	// Passed is the time since the last renewal, and Limit the one in which writes are sent. Both are 0 where the lease is not held.
	Passed, Limit time.Duration
}

func (e ClosedError) Error() string {
	if e.Limit == 0 {
		return "not sent: this process does not hold the lease any more, and another one may act in its place"
	}
	return fmt.Sprintf("not sent: the lease was renewed last %s ago, and after %s without a renewal another process may act in place of this one",
		e.Passed.Round(time.Millisecond), e.Limit)
}

// key is that of a Fence in a context.
type key struct{}

// With returns the context of work that writes only while a Fence is open.
func With(ctx context.Context, f *Fence) context.Context { return context.WithValue(ctx, key{}, f) }

// Check returns nil where the work of a context may write now: its Fence is open, or it has none.
func Check(ctx context.Context) error {
	if f, ok := ctx.Value(key{}).(*Fence); ok {
		return f.Check()
	}
	return nil
}
