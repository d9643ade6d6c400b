package rollout

import (
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

func TestDrainingIsNotLongerThanTheDelay(t *testing.T) {
	f := facts(v1beta1.CanaryPhaseFinalising)
	f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(time.Hour))
	d := Decide(f)
	if want := now.Add(f.Settings.PropagationDelay); !d.Wake.Equal(want) {
		t.Errorf("rule %s wakes at %s, want %s", d.Rule, d.Wake, want)
	}
}
