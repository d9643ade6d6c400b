package controller

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/schedule"
)

// The clock of these tests begins on Friday, 2026-01-02, at 03:04:05 UTC.

// scheduled gives a Canary a schedule, and so many iterations of ten seconds.
func scheduled(canary *unstructured.Unstructured, iterations int64, fields map[string]any) *unstructured.Unstructured {
	analysis := canary.Object["spec"].(map[string]any)["analysis"].(map[string]any)
	analysis["iterations"], analysis["schedule"] = iterations, fields
	return canary
}

func (l *loop) clockIs(text string) func() bool {
	return func() bool { return l.clock.Now().UTC().Format(time.TimeOnly) >= text }
}

func (l *loop) waitsFor(name string, reason rollout.ProblemReason) func() bool {
	return func() bool { return l.healthy(name).Reason == string(reason) }
}

// A change waits for a window, at no cost, over a restart as well, and begins when it opens.
func TestScheduleOfACanary(t *testing.T) { synctest.Test(t, testScheduleOfACanary) }

func testScheduleOfACanary(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), scheduled(canaryFor("podinfo"), 1, map[string]any{
		"windows": []any{"Fri 05:00-06:00"}, "timeZone": "Europe/Berlin",
	}))
	first := newLoop(t, a, 1).start()
	first.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	first.atRest("podinfo")
	a.ship("podinfo", "blue")
	first.until("it to wait", first.waitsFor("podinfo", rollout.ReasonWaitingForSchedule))
	first.atRest("podinfo")
	if got := first.healthy("podinfo").Message; !strings.Contains(got, "only within spec.analysis.schedule, next at Fri 2026-01-02 05:00 CET") {
		t.Errorf("message %q", got)
	}
	first.end()
	l := newLoop(t, a, 1)
	l.clock.SetTime(first.clock.Now())
	l.start().untilIdle()
	a.reset()
	before := l.passes()
	l.until("the time before the window", l.clockIs("03:59:58"))
	if got, calls := l.passes()-before, a.recorded(); got > 2 || len(calls) > 0 {
		t.Errorf("%d passes and %q in an hour of waiting", got, calls)
	}
	l.untilPhase("podinfo", v1beta1.CanaryPhaseProgressing)
	if got := l.clock.Now().UTC().Format(time.TimeOnly); got < "04:00:00" || got > "04:00:05" {
		t.Errorf("it began at %s", got)
	}
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	told := func(m string) bool { return strings.Contains(m, "spec.analysis.schedule") }
	if n := first.count(told) + l.count(told); n != 1 {
		t.Errorf("it told %d times that it waits", n)
	}
}

// A rollout that began in a window is held at its end if that is asked for, by the schedule of the operator as well, and is promoted in the
// next one. Otherwise it goes on.
func TestScheduleHoldsARollout(t *testing.T) {
	for name, hold := range map[string]bool{"hold": true, "continue": false} {
		t.Run(name, inBubble(func(t *testing.T) {
			a := newAPI(t, readyDeployment("podinfo", 2), scheduled(canaryFor("podinfo"), 12, map[string]any{}))
			windows, err := schedule.Parse([]string{"03:00-03:06", "03:30-04:00"}, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			l := newLoop(t, a, 1, func(c *Config) { c.Schedule = Schedule{Schedule: windows, Holds: hold, By: "the flags"} }).start()
			l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
			l.until("the window to be about to end", l.clockIs("03:05:00"))
			a.ship("podinfo", "blue")
			if !hold {
				l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
				if l.clockIs("03:10:00")() {
					t.Errorf("it ended at %s", l.clock.Now())
				}
				return
			}
			l.until("it to be held", l.waitsFor("podinfo", rollout.ReasonWaitingForSchedule))
			held := a.canary("podinfo").Status
			l.until("the time before the next window", l.clockIs("03:29:55"))
			if got := a.canary("podinfo").Status; got.Iterations != held.Iterations || got.Phase != v1beta1.CanaryPhaseProgressing || !l.waitsFor("podinfo", rollout.ReasonWaitingForSchedule)() {
				t.Errorf("%s at iteration %d, was held at %d", got.Phase, got.Iterations, held.Iterations)
			}
			l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
			if n := l.count(func(m string) bool { return strings.Contains(m, "is held at canary weight") }); n != 1 {
				t.Errorf("it told %d times that it is held", n)
			}
		}))
	}
}

// The schedule of the operator and that of the Canary both have to be open.
func TestBothSchedulesHaveToBeOpen(t *testing.T) { synctest.Test(t, testBothSchedulesHaveToBeOpen) }

func testBothSchedulesHaveToBeOpen(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), scheduled(canaryFor("podinfo"), 1, map[string]any{"windows": []any{"03:20-05:00"}}))
	windows, err := schedule.Parse([]string{"03:00-03:10", "03:40-05:00"}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(t, a, 1, func(c *Config) { c.Schedule = Schedule{Schedule: windows, By: "the flags"} }).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.ship("podinfo", "blue")
	l.until("it to wait", func() bool {
		return strings.Contains(l.healthy("podinfo").Message, "only within spec.analysis.schedule, next at Fri 2026-01-02 03:40 UTC")
	})
	l.untilPhase("podinfo", v1beta1.CanaryPhaseProgressing)
	if got := l.clock.Now().UTC().Format(time.TimeOnly); got < "03:40:00" || got > "03:40:05" {
		t.Errorf("it began at %s", got)
	}
}

// An annotation lets one change through, and the next one waits again.
func TestUrgentChange(t *testing.T) { synctest.Test(t, testUrgentChange) }

func testUrgentChange(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), scheduled(canaryFor("podinfo"), 1, map[string]any{"freezes": []any{"2026-01-02"}}))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.ship("podinfo", "blue")
	l.until("it to wait", l.waitsFor("podinfo", rollout.ReasonWaitingForSchedule))
	a.edit(canaryResource, "podinfo", map[string]any{v1beta1.UrgentAnnotation: "INC-1"}, "metadata", "annotations")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	if n := l.count(func(m string) bool { return strings.Contains(m, `annotation flagger.app/urgent is "INC-1"`) }); n != 1 {
		t.Errorf("it told %d times why it begins", n)
	}
	a.ship("podinfo", "green")
	l.until("the next one to wait", l.waitsFor("podinfo", rollout.ReasonWaitingForSchedule))
	l.passMinute()
	if got := l.phase("podinfo"); got != v1beta1.CanaryPhaseSucceeded {
		t.Errorf("it is %s", got)
	}
	a.edit(canaryResource, "podinfo", map[string]any{v1beta1.UrgentAnnotation: "INC-2"}, "metadata", "annotations")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseProgressing)
}

// What is urgent comes first in the queue, until it has begun.
func TestUrgentChangeComesFirst(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	first, urgent := waitingSince("first", 1), waitingSince("urgent", 2)
	urgent.SetAnnotations(map[string]string{v1beta1.UrgentAnnotation: "INC-1"})
	l, _ := turns(t, 1, first, urgent)
	if !l.othersFirst(first, now) || l.othersFirst(urgent, now) {
		t.Error("what is urgent does not come first")
	}
	urgent.Object["status"].(map[string]any)["rollout"] = map[string]any{"urgent": map[string]any{"value": "INC-1"}}
	if l.othersFirst(first, now) || !l.othersFirst(urgent, now) {
		t.Error("what was urgent comes first again")
	}
}

// What can't be read is refused with the name of its field.
func TestScheduleThatCannotBeRead(t *testing.T) { synctest.Test(t, testScheduleThatCannotBeRead) }

func testScheduleThatCannotBeRead(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), scheduled(canaryFor("podinfo"), 1, map[string]any{"timeZone": "Europe/Nowhere"}))
	l := newLoop(t, a, 1).start()
	l.until("it to be refused", l.waitsFor("podinfo", rollout.ReasonInvalidSpec))
	if got := l.healthy("podinfo").Message; !strings.Contains(got, `spec.analysis.schedule.timeZone: Invalid value: "Europe/Nowhere": is no time zone`) {
		t.Errorf("message %q", got)
	}
	a.edit(canaryResource, "podinfo", "Europe/Vienna", "spec", "analysis", "schedule", "timeZone")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}
