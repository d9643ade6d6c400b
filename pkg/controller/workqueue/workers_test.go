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
func work(q *Queue, n int, pass func(ctx context.Context, w *Workers, key string)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := NewWorkers(q, n)
	var wait sync.WaitGroup
	wait.Go(func() { w.Run(ctx, func(ctx context.Context, key string) { pass(ctx, w, key) }) })
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
		stop := work(q, 2, func(_ context.Context, _ *Workers, key string) {
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

func TestOneThatWaitsHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, answer := NewQueue(clock.RealClock{}), make(chan struct{})
		var mu sync.Mutex
		var done []string
		stop := work(q, 1, func(_ context.Context, w *Workers, key string) {
			if key == "waits" {
				w.Without(func() { <-answer })
			}
			mu.Lock()
			defer mu.Unlock()
			done = append(done, key)
		})
		q.Add("waits")
		q.Add("other")
		synctest.Wait()
		if fmt.Sprint(done) != "[other]" || q.Idle() {
			t.Errorf("done %v, idle: %v", done, q.Idle())
		}
		close(answer)
		synctest.Wait()
		if fmt.Sprint(done) != "[other waits]" {
			t.Errorf("done %v", done)
		}
		stop()
	})
}

// Whoever stops the workers may close what the passes use as soon as Run has returned.
func TestRunWaitsForThePassesAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ended := NewQueue(clock.RealClock{}), 0
		stop := work(q, 2, func(ctx context.Context, w *Workers, _ string) {
			w.Without(func() { <-ctx.Done() })
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
