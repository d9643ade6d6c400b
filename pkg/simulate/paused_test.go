package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// Pause sets spec.paused of the target.
func (w *World) Pause(paused bool) {
	w.note("somebody sets spec.paused of the target to %t", paused)
	w.target.pause(w.now, paused)
	w.settleCluster()
}

// A target that is paused and then edited asks for nothing until it is resumed: its pods stay what they are, and what was analyzed
// is gone from it. Users are told so, requests go to the primary, and the run does not wait for ever.
func TestIncidentB11_EditOfAPausedTargetWaitsForItsResumption(t *testing.T) {
	everyPhase(t, nil, func(t *testing.T, w *World, phase v1beta1.CanaryPhase) {
		copied := w.primary.template == "v2"
		w.Pause(true)
		w.Ship("v3")
		w.Run(time.Minute)
		if got := message(w, v1beta1.HealthyType); condition(w, v1beta1.HealthyType) != "TargetPaused" {
			t.Errorf("phase %s, Healthy says %s: %s", w.Status().Phase, condition(w, v1beta1.HealthyType), got)
		}
		if w.routed.SendsToCanary() {
			t.Errorf("routed %+v", w.routed)
		}
		w.Run(time.Hour)
		statuses, run := w.statuses, w.Status().Rollout.Run
		w.Run(24 * time.Hour)
		if end := w.Status().Phase; w.statuses != statuses || end == progressing || end == promoting || end == finalising {
			t.Errorf("phase %s after an hour, %d writes of the status in a day", end, w.statuses-statuses)
		}
		if copied {
			serves(t, w, "v2")
		} else {
			serves(t, w, "v1")
		}
		w.Pause(false)
		rest(t, w, succeeded)
		if w.Status().Rollout.Run != run+1 {
			t.Errorf("run %d after %d", w.Status().Rollout.Run, run)
		}
		serves(t, w, "v3")
	})
}

// Two rules for "same revision" made a promotion of what was gone from the target go on for ever: the change was none to those who
// decided, and was one to those who copied.
func TestIncidentB11_EditOfAPausedTargetBeforeTheCopy(t *testing.T) {
	for name, undo := range map[string]bool{"resumed": false, "undone": true} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo())
			w.Ship("v2")
			w.refuse = func(a rollout.Action) bool { _, copies := a.(rollout.EnsurePrimary); return copies }
			untilPhase(t, w, promoting)
			w.Pause(true)
			w.Ship("v3")
			w.refuse = nil
			passes, calls := w.passes, w.calls
			w.Run(5 * time.Minute)
			if w.passes-passes > 20 || w.calls-calls > 20 || condition(w, v1beta1.HealthyType) != "TargetPaused" {
				t.Errorf("%d passes and %d calls in 5 minutes, phase %s, Healthy says %s", w.passes-passes, w.calls-calls, w.Status().Phase,
					condition(w, v1beta1.HealthyType))
			}
			if w.routed.SendsToCanary() {
				t.Errorf("routed %+v", w.routed)
			}
			want := "v3"
			if undo {
				want = "v2"
				w.Ship(want)
			}
			w.Pause(false)
			rest(t, w, succeeded)
			serves(t, w, want)
			sound(t, w)
		})
	}
}

// A target that is paused before its Canary exists, or at rest, keeps nobody waiting in vain.
func TestPausedTargetAtRest(t *testing.T) {
	w := world(podinfo())
	w.Pause(true)
	rest(t, w, initialized)
	if got := condition(w, v1beta1.HealthyType); got != "Healthy" {
		t.Errorf("Healthy says %s of a target that nobody has changed", got)
	}
	w.Ship("v2")
	w.Run(time.Minute)
	if w.Status().Phase != initialized || condition(w, v1beta1.HealthyType) != "TargetPaused" {
		t.Errorf("phase %s, Healthy says %s", w.Status().Phase, condition(w, v1beta1.HealthyType))
	}
	w.Pause(false)
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}
