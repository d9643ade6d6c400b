package inquiry

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// desk is a Desk whose wakes are recorded.
type desk struct {
	*Desk[string]
	clock *clocktesting.FakePassiveClock
	woken []string
}

func newDesk(t *testing.T) *desk {
	d := &desk{clock: clocktesting.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}
	d.Desk = New[string](d.clock, func(key string) { d.woken = append(d.woken, key) })
	t.Cleanup(d.Stop)
	return d
}

// silent does not answer before it is canceled, and then too late.
func silent(ctx context.Context) string {
	<-ctx.Done()
	return "too late"
}

func says(answer string) func(context.Context) string {
	return func(context.Context) string { return answer }
}

func (d *desk) want(t *testing.T, key, id, want string) {
	t.Helper()
	if answers, _ := d.Answers(key); answers[id] != want {
		t.Errorf("%s of %s is answered with %q, want %q", id, key, answers[id], want)
	}
}

func TestAnswerWakesItsKeyAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		asked := d.clock.Now()
		calls := 0
		for range 3 {
			d.Ask(t.Context(), "a", "1", func(context.Context) string { calls++; return "yes" })
			d.Keep("a", []string{"1"})
			synctest.Wait()
			d.clock.SetTime(asked.Add(time.Minute))
		}
		if calls != 1 || fmt.Sprint(d.woken) != "[a]" {
			t.Errorf("%d calls, woken %v", calls, d.woken)
		}
		d.want(t, "a", "1", "yes")
		d.want(t, "a", "2", "")
		d.want(t, "b", "1", "")
		if _, since := d.Answers("a"); !since.Equal(asked) {
			t.Errorf("asked at %s, want %s", since, asked)
		}
	})
}

func TestVoidQuestionIsCanceledAndItsAnswerDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.Ask(t.Context(), "a", "1", silent)
		d.Ask(t.Context(), "a", "2", silent)
		d.Keep("a", []string{"2"})
		synctest.Wait()
		if n := d.InFlight(); n != 1 {
			t.Errorf("%d calls in flight", n)
		}
		d.want(t, "a", "1", "")
		if len(d.woken) > 0 {
			t.Errorf("woken %v for an answer that nobody wants", d.woken)
		}
		// The same question may be asked again, and is another call then.
		d.Ask(t.Context(), "a", "1", says("yes"))
		synctest.Wait()
		d.want(t, "a", "1", "yes")
		d.Forget("a")
		synctest.Wait()
		if d.want(t, "a", "1", ""); d.InFlight() != 0 || len(d.keys) != 0 {
			t.Errorf("%d calls in flight, %d keys", d.InFlight(), len(d.keys))
		}
	})
}

func TestLeaderThatStopsGetsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		leader, lose := context.WithCancel(t.Context())
		d.Ask(leader, "a", "1", silent)
		lose()
		synctest.Wait()
		if d.want(t, "a", "1", ""); len(d.woken) > 0 || d.InFlight() != 0 {
			t.Errorf("woken %v, %d calls in flight", d.woken, d.InFlight())
		}
		d.Ask(t.Context(), "b", "1", silent)
		d.Stop()
		if d.InFlight() != 0 || len(d.keys) != 0 {
			t.Errorf("%d calls in flight, %d keys after Stop", d.InFlight(), len(d.keys))
		}
	})
}

func TestCallThatPanicsIsRepeatedWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		panics := func(context.Context) string { panic("of a hook") }
		pause := time.Second
		for range 8 {
			d.Ask(t.Context(), "a", "1", panics)
			synctest.Wait()
			for _, want := range []bool{true, false} {
				if p, first := d.Panicked("a"); p == nil || p.Value != "of a hook" || len(p.Stack) == 0 || first != want {
					t.Fatalf("panic %+v, for the first time: %t", p, first)
				}
			}
			retry := d.Ask(t.Context(), "a", "1", panics)
			if got := retry.Sub(d.clock.Now()); got != pause {
				t.Errorf("pause %s, want %s", got, pause)
			}
			d.clock.SetTime(retry)
			pause = min(2*pause, time.Minute)
		}
		d.Ask(t.Context(), "a", "1", says("yes"))
		if p, first := d.Panicked("a"); p == nil || first {
			t.Errorf("panic %v, for the first time: %t, while the question is asked again", p, first)
		}
		synctest.Wait()
		d.want(t, "a", "1", "yes")
		if p, _ := d.Panicked("a"); p != nil {
			t.Errorf("panic %v after an answer", p)
		}
	})
}

// Calls that don't come back when they are canceled take up room, so there is an end to them.
func TestCallsOfAKeyAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		stuck := make(chan struct{})
		deaf := func(context.Context) string { <-stuck; return "" }
		for i := range 3 * maxRunning {
			id := fmt.Sprint(i)
			d.Ask(t.Context(), "a", id, deaf)
			d.Keep("a", []string{id})
		}
		d.Ask(t.Context(), "b", "1", says("yes"))
		synctest.Wait()
		if n := d.InFlight(); n != maxRunning {
			t.Errorf("%d calls in flight", n)
		}
		d.want(t, "b", "1", "yes")
		close(stuck)
		synctest.Wait()
		if fmt.Sprint(d.woken) != "[b a]" {
			t.Errorf("woken %v, want a when there is room", d.woken)
		}
		d.Ask(t.Context(), "a", "last", says("yes"))
		synctest.Wait()
		d.want(t, "a", "last", "yes")
	})
}
