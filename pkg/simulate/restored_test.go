package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// B-33: a status of an earlier day, from a backup, starts nothing for a revision that was promoted since, and fails nothing.
func TestB33_RestoredStatusStartsNothing(t *testing.T) {
	for name, at := range map[string]func(t *testing.T, w *World){
		"initialized": func(*testing.T, *World) {},
		"waiting":     func(t *testing.T, w *World) { w.Ship("v2"); untilPhase(t, w, waiting) },
		"starting":    func(t *testing.T, w *World) { w.Ship("v2"); untilPhase(t, w, progressing) },
		"progressing": func(t *testing.T, w *World) { w.Ship("v2"); untilWeight(t, w, 50) },
		"another": func(t *testing.T, w *World) {
			w.Ship("v0")
			untilWeight(t, w, 50)
		},
		"promoting":  func(t *testing.T, w *World) { w.Ship("v2"); untilPhase(t, w, promoting) },
		"finalising": func(t *testing.T, w *World) { w.Ship("v2"); untilPhase(t, w, finalising) },
	} {
		t.Run(name, func(t *testing.T) {
			open := name != "waiting"
			w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook)), closedGate(v1beta1.ConfirmRolloutHook, &open))
			at(t, w)
			old := w.Status().DeepCopy()
			open = true
			w.Ship("v2")
			rest(t, w, succeeded)
			w.note("an old status is restored")
			w.canary.Status = *old
			gates, judged := len(asked(w, v1beta1.ConfirmRolloutHook)), w.judged["v2"]
			w.Run(3 * time.Hour)
			if phase := w.Status().Phase; phase != succeeded && phase != initialized {
				t.Errorf("phase %s", phase)
			}
			if len(asked(w, v1beta1.ConfirmRolloutHook)) != gates || w.judged["v2"] != judged || w.target.replicas != 0 {
				t.Errorf("%d gates, %d checks, %d pods", len(asked(w, v1beta1.ConfirmRolloutHook))-gates, w.judged["v2"]-judged, w.target.replicas)
			}
			if promoted := w.Status().Rollout.Promoted.Fingerprint; promoted != "v2" {
				t.Errorf("promoted: %s", promoted)
			}
			serves(t, w, "v2")
			w.DeletePrimary()
			w.Run(time.Minute)
			serves(t, w, "v2")
			w.Ship("v3")
			rest(t, w, succeeded)
			serves(t, w, "v3")
			sound(t, w)
		})
	}
}

// Incident B24: whoever makes the primary and the target equal by hand has promoted nothing.
func TestIncidentB24_PrimaryThatWasEditedIsNoPromotion(t *testing.T) {
	w := ready(t, podinfo())
	w.EditPrimary("v2")
	w.Ship("v2")
	rest(t, w, succeeded)
	if w.judged["v2"] == 0 {
		t.Error("v2 counts as promoted without an analysis")
	}
	sound(t, w)
}
