package inquiry

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/workqueue"
)

const (
	// maxRunning bounds the calls of one key at a time, those included that were canceled and have not come back. No set of
	// rules asks for as many.
	maxRunning = 16
	// firstRetry is the pause after a call that panicked. It doubles with each further one up to lastRetry.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Desk keeps the questions of all keys. It is safe for concurrent use.
type Desk[A any] struct {
	clock clock.PassiveClock
	wake  func(key string)
	calls sync.WaitGroup

	mu   sync.Mutex
	keys map[string]*inquiries[A]
	// open is how many calls have not come back.
	open int
}

// inquiries are those of one key.
type inquiries[A any] struct {
	questions map[string]*question[A]
	// running is how many calls have not come back. Refused is set when there were too many for another one.
	running int
	refused bool
}

// question is one that was asked.
type question[A any] struct {
	cancel   context.CancelFunc
	asked    time.Time
	inFlight bool
	answer   *A
	// panicked is the last panic, if there is no answer since. Panics is how many there were, told whether somebody was told of
	// the last, and retry when the next try is due.
	panicked *workqueue.PanicError
	panics   int
	told     bool
	retry    time.Time
}

// New returns a Desk without questions. It calls wake with the key when an answer is there, and when a call panicked.
func New[A any](c clock.PassiveClock, wake func(key string)) *Desk[A] {
	return &Desk[A]{clock: c, wake: wake, keys: map[string]*inquiries[A]{}}
}

// Ask starts a call for a question, unless it is in flight or answered. The call ends with ctx, and when the question is not
// kept any more. The result is when to ask again, where it could not be asked now: zero for when wake is called.
func (d *Desk[A]) Ask(ctx context.Context, key, id string, call func(context.Context) A) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.keys[key]
	if of == nil {
		of = &inquiries[A]{questions: map[string]*question[A]{}}
		d.keys[key] = of
	}
	started := &question[A]{asked: d.clock.Now(), inFlight: true}
	if q := of.questions[id]; q != nil {
		switch {
		case q.inFlight || q.answer != nil:
			return time.Time{}
		case d.clock.Now().Before(q.retry):
			return q.retry
		}
		started.panicked, started.panics, started.told = q.panicked, q.panics, q.told
	}
	if of.running >= maxRunning {
		of.refused = true
		return time.Time{}
	}
	ctx, started.cancel = context.WithCancel(ctx)
	of.questions[id] = started
	of.running++
	d.open++
	d.calls.Go(func() { d.run(ctx, key, of, id, started, call) })
	return time.Time{}
}

func (d *Desk[A]) run(ctx context.Context, key string, of *inquiries[A], id string, q *question[A], call func(context.Context) A) {
	var answer *A
	var panicked *workqueue.PanicError
	func() {
		defer func() {
			if value := recover(); value != nil {
				panicked = &workqueue.PanicError{Value: value, Stack: debug.Stack()}
			}
		}()
		got := call(ctx)
		answer = &got
	}()

	d.mu.Lock()
	// What a call says that was told to stop is no answer.
	counts := ctx.Err() == nil && of.questions[id] == q
	q.cancel()
	q.inFlight = false
	switch {
	case counts && panicked != nil:
		q.panicked, q.panics, q.told = panicked, q.panics+1, false
		q.retry = d.clock.Now().Add(min(firstRetry<<min(q.panics-1, 16), lastRetry))
	case counts:
		q.answer, q.panicked = answer, nil
	}
	of.running--
	wake := counts || of.refused
	of.refused = false
	d.drop(key, of)
	d.mu.Unlock()
	if wake {
		d.wake(key)
	}
	// Last, so that whoever sees that nothing is in flight sees that the key is due.
	d.mu.Lock()
	d.open--
	d.mu.Unlock()
}

// Answers returns the answers of a key that are there, by question, and when the first of their questions was asked.
func (d *Desk[A]) Answers(key string) (answers map[string]A, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.keys[key]
	if of == nil {
		return nil, time.Time{}
	}
	answers = map[string]A{}
	for id, q := range of.questions {
		if q.answer == nil {
			continue
		}
		answers[id] = *q.answer
		if since.IsZero() || q.asked.Before(since) {
			since = q.asked
		}
	}
	return answers, since
}

// Keep forgets all questions of a key but those that are named, and cancels their calls.
func (d *Desk[A]) Keep(key string, ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.keys[key]
	if of == nil {
		return
	}
	for id, q := range of.questions {
		if !slices.Contains(ids, id) {
			q.cancel()
			delete(of.questions, id)
		}
	}
	d.drop(key, of)
}

// Forget forgets all questions of a key, and cancels their calls.
func (d *Desk[A]) Forget(key string) { d.Keep(key, nil) }

// Panicked returns the panic of a call that has no answer since, and whether it is returned for the first time. It is nil if
// there is none.
func (d *Desk[A]) Panicked(key string) (p *workqueue.PanicError, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.keys[key]
	if of == nil {
		return nil, false
	}
	for _, q := range of.questions {
		if q.panicked == nil {
			continue
		}
		p = q.panicked
		if !q.told {
			q.told = true
			return p, true
		}
	}
	return p, false
}

// InFlight is how many calls have not come back.
func (d *Desk[A]) InFlight() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// Stop forgets all questions, cancels their calls and returns when they have come back. Nobody may ask meanwhile.
func (d *Desk[A]) Stop() {
	d.mu.Lock()
	for key, of := range d.keys {
		for id, q := range of.questions {
			q.cancel()
			delete(of.questions, id)
		}
		d.drop(key, of)
	}
	d.mu.Unlock()
	d.calls.Wait()
}

// drop lets go of a key about which nothing is to be known.
func (d *Desk[A]) drop(key string, of *inquiries[A]) {
	if len(of.questions) == 0 && of.running == 0 && d.keys[key] == of {
		delete(d.keys, key)
	}
}
