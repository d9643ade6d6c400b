package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func refusesCopies(a rollout.Action) bool {
	_, is := a.(rollout.EnsurePrimary)
	return is
}

// The pods of a primary that stops first served: they go as late as any.
func TestPrimaryStopsWhenItsRequestsHaveDrained(t *testing.T) {
	w := ready(t, podinfo(), func(o *Options) {
		o.Strategy, o.Behaviors = Strategy{Recreate: true}, map[string]Behavior{"v2": {Startup: 90 * time.Second}}
	})
	w.Ship("v2")
	until(t, w, "primary without pods", time.Hour, func() bool { return w.primary.available(w.now) == 0 })
	if after := w.now.Sub(w.allSince); after < w.drainTime(true) {
		t.Errorf("the pods of the primary stopped %s after the last route to them, want %s", after, w.drainTime(true))
	}
}

// A copy that is refused costs the same whatever the primary does with its pods.
func TestRefusedCopyOfAPrimaryThatStopsFirst(t *testing.T) {
	for _, s := range []Strategy{{}, {Recreate: true}} {
		w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.ProgressDeadlineSeconds = new(int32(3600)) }), func(o *Options) { o.Strategy = s })
		w.refuse = refusesCopies
		w.Ship("v2")
		untilPhase(t, w, promoting)
		w.Run(10 * time.Minute)
		statuses, calls := w.statuses, w.calls
		w.Run(20 * time.Minute)
		if wrote, called := w.statuses-statuses, w.calls-calls; wrote > 2*20 || called > 4*20 {
			t.Errorf("%+v: %d status writes and %d calls in 20 intervals", s, wrote, called)
		}
	}
}

// An approval is about the moment: a change that has to wait for others asks again when it can begin.
func TestApprovalDoesNotOutlastAWaitForOthers(t *testing.T) {
	for name, hold := range map[string]func(w *World, on bool){
		"turn": func(w *World, on bool) {
			w.opts.Adapt = func(f *rollout.Facts) { f.OthersFirst = on }
		},
		"correction": func(w *World, on bool) {
			w.SetProblem(nil)
			if on {
				w.SetProblem(scalerGone())
			}
		},
	} {
		open := false
		w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook)), func(o *Options) {
			o.Hooks = func(*World, v1beta1.HookType, string) rollout.HookResult {
				return rollout.HookResult{Passed: open, Text: "no"}
			}
			o.Delay = func(*World, rollout.Need) time.Duration { return 10 * time.Second }
		})
		w.Ship("v2")
		untilPhase(t, w, waiting)
		until(t, w, "question", time.Hour, func() bool { return len(asked(w, v1beta1.ConfirmRolloutHook)) == 2 })
		open = true
		hold(w, true)
		w.Run(time.Minute)
		open = false
		w.Run(3 * time.Hour)
		hold(w, false)
		w.Run(5 * time.Minute)
		if w.Status().Phase != waiting {
			t.Errorf("%s: phase %s behind a closed gate\n%s", name, w.Status().Phase, trace(w))
		}
	}
}

// A promotion that is blocked leads nobody to a primary that dies.
func TestBlockedPromotionLeavesADeadPrimary(t *testing.T) {
	w := ready(t, podinfo(), func(o *Options) { o.Behaviors = map[string]Behavior{"v2": {Startup: 90 * time.Second}} })
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.Run(time.Second)
	w.SetProblem(scalerGone())
	w.breakPrimary()
	w.primary.evict(len(w.primary.pods))
	w.primary.patient = true
	w.settleCluster()
	for _, d := range []time.Duration{time.Minute, 13 * time.Minute, 3 * time.Hour} {
		w.Run(d)
		if w.Status().CanaryWeight != 100 || w.routed.CanaryWeight != 100 {
			t.Errorf("phase %s: canary weight %d, routed %d, while the primary has no pods", w.Status().Phase, w.Status().CanaryWeight, w.routed.CanaryWeight)
		}
	}
}

// A gate that thinks for half an hour hides nothing of what the metrics show meanwhile.
func TestSlowGateHidesNoMetrics(t *testing.T) {
	bad := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmPromotionHook), threshold(2)), func(o *Options) {
		o.Metrics = func(*World, string) analysis.Verdict {
			if bad {
				return analysis.Verdict{Outcome: analysis.Fail, Message: "success rate 0% < 99%"}
			}
			return analysis.Verdict{Outcome: analysis.Pass}
		}
		o.Delay = func(_ *World, n rollout.Need) time.Duration {
			if q, ok := n.(rollout.NeedHooks); ok && q.Type == v1beta1.ConfirmPromotionHook {
				return 30 * time.Minute
			}
			return 0
		}
	})
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.Run(61 * time.Second)
	bad = true
	w.Run(10 * time.Minute)
	if w.Status().Phase != failed || w.primary.template != "v1" {
		t.Errorf("phase %s with %s on the primary ten minutes after the metrics turned bad\n%s", w.Status().Phase, w.primary.template, trace(w))
	}
}

// A primary has the deadline from the moment at which its copy is accepted, however long the interval is.
func TestCopyThatWasRefusedTakesNoTimeFromThePrimary(t *testing.T) {
	for _, interval := range []string{"60s", "30m"} {
		w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.Analysis.Interval = interval }), func(o *Options) {
			o.Behaviors = map[string]Behavior{"v2": {Startup: 90 * time.Second}}
		})
		w.refuse = refusesCopies
		w.Ship("v2")
		untilPhase(t, w, promoting)
		w.Run(8*time.Minute + 30*time.Second)
		w.refuse = nil
		w.Run(time.Hour)
		if w.Status().Phase != succeeded {
			t.Errorf("interval %s: phase %s, %s", interval, w.Status().Phase, message(w, v1beta1.HealthyType))
		}
	}
}

// A canary that its autoscaler takes down while the copy is refused gets its pods again.
func TestIdleCanaryIsHeldForAHandover(t *testing.T) {
	w := world(podinfo(scaled, func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }), func(o *Options) { o.Strategy = Strategy{Recreate: true} })
	w.scaler = autoscaler{exists: true, idle: true}
	rest(t, w, initialized)
	w.refuse = refusesCopies
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.Run(2 * time.Minute)
	w.refuse = nil
	w.Run(2 * time.Hour)
	if w.Status().Phase != succeeded || w.PrimaryTemplate() != "v2" {
		t.Errorf("phase %s with %s on the primary: %s", w.Status().Phase, w.PrimaryTemplate(), message(w, v1beta1.HealthyType))
	}
}

// What a paused target was changed to is not rolled out by making a Canary for it.
func TestPausedTargetIsNotCopiedBeforeItsPodsRunIt(t *testing.T) {
	w := world(podinfo())
	w.Pause(true)
	w.Ship("v2")
	w.Run(time.Hour)
	if w.primary.exists {
		t.Errorf("the primary was made from %s, which no pod of the target has run", w.primary.template)
	}
	w.Pause(false)
	rest(t, w, initialized)
	if w.primary.template != "v2" {
		t.Errorf("the primary runs %s", w.primary.template)
	}
}
