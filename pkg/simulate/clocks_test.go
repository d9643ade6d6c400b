package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A primary that never gets all its pods delays a run once, and not again after each check that failed.
func TestIncidentB12_FailedChecksDoNotRestartTheClockOfThePrimary(t *testing.T) {
	w := ready(t, podinfo(threshold(5)), func(o *Options) { o.Metrics = badSuccessRate("v2") })
	w.primary.scale(w.now, 3)
	w.settleCluster()
	w.primary.pods[2].never = true
	w.primary.patient = true
	w.Ship("v2")
	shipped := w.now
	rest(t, w, failed)
	if took := w.now.Sub(shipped); took > 18*time.Minute {
		t.Errorf("failed after %s, with a deadline of ten minutes and five checks of a minute", took)
	}
	sound(t, w)
}

// Two short absences within one long interval are no absence from the first to the second.
func TestIncidentB12_ShortAbsencesDoNotAddUp(t *testing.T) {
	w := ready(t, podinfo(func(s *v1beta1.CanarySpec) {
		s.Analysis.Interval = "1h"
		s.ProgressDeadlineSeconds = new(int32(60))
	}))
	w.Ship("v2")
	untilWeight(t, w, 20)
	for range 5 {
		w.Run(7 * time.Minute)
		w.target.pods[0].readyAt = w.now.Add(20 * time.Second)
		w.Run(time.Second)
	}
	phase := w.Status().Phase
	if phase != progressing || w.Status().Rollout.Stage != "analysis" {
		t.Errorf("phase %s stage %s after five absences of 20 seconds", phase, w.Status().Rollout.Stage)
	}
	sound(t, w)
}

// Pods that come and go all the time cost a few writes in an interval, not two each time.
func TestIncidentB23_PodsThatComeAndGoCostFewWrites(t *testing.T) {
	w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.Analysis.Interval = "10m" }))
	w.Ship("v2")
	untilWeight(t, w, 20)
	w.Run(time.Second)
	before := w.statuses
	for range 100 {
		w.target.pods[0].readyAt = w.now.Add(2 * time.Second)
		w.Run(4 * time.Second)
	}
	if n := w.statuses - before; n > 8 {
		t.Errorf("%d writes of the status for pods that came and went 100 times within an interval", n)
	}
	sound(t, w)
}

// A primary that is a pod short after the traffic was led to it, and is never reported stuck.
func TestIncidentB12_FinalisingHasADeadline(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilPhase(t, w, finalising)
	w.primary.patient = true
	w.primary.pods[0].never = true
	rest(t, w, failed)
	if w.routed.CanaryWeight != 100 || w.target.available(w.now) == 0 {
		t.Errorf("weight %d on a canary with %d pods", w.routed.CanaryWeight, w.target.available(w.now))
	}
	sound(t, w)
}

// promotesInSteps is a promotion that takes many times its deadline: the primary is ready with what was promoted, and gets its
// traffic two percent a minute.
func promotesInSteps(t *testing.T) *World {
	t.Helper()
	w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 2 }))
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.Run(12 * time.Minute)
	if s := w.Status(); s.Phase != promoting || s.CanaryWeight == 0 || s.CanaryWeight == 50 {
		t.Fatalf("phase %s weight %d in a promotion of 25 steps", s.Phase, s.CanaryWeight)
	}
	return w
}

// A pod that a primary gets while traffic is led back to it has the whole deadline, whenever the promotion began.
func TestIncidentB12_PromotionInStepsOutlastsTheDeadline(t *testing.T) {
	for name, kill := range map[string]int{"": 0, ", and the process dies": 1} {
		t.Run("a pod is added"+name, func(t *testing.T) {
			w := promotesInSteps(t)
			w.Break("v2", false)
			w.primary.scale(w.now, 3)
			w.settleCluster()
			if kill > 0 {
				w.KillAfter(kill)
			}
			rest(t, w, succeeded)
			serves(t, w, "v2")
			sound(t, w)
		})
	}
	t.Run("a pod comes and goes", func(t *testing.T) {
		w := promotesInSteps(t)
		w.primary.patient = true
		for range 3 {
			w.primary.pods[1].readyAt = w.now.Add(4 * time.Minute)
			w.Run(5 * time.Minute)
		}
		rest(t, w, succeeded)
		serves(t, w, "v2")
		sound(t, w)
	})
}

// While traffic is led back the primary has a deadline all the same: its own.
func TestIncidentB12_PromotionInStepsHasADeadline(t *testing.T) {
	w := promotesInSteps(t)
	w.primary.patient = true
	w.primary.pods[1].never = true
	broke := w.now
	rest(t, w, failed)
	if took := w.now.Sub(broke); took < 10*time.Minute || took > 11*time.Minute {
		t.Errorf("failed after %s, with a deadline of ten minutes", took)
	}
	if w.routed.CanaryWeight != 100 || w.target.available(w.now) == 0 {
		t.Errorf("weight %d on a canary with %d pods", w.routed.CanaryWeight, w.target.available(w.now))
	}
	sound(t, w)
}

// A primary that somebody changes while traffic is led back to it comes up again as at the start of the promotion.
func TestIncidentB12_CopyThatIsUndoneInAPromotionInSteps(t *testing.T) {
	w := promotesInSteps(t)
	w.primary.setTemplate(w.now, "v1")
	w.primary.copyOf = "v1"
	w.settleCluster()
	until(t, w, "copy", time.Minute, func() bool { return w.primary.template == "v2" })
	if s := w.Status(); s.Phase != promoting || s.Rollout.Stage != "" {
		t.Errorf("phase %s stage %q for a primary that has not been ready since", s.Phase, s.Rollout.Stage)
	}
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}
