package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
)

// newLease returns a lease that a busy machine does not lose.
func newLease(client *kubefake.Clientset, identity string) *Lease {
	return &Lease{
		Client: client.CoordinationV1(), Namespace: "flagger-system", Identity: identity,
		Duration: 2 * time.Minute, RenewDeadline: time.Minute, RetryPeriod: 50 * time.Millisecond,
		Clock: clock.RealClock{},
	}
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
