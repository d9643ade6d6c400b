package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"flagger.app/flagger/pkg/controller/fence"
)

// election is the part of one process in the competition for a Lease. It writes what the elections of client-go write, so that
// Flagger, which uses those, and this operator respect each other's.
type election struct {
	*Lease
	// seen is what the Lease said when it last changed, at when this process saw that. The times in it are by clocks of others.
	seen coordinationv1.LeaseSpec
	at   time.Time
	// renewed is when the last write began that succeeded, and own what it left there, nil where that is not known.
	renewed time.Time
	own     *coordinationv1.Lease
	fence   *fence.Fence
	// said is what Failed was told of last.
	said string
}

// errOther is why a lease can't be had.
var errOther = errors.New("another process has the lease")

// acquire tries until this process has the lease. It is false if ctx ended before.
func (e *election) acquire(ctx context.Context) bool {
	for {
		// What stands in the way changes by itself: another process has it, or the API server is away.
		err := e.try(ctx)
		if err == nil {
			return true
		}
		e.complain(err)
		// Processes that began together don't try together.
		timer := e.Clock.NewTimer(e.RetryPeriod + rand.N(e.RetryPeriod))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C():
		}
	}
}

// keep renews the lease until the work has ended, whose error it returns. It is false if the lease was lost before.
func (e *election) keep(ctx context.Context, ended <-chan error) (err error, held bool) { //nolint:staticcheck // the error is of the work
	for {
		timer := e.Clock.NewTimer(min(e.RetryPeriod, max(0, e.left())))
		select {
		case err := <-ended:
			timer.Stop()
			return err, true
		case <-timer.C():
		}
		within, cancel := context.WithTimeout(ctx, max(0, e.left()))
		err := e.try(within)
		cancel()
		e.complain(err)
		if errors.Is(err, errOther) || err != nil && e.left() <= 0 {
			return nil, false
		}
	}
}

// complain tells of a try that failed.
func (e *election) complain(err error) {
	said := ""
	if err != nil && !errors.Is(err, errOther) {
		if said = err.Error(); said != e.said {
			e.Failed(err)
		}
	}
	e.said = said
}

// left is how long this process may work without another renewal.
func (e *election) left() time.Duration { return e.RenewDeadline - e.Clock.Since(e.renewed) }

// try gets the lease or renews it.
func (e *election) try(ctx context.Context) error {
	began := e.Clock.Now()
	lease, own, err := e.read(ctx)
	missing := apierrors.IsNotFound(err)
	switch {
	case missing:
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: LeaseName}}
	case err != nil:
		return e.failed(err)
	}
	if !equality.Semantic.DeepEqual(lease.Spec, e.seen) {
		e.seen, e.at = *lease.Spec.DeepCopy(), began
	}
	if !e.free() {
		return errOther
	}
	e.claim(lease, began)
	if missing {
		lease, err = e.Client.CreateLease(ctx, lease)
	} else {
		lease, err = e.Client.UpdateLease(ctx, lease)
	}
	switch {
	case own && apierrors.IsConflict(err):
		// Somebody else has written it. This time it is read.
		return e.try(ctx)
	case err != nil:
		return e.failed(err)
	}
	e.seen, e.at, e.renewed, e.own = lease.Spec, began, began, lease
	e.fence.Renewed(began)
	return nil
}

// read returns the Lease as this process has left it, where that is known, and as it is now elsewhere. A write on top of what is not
// how it is any more is refused.
func (e *election) read(ctx context.Context) (lease *coordinationv1.Lease, own bool, err error) {
	if lease = e.own; lease != nil {
		e.own = nil
		return lease.DeepCopy(), true, nil
	}
	lease, err = e.Client.GetLease(ctx, e.Namespace, LeaseName)
	return lease, false, err
}

func (e *election) failed(err error) error {
	return fmt.Errorf("lease %s/%s: %w", e.Namespace, LeaseName, err)
}

// free is whether nobody else has the lease. Whoever has it says for how long after its last renewal.
func (e *election) free() bool {
	holder := ptr.Deref(e.seen.HolderIdentity, "")
	lasts := time.Duration(ptr.Deref(e.seen.LeaseDurationSeconds, 0)) * time.Second
	return holder == "" || holder == e.Identity || e.Clock.Since(e.at) >= lasts
}

// claim writes this process into the Lease.
func (e *election) claim(lease *coordinationv1.Lease, now time.Time) {
	spec := &lease.Spec
	if ptr.Deref(spec.HolderIdentity, "") != e.Identity {
		spec.AcquireTime = ptr.To(metav1.NewMicroTime(now))
		if spec.HolderIdentity != nil {
			spec.LeaseTransitions = ptr.To(ptr.Deref(spec.LeaseTransitions, 0) + 1)
		}
	}
	spec.HolderIdentity, spec.RenewTime = ptr.To(e.Identity), ptr.To(metav1.NewMicroTime(now))
	spec.LeaseDurationSeconds = ptr.To(max(1, int32(e.Duration/time.Second)))
}

// release gives the lease up, so that nobody has to wait until it runs out. If that fails, they wait.
func (e *election) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.RenewDeadline)
	defer cancel()
	lease, err := e.Client.GetLease(ctx, e.Namespace, LeaseName)
	if err != nil || ptr.Deref(lease.Spec.HolderIdentity, "") != e.Identity {
		return
	}
	// The elections of client-go take an empty name for nobody, and want a duration nevertheless.
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = ptr.To(""), ptr.To(int32(1))
	lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(e.Clock.Now()))
	_, _ = e.Client.UpdateLease(ctx, lease)
}
