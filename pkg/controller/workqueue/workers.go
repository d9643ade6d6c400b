package workqueue

import (
	"context"
	"sync"
)

// Workers take keys out of a queue and run their passes.
type Workers struct {
	queue *Queue
	slots chan struct{}
}

// NewWorkers returns as many workers as given, one at the least. They do nothing before Run.
func NewWorkers(q *Queue, n int) *Workers {
	return &Workers{queue: q, slots: make(chan struct{}, max(1, n))}
}

// For returns workers of another queue. Both together run no more passes at a time than one of them may.
func (w *Workers) For(q *Queue) *Workers { return &Workers{queue: q, slots: w.slots} }

// Run runs the passes of the keys that are due until ctx ends. Then it shuts the queue down and returns when all passes have
// come back. A pass has to say itself when its key is due again.
func (w *Workers) Run(ctx context.Context, pass func(ctx context.Context, key string)) {
	var wait sync.WaitGroup
	defer context.AfterFunc(ctx, w.queue.ShutDown)()
	for {
		// The key comes first: a slot that is held while nothing is due would keep passes from coming back to work.
		key, quit := w.queue.Get()
		if quit || w.take(ctx) != nil {
			break
		}
		wait.Go(func() {
			defer w.queue.Done(key)
			defer w.give()
			pass(ctx, key)
		})
	}
	wait.Wait()
	// Those who count what waits are to count it no more.
	w.queue.empty()
}

func (w *Workers) take(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Workers) give() { <-w.slots }
