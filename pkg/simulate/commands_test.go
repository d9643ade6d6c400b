package simulate

import (
	"slices"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// Whatever a rollout waits for, somebody may call it off: within an interval, and without being asked all the time.
func TestIncidentB19_RollbackHookIsHonouredWhileWaiting(t *testing.T) {
	reports := mesh()
	reports.ReportsSettled = true
	for name, hold := range map[string]struct {
		provider rollout.ProviderFact
		wait     func(t *testing.T, w *World)
	}{
		"the canary never gets ready": {mesh(), func(_ *testing.T, w *World) {
			w.target.patient = true
			w.Break("v2", true)
			w.Ship("v2")
		}},
		"the canary is no longer ready": {mesh(), func(t *testing.T, w *World) {
			w.Ship("v2")
			untilWeight(t, w, 20)
			w.target.patient = true
			w.target.pods[0].never = true
		}},
		"routes are not in force": {reports, func(t *testing.T, w *World) {
			w.Ship("v2")
			untilWeight(t, w, 20)
			w.unsettled = true
		}},
		"the primary is not ready": {mesh(), func(_ *testing.T, w *World) {
			w.primary.pods[0].readyAt = w.now.Add(time.Hour)
			w.primary.patient = true
			w.Ship("v2")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			abort := false
			w := ready(t, podinfo(withHook(v1beta1.RollbackHook)), provider(hold.provider), hooksPass(&abort))
			w.canary.Spec.ProgressDeadlineSeconds = new(int32(3600))
			hold.wait(t, w)
			w.Run(time.Second)
			calls, writes := len(asked(w, v1beta1.RollbackHook)), w.statuses
			w.Run(20 * time.Minute)
			if n := len(asked(w, v1beta1.RollbackHook)) - calls; n < 19 || n > 21 {
				t.Errorf("asked %d times in 20 intervals", n)
			}
			if n := w.statuses - writes; n > 60 {
				t.Errorf("%d writes of the status in 20 intervals", n)
			}
			keys := map[string]bool{}
			for _, n := range asked(w, v1beta1.RollbackHook) {
				if keys[n.Key] {
					t.Errorf("asked twice with the key %s", n.Key)
				}
				keys[n.Key] = true
			}
			abort = true
			until(t, w, "rollback", 70*time.Second, func() bool { return w.Status().Rollout.Stage == "rollback" })
			w.unsettled = false
			rest(t, w, failed)
			serves(t, w, "v1")
			sound(t, w)
		})
	}
}

// What waits for the approval of its promotion is under analysis still: whatever ends one ends the wait.
func TestIncidentB19_SkipWhileWaitingForPromotion(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmPromotionHook)), closedGate(v1beta1.ConfirmPromotionHook, &open))
	w.Ship("v2")
	untilPhase(t, w, waitingPromotion)
	w.Run(3 * time.Minute)
	w.Edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}

func TestIncidentB19_RollbackWhileWaitingForPromotion(t *testing.T) {
	abort := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmPromotionHook, v1beta1.RollbackHook)), func(o *Options) {
		o.Hooks = func(_ *World, h v1beta1.HookType, _ string) rollout.HookResult {
			return rollout.HookResult{Passed: h == v1beta1.RollbackHook && abort, Text: "no"}
		}
	})
	w.Ship("v2")
	untilPhase(t, w, waitingPromotion)
	w.Run(3 * time.Minute)
	abort = true
	until(t, w, "rollback", 70*time.Second, func() bool { return w.Status().Rollout.Stage == "rollback" })
	rest(t, w, failed)
	serves(t, w, "v1")
	sound(t, w)
}

func TestIncidentB19_BadMetricsWhileWaitingForPromotion(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){"weights": func(*v1beta1.CanarySpec) {}, "blue/green": blueGreen(2)} {
		open, bad := false, false
		w := ready(t, podinfo(edit, threshold(2), withHook(v1beta1.ConfirmPromotionHook)),
			closedGate(v1beta1.ConfirmPromotionHook, &open), badWhile(&bad))
		w.Ship("v2")
		untilPhase(t, w, waitingPromotion)
		w.Run(3 * time.Minute)
		bad = true
		w.Run(70 * time.Second)
		if s := w.Status(); s.Phase != waitingPromotion || s.FailedChecks != 1 {
			t.Errorf("%s: phase %s with %d failed checks after an interval", name, s.Phase, s.FailedChecks)
		}
		until(t, w, "rollback", 70*time.Second, func() bool { return w.Status().Rollout.Stage == "rollback" })
		rest(t, w, failed)
		serves(t, w, "v1")
		sound(t, w)
	}
}

// hooksPass lets all hooks say what a variable says.
func hooksPass(say *bool) func(*Options) {
	return func(o *Options) {
		o.Hooks = func(*World, v1beta1.HookType, string) rollout.HookResult { return rollout.HookResult{Passed: *say} }
	}
}

// The answer to a question of a minute ago does not promote what was called off since.
func TestIncidentB19_RollbackHookIsAskedBeforeThePromotion(t *testing.T) {
	abort := false
	w := ready(t, podinfo(withHook(v1beta1.RollbackHook)), hooksPass(&abort))
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.Run(50 * time.Second)
	w.target.pods[0].readyAt = w.now.Add(40 * time.Second)
	until(t, w, "question", time.Minute, func() bool { return w.now.Equal(w.target.pods[0].readyAt) })
	abort = true
	rest(t, w, failed)
	serves(t, w, "v1")
	sound(t, w)
}

// The rest of a promotion is done at once when its steps are to be skipped, however far it is. Its analysis was not skipped.
func TestSkipEndsThePromotionInSteps(t *testing.T) {
	for name, after := range map[string]time.Duration{"before the first step": 0, "between two": 150 * time.Second} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 2 }))
			w.Ship("v2")
			untilPhase(t, w, promoting)
			w.Run(after)
			w.Edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })
			skipped := w.now
			untilPhase(t, w, finalising)
			if took := w.now.Sub(skipped); took > 10*time.Second {
				t.Errorf("the primary got its traffic only after %s", took)
			}
			rest(t, w, succeeded)
			for text, want := range map[string]int{"Routing all traffic to primary": 1, "Promotion completed! Scaling down": 1, "was skipped": 0} {
				if got := count(w.Events, text); got != want {
					t.Errorf("%q told %d times, want %d", text, got, want)
				}
			}
			serves(t, w, "v2")
			sound(t, w)
		})
	}
}

// A revision whose analysis is skipped is refused by nobody but the gate that it waits for.
func TestSkipLeavesRollbackHooksOut(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook, v1beta1.RollbackHook), func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }),
		func(o *Options) {
			o.Hooks = func(_ *World, h v1beta1.HookType, _ string) rollout.HookResult {
				return rollout.HookResult{Passed: h == v1beta1.RollbackHook || open, Text: "no"}
			}
		})
	w.Ship("v2")
	w.Run(10 * time.Minute)
	if w.Status().Phase != waiting {
		t.Errorf("phase %s before a closed gate", w.Status().Phase)
	}
	open = true
	rest(t, w, succeeded)
	if got := len(asked(w, v1beta1.RollbackHook)); got != 0 {
		t.Errorf("rollback hooks asked %d times", got)
	}
	serves(t, w, "v2")
	sound(t, w)
}

// A canary that dies of its traffic is taken back when it died as often as the analysis allows, and not only once it is back.
func TestIncidentB19_ThresholdIsReachedByADeadCanary(t *testing.T) {
	w := ready(t, podinfo(threshold(1)))
	w.Ship("v2")
	untilWeight(t, w, 20)
	for i := range w.target.pods {
		w.target.pods[i].never = true
	}
	died := w.now
	rest(t, w, failed)
	if took := w.now.Sub(died); took > time.Minute {
		t.Errorf("taken back only after %s", took)
	}
	sound(t, w)
}

// A new Canary that is suspended says that it was seen, and is taken into care once it no longer is.
func TestSuspendedFromTheStart(t *testing.T) {
	w := world(podinfo(func(s *v1beta1.CanarySpec) { s.Suspend = true }))
	w.Run(time.Hour)
	s := w.Status()
	promoted := slices.IndexFunc(s.Conditions, func(c v1beta1.CanaryCondition) bool { return c.Type == v1beta1.PromotedType })
	if s.Phase != v1beta1.CanaryPhaseInitializing || promoted < 0 || s.Conditions[promoted].Reason != "Initializing" {
		t.Errorf("phase %q, conditions %+v", s.Phase, s.Conditions)
	}
	if w.backends || w.apex || w.primary.exists || w.statuses > 2 {
		t.Errorf("a suspended Canary took something over, or wrote %d statuses", w.statuses)
	}
	w.Edit(func(s *v1beta1.CanarySpec) { s.Suspend = false })
	rest(t, w, initialized)
	sound(t, w)
}
