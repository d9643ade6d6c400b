package workqueue

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

// Pauses after a failed pass. The first retry comes quickly because most failures are a server that is busy for a moment; the
// last one is short enough for a user who has just mended the cause.
const (
	firstRetry    = time.Second
	lastRetry     = time.Minute
	firstConflict = 20 * time.Millisecond
)

// stubborn is after how many conflicts in a row, which took about two seconds, a conflict is no accident any more.
const stubborn = 7

// shortestWake is the least time until a pass that another pass asked for. It bounds what a rule could burn that asks for
// the next pass again and again without getting anywhere.
const shortestWake = 10 * time.Millisecond

// Queue holds the keys that want a pass, and for each key at most one time at which it wants the next one. A key that is
// added while it is processed comes back afterwards; it is never handed out twice at a time.
type Queue struct {
	clock clock.WithDelayedExecution
	// jitter lengthens pauses after failures, spread those until the next step.
	jitter, spread func(time.Duration) time.Duration
	ready          workqueue.TypedInterface[string]
	// open is how many keys were handed to ready and are not done with, lanes which of them comes next.
	open  *pending
	lanes *lanes

	mu       sync.Mutex
	wakes    map[string]clock.Timer
	failures map[string]int

	meter Meter
	// since is when passes were asked for, taken when the keys at work were handed out, both by key.
	since, taken sync.Map
}

// NewQueue returns an empty queue on the given clock.
func NewQueue(c clock.WithDelayedExecution) *Queue { return NewMeasuredQueue(c, unmeasured{}) }

// Meter is told what becomes of the keys of a queue. That of client-go would need a goroutine for each queue.
type Meter interface {
	// Queued is called when a key begins to wait for a worker, Taken when one has got it, Done when its work has ended, and
	// Retried when that has failed.
	Queued()
	Taken(waited time.Duration)
	Done(took time.Duration)
	Retried()
}

type unmeasured struct{}

func (unmeasured) Queued()             {}
func (unmeasured) Taken(time.Duration) {}
func (unmeasured) Done(time.Duration)  {}
func (unmeasured) Retried()            {}

// NewMeasuredQueue returns an empty queue that reports to a Meter.
func NewMeasuredQueue(c clock.WithDelayedExecution, meter Meter) *Queue {
	lanes := newLanes()
	open := &pending{Queue: lanes, meter: meter}
	return &Queue{
		clock:    c,
		jitter:   addTenth,
		spread:   addLittle,
		ready:    workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: open}),
		open:     open,
		lanes:    lanes,
		wakes:    map[string]clock.Timer{},
		failures: map[string]int{},
		meter:    meter,
	}
}

// addTenth lengthens a pause by up to a tenth, so that keys that failed together don't come back together.
func addTenth(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*0.1*float64(d))
}

// addLittle lengthens the pause until a step by up to a fiftieth and no more than a second, so that Canaries that started
// together, because they share a ConfigMap or a deployment pipeline, don't ask Prometheus at the same instant forever.
func addLittle(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(min(d/50, time.Second)))
}

// Add asks for a pass as soon as a worker is free.
func (q *Queue) Add(key string) { q.addAt(key, q.clock.Now()) }

// addAt is for timers as well, which may not ask their clock for the time.
func (q *Queue) addAt(key string, now time.Time) {
	q.since.LoadOrStore(key, now)
	q.ready.Add(key)
}

// Hurry asks for a pass like Add, ahead of the keys that do not hurry.
func (q *Queue) Hurry(key string) {
	q.lanes.hurry(key)
	q.Add(key)
}

// Remind asks for a pass like Add, but leaves a key that failed to its pause. It is for what the passes themselves bring
// about: a failure that is told in ever other words, and so written each time, would call for the next pass at once.
func (q *Queue) Remind(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failures[key] == 0 {
		q.addAt(key, q.clock.Now())
	}
}

// Get hands out the next key. The second result is true when the queue was shut down.
func (q *Queue) Get() (string, bool) {
	key, ended := q.ready.Get()
	if ended {
		return key, ended
	}
	now, waited := q.clock.Now(), time.Duration(0)
	if since, ok := q.since.LoadAndDelete(key); ok {
		waited = now.Sub(since.(time.Time))
	}
	q.meter.Taken(waited)
	q.taken.Store(key, now)
	return key, ended
}

// Done ends the pass of a key that Get handed out.
func (q *Queue) Done(key string) {
	now := q.clock.Now()
	if taken, ok := q.taken.LoadAndDelete(key); ok {
		q.meter.Done(now.Sub(taken.(time.Time)))
	}
	// One that was asked for meanwhile waits from here on.
	if _, again := q.since.Load(key); again {
		q.since.Store(key, now)
	}
	q.ready.Done(key)
	q.open.passes.Add(-1)
}

// Len is the number of keys that wait for a worker.
func (q *Queue) Len() int { return q.ready.Len() }

// shortPress is how many keys in a hurry are worked on within seconds.
const shortPress = 256

// Pressed is whether keys in a hurry wait for a worker, and not so many that it would take long until they have one.
func (q *Queue) Pressed() bool {
	n := q.lanes.waiting.Load()
	return n > 0 && n <= shortPress
}

// Idle is whether no key is due or at work. Len does not tell: a key that was handed out is in it no more.
func (q *Queue) Idle() bool { return q.open.passes.Load() == 0 }

// pending counts the passes that are asked for and not done. The queue around it calls it under a lock, so it asks no clock: the
// timers of one wait for that lock, and may hold one of the clock.
type pending struct {
	workqueue.Queue[string]
	passes atomic.Int64
	meter  Meter
}

// Push is called once for each time that a key will be handed out, before it is. One that is due again when it is done was
// pushed before.
func (p *pending) Push(key string) {
	p.passes.Add(1)
	p.meter.Queued()
	p.Queue.Push(key)
}

// Succeeded forgets the failures of a key and sets its next pass. The time replaces any earlier one; the zero time means that
// only an event brings the key back.
func (q *Queue) Succeeded(key string, wake time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failures[key] > 0 {
		delete(q.failures, key)
		// A reminder that came during this pass was not heeded.
		q.addAt(key, q.clock.Now())
	}
	if wake.IsZero() {
		q.cancel(key)
		return
	}
	q.schedule(key, q.spread(max(shortestWake, wake.Sub(q.clock.Now()))))
}

// Failed brings a key back after a pause that doubles with each failure, from a second to a minute. It returns the pause.
func (q *Queue) Failed(key string) time.Duration {
	return q.retry(key, firstRetry, lastRetry)
}

// Conflicted brings a key back at once: somebody else has written the object, and the informers are about to tell. One that goes on
// is a failure like any other, whatever the server calls it: its pauses grow as far as those of Failed.
func (q *Queue) Conflicted(key string) time.Duration {
	return q.retry(key, firstConflict, lastRetry)
}

func (q *Queue) retry(key string, first, last time.Duration) time.Duration {
	q.meter.Retried()
	q.mu.Lock()
	defer q.mu.Unlock()
	pause := last
	// Beyond 16 doublings the shift would overflow long after the limit was reached.
	if n := q.failures[key]; n < 16 {
		pause = min(first<<n, last)
	}
	q.failures[key]++
	pause = q.jitter(pause)
	q.schedule(key, pause)
	return pause
}

// Failing is whether the last pass of a key failed.
func (q *Queue) Failing(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failures[key] > 0
}

// Stubborn is whether a key has met so many conflicts in a row that no picture of the cluster can be that old: what conflicts is
// then the wish and not its moment.
func (q *Queue) Stubborn(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failures[key] >= stubborn
}

// Drop forgets everything about a key whose Canary is gone.
func (q *Queue) Drop(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancel(key)
	delete(q.failures, key)
}

// ShutDown makes Get return as soon as the waiting keys are handed out, and stops all timers.
func (q *Queue) ShutDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key := range q.wakes {
		q.cancel(key)
	}
	q.ready.ShutDown()
}

// empty drops the keys that wait, of a queue that is shut down or about to be.
func (q *Queue) empty() {
	for {
		key, ended := q.Get()
		if ended {
			return
		}
		q.Done(key)
	}
}

func (q *Queue) schedule(key string, after time.Duration) {
	q.cancel(key)
	if after <= 0 {
		q.addAt(key, q.clock.Now())
		return
	}
	due := q.clock.Now().Add(after)
	q.wakes[key] = q.clock.AfterFunc(after, func() { q.addAt(key, due) })
}

func (q *Queue) cancel(key string) {
	if timer, ok := q.wakes[key]; ok {
		timer.Stop()
		delete(q.wakes, key)
	}
}
