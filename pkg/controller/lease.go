package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
)

// LeaseName is the name of the Lease, shared with Flagger so that the two never act at the same time.
const LeaseName = "flagger-leader-election"

// ErrLeaseLost is returned when another process may have become the leader. Whoever gets it has to exit.
var ErrLeaseLost = errors.New("the leader lease was lost")

// Lease is the permission to act. One process has it at a time.
type Lease struct {
	// Client must not share a rate limiter with anything else: a lease that is renewed late is lost.
	Client coordinationv1.LeasesGetter
	// Namespace holds the Lease.
	Namespace string
	// Identity is this process's.
	Identity string
	// Duration is how long others wait for a renewal, RenewDeadline how long this process tries to renew before it gives
	// up, RetryPeriod the pause between two tries.
	Duration, RenewDeadline, RetryPeriod time.Duration
	Clock                                clock.Clock
}

// Whether the work of a lease has begun. What was forgone never begins.
const (
	workPending int32 = iota
	workBegun
	workForgone
)

// Hold waits for the lease and calls lead while it is held. The context of lead ends when ctx ends or the lease is lost.
// The lease is released only after lead has returned, so that no other process acts before this one has stopped. The
// error is nil if ctx ended, ErrLeaseLost if the lease was lost.
func (l *Lease) Hold(ctx context.Context, lead func(context.Context) error) error {
	// The election outlives ctx: it keeps the lease while lead comes to its end.
	election, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	// The election starts the work in a goroutine, which may come to run when all is over already.
	var work atomic.Int32
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: LeaseName, Namespace: l.Namespace},
			Client:     l.Client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
		},
		LeaseDuration:   l.Duration,
		RenewDeadline:   l.RenewDeadline,
		RetryPeriod:     l.RetryPeriod,
		ReleaseOnCancel: true,
		Name:            LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				if !work.CompareAndSwap(workPending, workBegun) {
					return
				}
				leading, stop := context.WithCancel(held)
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				ended <- lead(leading)
				if held.Err() == nil {
					release()
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("lease %s/%s: %w", l.Namespace, LeaseName, err)
	}
	// A process that stops while it only waits for the lease has nothing to bring to its end.
	defer context.AfterFunc(ctx, func() {
		if work.CompareAndSwap(workPending, workForgone) {
			release()
		}
	})()
	elector.Run(election)
	lost := election.Err() == nil && ctx.Err() == nil
	if !work.CompareAndSwap(workPending, workForgone) && work.Load() == workBegun {
		err = l.wait(ended)
	}
	if lost {
		return ErrLeaseLost
	}
	return err
}

// wait lets lead come to its end after the election is over. Others may act once the lease has run out, so lead has less
// time than is left until then.
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
