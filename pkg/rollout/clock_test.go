package rollout

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Times in the status come from a clock that may be set back, and from an interval that may be shortened. Neither may hold
// a rollout longer than an interval.
func TestNextStepIsNoFurtherOffThanAnInterval(t *testing.T) {
	for name, off := range map[string]time.Duration{"an hour": time.Hour, "an interval": 30 * time.Second, "a little": time.Second} {
		t.Run(name, func(t *testing.T) {
			f := facts(v1beta1.CanaryPhaseProgressing, running(10))
			f.Canary.Status.Rollout.NextCheckAt = micro(now.Add(off))
			d := Decide(f)
			want := now.Add(min(off, 30*time.Second))
			if d.Rule != "not-due" || !d.Wake.Equal(want) {
				t.Fatalf("rule %s wakes at %s, want %s", d.Rule, d.Wake, want)
			}
			f.Canary.Status, f.Now = d.Status, want
			if d = Decide(f); d.Rule == "not-due" {
				t.Error("the step is put off again")
			}
		})
	}
}

func TestDrainingIsNotLongerThanAnInterval(t *testing.T) {
	f := facts(v1beta1.CanaryPhaseFinalising)
	f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(time.Hour))
	d := Decide(f)
	if want := now.Add(30 * time.Second); !d.Wake.Equal(want) {
		t.Errorf("rule %s wakes at %s, want %s", d.Rule, d.Wake, want)
	}
}

// Traffic that is led to the target while a Canary is suspended is seen all the same: draining begins anew.
func TestDrainingIsInterruptedWhateverThePassIsAbout(t *testing.T) {
	drained := micro(now.Add(-time.Minute))
	for name, c := range map[string]struct {
		edit edit
		want bool
	}{
		"nothing leads to the target": {func(*Facts) {}, true},
		"the Service does":            {func(f *Facts) { f.Services.ApexInPlace = false }, false},
		"a route does":                {func(f *Facts) { f.Routes.InPlace, f.Routes.CanaryWeight = false, 10 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(finalisingP, c.edit, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true }))
			f.Canary.Status.Rollout.CanaryDrainedAt = drained
			if got := Decide(f).Status.Rollout.CanaryDrainedAt; (got != nil) != c.want {
				t.Errorf("drained since %s", got)
			}
		})
	}
}

// Deadlines count from a clock of the revision, the stage and the side that is waited for, and from nothing else.
func TestClocks(t *testing.T) {
	long := micro(now.Add(-601 * time.Second))
	since := func(ago time.Duration) *v1beta1.UnreadySince {
		return &v1beta1.UnreadySince{Stage: clockAnalysis, Canary: micro(now.Add(-ago))}
	}
	canary := func(f *Facts) { unready(&f.Target, Waiting, 1) }
	primary := func(f *Facts) { unready(&f.Primary, Waiting, 1) }
	notDue := func(f *Facts) { f.Canary.Status.Rollout.NextCheckAt = micro(now.Add(30 * time.Second)) }
	run := func(edits ...edit) Facts { return facts(progressing, append([]edit{running(10)}, edits...)...) }
	for name, c := range map[string]struct {
		facts Facts
		rule  string
		wake  time.Duration
		clock *v1beta1.UnreadySince
	}{
		"a status without clocks starts one": {run(health(ReasonCanaryNotReady, "x", long.Time), canary),
			"canary-not-ready", 10 * time.Minute, since(0)},
		"one that runs goes on": {run(clocks(*since(time.Minute)), canary), "canary-not-ready", 9 * time.Minute, since(time.Minute)},
		"that of another revision is void": {run(clocks(v1beta1.UnreadySince{Run: 7, Stage: clockAnalysis, Canary: long}), canary),
			"canary-not-ready", 10 * time.Minute, since(0)},
		"that of another stage is void": {run(clocks(v1beta1.UnreadySince{Stage: clockPromotion, Primary: long}), primary),
			"primary-not-ready", 10 * time.Minute, &v1beta1.UnreadySince{Stage: clockAnalysis, Primary: micro(now)}},
		"that of the other side is no concern": {run(clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Primary: long}), canary),
			"canary-not-ready", 10 * time.Minute, &v1beta1.UnreadySince{Stage: clockAnalysis, Canary: micro(now), Primary: long}},
		"one from the future starts anew":          {run(clocks(*since(-time.Hour)), canary), "canary-not-ready", 10 * time.Minute, since(0)},
		"what is back after a moment may go again": {run(clocks(*since(time.Second)), notDue), "not-due", 29 * time.Second, since(time.Second)},
		"what is back stops its clock":             {run(clocks(*since(30 * time.Second)), notDue), "not-due", 30 * time.Second, nil},
		"a primary that is back stops its clock": {run(clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Primary: long})),
			"advance", 30 * time.Second, nil},
		"a failed read stops none": {run(clocks(*since(time.Minute)), canary, func(f *Facts) {
			f.Problem = &Problem{Reason: ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true}
		}), "blocked", 0, since(time.Minute)},
		"an end stops all": {facts(progressing, running(0), stage(stageRollback), clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Primary: long}),
			func(f *Facts) {
				f.Target.Replicas = 0
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
			}), "retreat", 0, nil},
		"a suspension stops all": {run(health(ReasonSuspended, "x", long.Time), clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Canary: long}), canary),
			"canary-not-ready", 10 * time.Minute, since(0)},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			var wake time.Duration
			if !d.Wake.IsZero() {
				wake = d.Wake.Sub(now)
			}
			if got := d.Status.Rollout.UnreadySince; d.Rule != c.rule || wake != c.wake || !reflect.DeepEqual(got, c.clock) {
				t.Errorf("rule %s wakes after %s with %+v, want %s after %s with %+v", d.Rule, wake, got, c.rule, c.wake, c.clock)
			}
		})
	}
}

// A wait is put into words at most once in an interval. The last time may lie ahead of a clock that was set back.
func TestWaitIsWordedAnewAfterTheClockWasSetBack(t *testing.T) {
	f := facts(v1beta1.CanaryPhaseProgressing, running(0), stage(""), func(f *Facts) { unready(&f.Target, Waiting, 0) })
	f.Canary.Status = Decide(f).Status
	f.Target.Health.Reason, f.Now = "one of two pods is ready", now.Add(-time.Hour)
	d := Decide(f)
	if c := condition(&d.Status, v1beta1.HealthyType); !strings.Contains(c.Message, f.Target.Health.Reason) {
		t.Errorf("the condition says %q", c.Message)
	}
}
