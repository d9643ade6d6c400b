package workqueue

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// newTestQueue returns a queue without jitter and its clock.
func newTestQueue() (*Queue, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	q := NewQueue(clock)
	exactly := func(d time.Duration) time.Duration { return d }
	q.jitter, q.spread = exactly, exactly
	return q, clock
}

// due is how many keys a worker could take now.
func due(q *Queue) int { return q.Len() }

// take hands out a key and ends its pass.
func take(t *testing.T, q *Queue) string {
	t.Helper()
	if q.Len() == 0 {
		t.Fatal("no key is due")
	}
	key, _ := q.Get()
	q.Done(key)
	return key
}

func TestLaterWakeReplacesTheEarlierOne(t *testing.T) {
	q, clock := newTestQueue()
	q.Succeeded("a", clock.Now().Add(10*time.Second))
	q.Succeeded("a", clock.Now().Add(time.Minute))
	clock.Step(30 * time.Second)
	if due(q) != 0 {
		t.Fatal("the replaced wake came")
	}
	clock.Step(30 * time.Second)
	if key := take(t, q); key != "a" {
		t.Fatalf("got %q", key)
	}
}

func TestEarlierWakeReplacesTheLaterOne(t *testing.T) {
	q, clock := newTestQueue()
	q.Succeeded("a", clock.Now().Add(time.Minute))
	q.Succeeded("a", clock.Now().Add(10*time.Second))
	clock.Step(10 * time.Second)
	take(t, q)
	clock.Step(time.Hour)
	if due(q) != 0 {
		t.Fatal("the replaced wake came as well")
	}
}

func TestNoWakeMeansOnlyEvents(t *testing.T) {
	q, clock := newTestQueue()
	q.Succeeded("a", clock.Now().Add(time.Second))
	q.Succeeded("a", time.Time{})
	clock.Step(24 * time.Hour)
	if due(q) != 0 {
		t.Fatal("a key at rest came back by itself")
	}
	q.Add("a")
	take(t, q)
}

func TestWakeInThePastIsDueAtOnceButBurnsNothing(t *testing.T) {
	q, clock := newTestQueue()
	q.Succeeded("a", clock.Now().Add(-time.Second))
	if due(q) != 0 {
		t.Fatal("a pass that asks for the next one in the past is repeated without a pause")
	}
	clock.Step(shortestWake)
	take(t, q)
}

func TestFailuresBackOffToAMinute(t *testing.T) {
	q, _ := newTestQueue()
	var got []time.Duration
	for range 8 {
		got = append(got, q.Failed("a"))
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i := range want {
		if got[i] != want[i]*time.Second {
			t.Errorf("pause %d is %s, want %ds", i, got[i], want[i])
		}
	}
	for range 100 {
		if pause := q.Failed("a"); pause != time.Minute {
			t.Fatalf("pause %s", pause)
		}
	}
}

func TestSuccessEndsTheBackOff(t *testing.T) {
	q, _ := newTestQueue()
	for range 5 {
		q.Failed("a")
	}
	q.Succeeded("a", time.Time{})
	if pause := q.Failed("a"); pause != time.Second {
		t.Fatalf("pause after a success is %s", pause)
	}
}

// What comes during a pause is looked at when the pause is over, and what comes during the pass that succeeds, after it.
func TestReminderWaitsForThePauseAndIsNotLost(t *testing.T) {
	q, clock := newTestQueue()
	q.Failed("a")
	q.Remind("a")
	if due(q) != 0 {
		t.Fatal("a reminder cut the pause short")
	}
	clock.Step(time.Second)
	take(t, q)
	q.Remind("a")
	q.Succeeded("a", time.Time{})
	take(t, q)
	q.Succeeded("a", time.Time{})
	if due(q) != 0 {
		t.Fatal("a key is due at rest")
	}
	q.Remind("a")
	take(t, q)
}

func TestJitterNeverShortensAPause(t *testing.T) {
	for range 1000 {
		if got := addTenth(time.Second); got < time.Second || got > 1100*time.Millisecond {
			t.Fatalf("jittered to %s", got)
		}
	}
}

// C-14: Canaries that started together drift apart.
func TestC14_StepsAreSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := addLittle(10 * time.Second)
		if d < 10*time.Second || d > 10200*time.Millisecond {
			t.Fatalf("10s became %s", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different pauses", len(seen))
	}
	if d := addLittle(time.Hour); d > time.Hour+time.Second {
		t.Errorf("1h became %s", d)
	}
}

func TestConflictComesBackAtOnce(t *testing.T) {
	q, clock := newTestQueue()
	if pause := q.Conflicted("a"); pause > 50*time.Millisecond {
		t.Fatalf("pause %s", pause)
	}
	clock.Step(50 * time.Millisecond)
	take(t, q)
}

// A conflict that comes again and again is no accident: it costs as little as any failure that goes on.
func TestIncidentB11_StubbornConflictsArePaused(t *testing.T) {
	q, _ := newTestQueue()
	for range 6 {
		q.Conflicted("a")
	}
	if q.Stubborn("a") {
		t.Error("six conflicts are too many")
	}
	for range 8 {
		q.Conflicted("a")
	}
	if pause := q.Conflicted("a"); pause < lastRetry || !q.Stubborn("a") {
		t.Errorf("pause %s, stubborn %t", pause, q.Stubborn("a"))
	}
	q.Succeeded("a", time.Time{})
	if q.Stubborn("a") {
		t.Error("stubborn after a success")
	}
}

func TestKeyIsNotHandedOutTwiceAtATime(t *testing.T) {
	q, _ := newTestQueue()
	q.Add("a")
	key, _ := q.Get()
	q.Add("a")
	if due(q) != 0 {
		t.Fatal("the key is due while it is processed")
	}
	q.Done(key)
	take(t, q)
}

func TestDroppedKeyDoesNotComeBack(t *testing.T) {
	q, clock := newTestQueue()
	q.Failed("a")
	q.Drop("a")
	clock.Step(time.Hour)
	if due(q) != 0 {
		t.Fatal("a dropped key came back")
	}
	if pause := q.Failed("a"); pause != time.Second {
		t.Fatalf("the failures of a dropped key were kept: %s", pause)
	}
}

func TestShutDownEndsGet(t *testing.T) {
	q, clock := newTestQueue()
	q.Succeeded("a", clock.Now().Add(time.Second))
	q.ShutDown()
	if _, quit := q.Get(); !quit {
		t.Fatal("Get handed out a key")
	}
}
