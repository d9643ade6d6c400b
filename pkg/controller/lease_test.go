package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/kube/kubetest"
)

// newLease returns a lease that a busy machine does not lose.
func newLease(client *kubefake.Clientset, identity string) *Lease {
	return &Lease{
		Client: kubetest.Client{Interface: client}, Namespace: "flagger-system", Identity: identity,
		Duration: 2 * time.Minute, RenewDeadline: time.Minute, RetryPeriod: 50 * time.Millisecond,
		Clock: clock.RealClock{}, Failed: func(error) {},
	}
}

// Whoever may not read the lease waits, and says why, once.
func TestLeaseThatCannotBeHadIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, began := kubefake.NewClientset(), time.Now()
		client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return time.Since(began) < time.Minute, nil, apierrors.NewForbidden(coordinationv1.Resource("leases"), LeaseName, errors.New("no role"))
		})
		lease := newLease(client, "a")
		var told []error
		lease.Failed = func(err error) { told = append(told, err) }
		if err := lease.Hold(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if len(told) != 1 || !apierrors.IsForbidden(told[0]) {
			t.Errorf("told of %v, want once that it is forbidden", told)
		}
	})
}

func holder(t *testing.T, client *kubefake.Clientset) string {
	t.Helper()
	lease, err := client.CoordinationV1().Leases("flagger-system").Get(context.Background(), "flagger-leader-election", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// C-02: the lease is released only after the work has stopped, so that two processes never act at a time.
func TestC02_LeaseIsReleasedAfterTheWork(t *testing.T) {
	synctest.Test(t, testC02_LeaseIsReleasedAfterTheWork)
}

func testC02_LeaseIsReleasedAfterTheWork(t *testing.T) {
	client := kubefake.NewClientset()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	began, canceled, finish := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		ended <- newLease(client, "a").Hold(ctx, func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			close(canceled)
			<-finish
			return nil
		})
	}()
	<-began
	stop()
	<-canceled
	if got := holder(t, client); got != "a" {
		t.Errorf("the lease is held by %q while work is in progress", got)
	}
	close(finish)
	// C-03: a normal stop is no error.
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := holder(t, client); got != "" {
		t.Errorf("the lease is still held by %q", got)
	}
}

// C-02: a process that is stopped at the very moment it gets the lease either works with the lease or not at all.
func TestC02_NoWorkBeginsAfterTheEnd(t *testing.T) { synctest.Test(t, testC02_NoWorkBeginsAfterTheEnd) }

func testC02_NoWorkBeginsAfterTheEnd(t *testing.T) {
	for range 50 {
		client := kubefake.NewClientset()
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		var over atomic.Bool
		go func() {
			err := newLease(client, "a").Hold(ctx, func(ctx context.Context) error {
				if over.Load() || holder(t, client) != "a" {
					t.Error("work without the lease")
				}
				<-ctx.Done()
				if holder(t, client) != "a" {
					t.Error("the lease was given away during the work")
				}
				return nil
			})
			over.Store(true)
			ended <- err
		}()
		eventually(t, "the lease", func() bool { return holder(t, client) == "a" })
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

func TestC02_LostLeaseCancelsTheWork(t *testing.T) { synctest.Test(t, testC02_LostLeaseCancelsTheWork) }

func testC02_LostLeaseCancelsTheWork(t *testing.T) {
	client := kubefake.NewClientset()
	var broken atomic.Bool
	client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return broken.Load(), nil, errors.New("etcd is away")
	})
	worked := false
	lease := newLease(client, "a")
	lease.Duration, lease.RenewDeadline = 2*time.Second, 500*time.Millisecond
	err := lease.Hold(context.Background(), func(ctx context.Context) error {
		broken.Store(true)
		<-ctx.Done()
		worked = true
		return nil
	})
	if !errors.Is(err, ErrLeaseLost) || !worked {
		t.Errorf("got %v, work came to its end: %t", err, worked)
	}
}

// C-02: where nothing tells the work that its time is over, since a renewal stands still, it can't write any more.
func TestC02_WorkIsFencedByRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, began := kubefake.NewClientset(), time.Now()
		client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			if time.Since(began) >= 10*time.Second {
				time.Sleep(10 * time.Minute)
			}
			return false, nil, nil
		})
		err := newLease(client, "a").Hold(context.Background(), func(ctx context.Context) error {
			for _, at := range []time.Duration{0, 30 * time.Second, 69 * time.Second, 70 * time.Second, time.Hour} {
				time.Sleep(at - time.Since(began))
				// The last renewal began just before the tenth second.
				if err, open := fence.Check(ctx), at < 70*time.Second; (err == nil) != open {
					t.Errorf("after %s: %v", at, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// C-02: a lease that somebody else has is lost however shortly ago it was renewed.
func TestC02_WorkIsFencedByTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := kubefake.NewClientset()
		var taken atomic.Bool
		client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return taken.Load(), nil, apierrors.NewConflict(coordinationv1.Resource("leases"), LeaseName, nil)
		})
		other := coordinationv1.LeaseSpec{HolderIdentity: new("b"), LeaseDurationSeconds: new(int32(60))}
		client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return taken.Load(), &coordinationv1.Lease{Spec: other}, nil
		})
		err := newLease(client, "a").Hold(context.Background(), func(ctx context.Context) error {
			taken.Store(true)
			<-ctx.Done()
			if fence.Check(ctx) == nil {
				t.Error("the work may write on")
			}
			return nil
		})
		if !errors.Is(err, ErrLeaseLost) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOnlyTheHolderWorks(t *testing.T) { synctest.Test(t, testOnlyTheHolderWorks) }

func testOnlyTheHolderWorks(t *testing.T) {
	client := kubefake.NewClientset()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	first := make(chan error)
	go func() {
		first <- newLease(client, "a").Hold(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
	}()
	eventually(t, "the lease", func() bool { return holder(t, client) == "a" })
	other, stopOther := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stopOther()
	err := newLease(client, "b").Hold(other, func(context.Context) error {
		t.Error("two processes work")
		return nil
	})
	if err != nil {
		t.Errorf("a process that stops while it waits: %v", err)
	}
	stop()
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestWorkThatFailsIsReported(t *testing.T) { synctest.Test(t, testWorkThatFailsIsReported) }

func testWorkThatFailsIsReported(t *testing.T) {
	client := kubefake.NewClientset()
	broken := errors.New("broken")
	if err := newLease(client, "a").Hold(context.Background(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// A process that is gone without a word leaves a lease that nobody renews.
func TestLeaseThatIsNotRenewedIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, began := kubefake.NewClientset(), time.Now()
		gone := &election{Lease: newLease(client, "gone"), fence: fence.New(time.Minute, clock.RealClock{})}
		if err := gone.try(context.Background()); err != nil {
			t.Fatal(err)
		}
		next := newLease(client, "b")
		next.RetryPeriod = 5 * time.Second
		err := next.Hold(context.Background(), func(context.Context) error {
			if waited := time.Since(began); waited < 2*time.Minute || waited > 3*time.Minute {
				t.Errorf("the lease was taken after %s", waited)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A write of somebody else, as of an annotation, is no reason to lose the lease.
func TestLeaseOutlivesForeignWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := kubefake.NewClientset()
		var conflicts atomic.Int32
		client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return conflicts.Add(-1) >= 0, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), LeaseName, nil)
		})
		lease := newLease(client, "a")
		lease.Duration, lease.RenewDeadline = 2*time.Second, 500*time.Millisecond
		err := lease.Hold(context.Background(), func(ctx context.Context) error {
			conflicts.Store(1)
			time.Sleep(5 * time.Second)
			return ctx.Err()
		})
		if err != nil || conflicts.Load() >= 0 {
			t.Errorf("%v, conflicts left %d", err, conflicts.Load())
		}
	})
}

// Flagger uses the election of client-go on the same Lease. During a migration both may run.
func TestLeaseIsThatOfFlagger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := kubefake.NewClientset()
		var leads atomic.Bool
		flagger := func(ctx context.Context) {
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
				Lock: &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Name: LeaseName, Namespace: "flagger-system"},
					Client:    client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: "flagger"},
				},
				LeaseDuration: time.Minute, RenewDeadline: 15 * time.Second, RetryPeriod: 5 * time.Second, ReleaseOnCancel: true,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(ctx context.Context) {
						leads.Store(true)
						<-ctx.Done()
						leads.Store(false)
					},
					OnStoppedLeading: func() {},
				},
			})
		}
		first, stopFirst := context.WithCancel(context.Background())
		go flagger(first)
		for !leads.Load() {
			time.Sleep(time.Second)
		}
		time.AfterFunc(2*time.Minute, stopFirst)
		ours := newLease(client, "ours")
		ours.Duration, ours.RenewDeadline, ours.RetryPeriod = time.Minute, 15*time.Second, 5*time.Second
		err := ours.Hold(context.Background(), func(ctx context.Context) error {
			second, stop := context.WithTimeout(context.Background(), 2*time.Minute)
			defer stop()
			go flagger(second)
			<-second.Done()
			if leads.Load() {
				t.Error("both act")
			}
			return ctx.Err()
		})
		if err != nil || first.Err() == nil {
			t.Errorf("the lease of ours: %v; that of Flagger: %v", err, first.Err())
		}
		third, stop := context.WithCancel(context.Background())
		go flagger(third)
		for !leads.Load() {
			time.Sleep(time.Second)
		}
		stop()
		synctest.Wait()
	})
}
