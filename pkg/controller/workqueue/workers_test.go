package workqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"k8s.io/utils/clock"
)

// work runs workers until stop, which returns when they have ended.
func work(q *Queue, n int, pass func(ctx context.Context, key string)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := NewWorkers(q, n)
	var wait sync.WaitGroup
	wait.Go(func() { w.Run(ctx, pass) })
	return func() {
		cancel()
		wait.Wait()
	}
}

func TestWorkersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := NewQueue(clock.RealClock{}), make(chan struct{})
		var mu sync.Mutex
		var begun []string
		stop := work(q, 2, func(_ context.Context, key string) {
			mu.Lock()
			begun = append(begun, key)
			mu.Unlock()
			<-release
		})
		for i := range 5 {
			q.Add(fmt.Sprint(i))
		}
		synctest.Wait()
		if len(begun) != 2 || q.Idle() {
			t.Errorf("%d passes at work, idle: %v", len(begun), q.Idle())
		}
		close(release)
		synctest.Wait()
		if len(begun) != 5 || !q.Idle() {
			t.Errorf("%d passes in the end, idle: %v", len(begun), q.Idle())
		}
		stop()
	})
}

// Whoever stops the workers may close what the passes use as soon as Run has returned.
func TestRunWaitsForThePassesAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ended := NewQueue(clock.RealClock{}), 0
		stop := work(q, 2, func(ctx context.Context, _ string) {
			<-ctx.Done()
			ended++
		})
		q.Add("a")
		synctest.Wait()
		stop()
		if ended != 1 {
			t.Error("Run returned before a pass had")
		}
	})
}

func TestGuardKeepsAPanic(t *testing.T) {
	var panicked *PanicError
	err := Guard(func() error { panic("oh") })
	if !errors.As(err, &panicked) || panicked.Value != "oh" || len(panicked.Stack) == 0 {
		t.Errorf("got %v", err)
	}
	if err := Guard(func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := Guard(func() error { return nil }); err != nil {
		t.Errorf("got %v", err)
	}
}
