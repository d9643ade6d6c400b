package workqueue

import (
	"context"
	"sync"
	"sync/atomic"
)

// lingering is how many workers stay when nothing is due. The stack of one has grown as far as a pass needs, which a new one would have
// to do again.
const lingering = 8

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
	s := shift{due: make(chan string), pass: func(key string) {
		defer w.queue.Done(key)
		defer w.give()
		pass(ctx, key)
	}}
	for {
		// The key comes first: a slot that is held while nothing is due would keep passes from coming back to work.
		key, quit := w.queue.Get()
		if quit || w.take(ctx) != nil {
			break
		}
		select {
		case s.due <- key:
		default:
			wait.Go(func() { s.work(key) })
		}
	}
	close(s.due)
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

// shift are the workers of one run.
type shift struct {
	pass func(key string)
	// due leads to the workers that stay, of which there are idle ones.
	due  chan string
	idle atomic.Int32
}

// work runs the pass of a key, and of those that come after it.
func (s *shift) work(key string) {
	for more := true; more; {
		s.pass(key)
		if s.idle.Add(1) > lingering {
			s.idle.Add(-1)
			return
		}
		key, more = <-s.due
		s.idle.Add(-1)
	}
}
