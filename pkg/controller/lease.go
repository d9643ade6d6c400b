package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/kube"
)

// LeaseName is the name of the Lease, shared with Flagger so that the two never act at the same time.
const LeaseName = "flagger-leader-election"

// ErrLeaseLost is returned when another process may have become the leader. Whoever gets it has to exit.
var ErrLeaseLost = errors.New("the leader lease was lost")

// Lease is the permission to act. One process has it at a time.
type Lease struct {
	// Client must not share a rate limiter with anything else: a lease that is renewed late is lost.
	Client kube.Leases
	// Namespace holds the Lease.
	Namespace string
	// Identity is this process's.
	Identity string
	// Duration is how long others wait for a renewal, RenewDeadline how long this process tries to renew before it gives
	// up, RetryPeriod the pause between two tries.
	Duration, RenewDeadline, RetryPeriod time.Duration
	Clock                                clock.Clock
	// Failed is told why the lease can be neither had nor renewed, once as long as the reason is the same. That another process has it is
	// none.
	Failed func(error)
}

// Hold waits for the lease and calls lead while it is held. The context of lead ends when ctx ends or the lease is lost, and has a Fence
// that is closed when the renew deadline has passed without a renewal.
// The lease is released only after lead has returned, so that no other process acts before this one has stopped. The
// error is nil if ctx ended, ErrLeaseLost if the lease was lost, and that of lead if it returned by itself.
func (l *Lease) Hold(ctx context.Context, lead func(context.Context) error) error {
	if l.Duration <= l.RenewDeadline || l.RenewDeadline <= l.RetryPeriod {
		return fmt.Errorf("lease %s/%s: the duration %s has to be longer than the renew deadline %s, and that longer than the retry period %s",
			l.Namespace, LeaseName, l.Duration, l.RenewDeadline, l.RetryPeriod)
	}
	e := &election{Lease: l, fence: fence.New(l.RenewDeadline, l.Clock)}
	// The lease is kept while lead comes to its end, so what is done for it outlives ctx.
	outer := context.WithoutCancel(ctx)
	if !e.acquire(ctx) {
		return nil
	}
	if ctx.Err() != nil {
		e.release(outer)
		return nil
	}
	leading, stop := context.WithCancel(fence.With(outer, e.fence))
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	ended := make(chan error, 1)
	go func() { ended <- lead(leading) }()
	err, held := e.keep(outer, ended)
	if held {
		e.release(outer)
		return err
	}
	e.fence.Close()
	stop()
	err = l.wait(ended)
	if ctx.Err() != nil {
		return err
	}
	return ErrLeaseLost
}

// wait lets lead come to its end after the lease was lost. Others may act once it has run out, so lead has less time than is left
// until then.
func (l *Lease) wait(ended <-chan error) error {
	grace := l.Clock.NewTimer((l.Duration - l.RenewDeadline) / 2)
	defer grace.Stop()
	select {
	case err := <-ended:
		return err
	case <-grace.C():
		return errors.New("work in progress did not stop in time")
	}
}
