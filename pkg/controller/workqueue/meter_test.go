package workqueue

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// meter writes down what it is told.
type meter struct{ told []string }

func (m *meter) Queued()               { m.told = append(m.told, "queued") }
func (m *meter) Taken(d time.Duration) { m.told = append(m.told, fmt.Sprintf("taken after %s", d)) }
func (m *meter) Done(d time.Duration)  { m.told = append(m.told, fmt.Sprintf("done in %s", d)) }
func (m *meter) Retried()              { m.told = append(m.told, "retried") }

// A key that comes back while it is at work waits from the end of that work on.
func TestMeter(t *testing.T) {
	clock, m := clocktesting.NewFakeClock(time.Unix(0, 0)), &meter{}
	q := NewMeasuredQueue(clock, m)
	q.Add("a")
	clock.Step(3 * time.Second)
	q.Add("a")
	key, _ := q.Get()
	clock.Step(time.Second)
	q.Add(key)
	clock.Step(time.Second)
	q.Failed(key)
	q.Done(key)
	clock.Step(4 * time.Second)
	q.Get()
	want := []string{"queued", "taken after 3s", "retried", "done in 2s", "queued", "taken after 4s"}
	if !slices.Equal(m.told, want) {
		t.Errorf("told %q, want %q", m.told, want)
	}
}

// A timer holds the lock of its clock while it adds a key, and waits for a worker that takes one: that must not wait for the clock.
func TestTimersAndWorkersDoNotWaitForEachOther(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	q := NewMeasuredQueue(clock, &unmeasured{})
	const keys, passes = 8, 4000
	var done atomic.Int64
	for range 2 {
		go func() {
			for {
				key, ended := q.Get()
				if ended {
					return
				}
				q.Succeeded(key, clock.Now().Add(time.Second))
				q.Done(key)
				done.Add(1)
			}
		}()
	}
	for i := range keys {
		q.Add(fmt.Sprint(i))
	}
	for done.Load() < passes {
		clock.Step(time.Second)
		runtime.Gosched()
	}
	q.ShutDown()
}
