package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// scaled gives the target an autoscaler that leaves it without pods while there is no work.
func scaled(s *v1beta1.CanarySpec) {
	s.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: "ScaledObject", Name: "podinfo"}
}

// idle is a cluster whose Canary was initialized and whose autoscaler has taken the primary to zero since.
func idle(t *testing.T, edits ...func(*v1beta1.CanarySpec)) *World {
	t.Helper()
	w := world(podinfo(append(edits, scaled)...))
	w.scaler = autoscaler{exists: true, idle: true}
	rest(t, w, initialized)
	atZero(t, w)
	return w
}

func atZero(t *testing.T, w *World) {
	t.Helper()
	until(t, w, "no pods", time.Minute, func() bool { return w.primary.replicas == 0 && w.target.replicas == 0 })
	if condition(w, v1beta1.HealthyType) != string(rollout.ReasonHealthy) {
		t.Errorf("told %q", message(w, v1beta1.HealthyType))
	}
}

// A workload that nobody asks anything of is rolled out like any other: both sides have pods as long as that takes, the primary is
// seen to run the new revision, and goes back to zero.
func TestIdleWorkloadIsRolledOut(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){
		"weights": threshold(1), "blue/green": blueGreen(2), "skip": func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := idle(t, edit)
			begin := w.Now()
			w.Ship("v2")
			untilPhase(t, w, finalising)
			if w.primary.available(w.now) == 0 {
				t.Error("the primary was not seen to run the new revision")
			}
			rest(t, w, succeeded)
			if took := w.Now() - begin; took > 12*time.Minute {
				t.Errorf("took %s", took)
			}
			atZero(t, w)
			if w.PrimaryTemplate() != "v2" {
				t.Errorf("the primary runs %s", w.PrimaryTemplate())
			}
			sound(t, w)
		})
	}
}

// One that fails goes back to a primary with pods.
func TestIdleWorkloadIsRolledBack(t *testing.T) {
	w := idle(t, threshold(2))
	w.opts.Metrics = func(*World, string) analysis.Verdict {
		return analysis.Verdict{Outcome: analysis.Fail, Message: "Halt podinfo.default advancement no values found"}
	}
	w.Ship("v2")
	rest(t, w, failed)
	atZero(t, w)
	if w.PrimaryTemplate() != "v1" {
		t.Errorf("the primary runs %s", w.PrimaryTemplate())
	}
	sound(t, w)
}

// A deletion does not wait for pods that the autoscaler of the target means it not to have.
func TestIdleWorkloadIsHandedBack(t *testing.T) {
	w := idle(t, revertOnDeletion)
	w.Delete()
	if !w.Run(time.Hour) {
		t.Errorf("phase %s, stage %s\n%s", w.Status().Phase, w.Status().Rollout.Stage, trace(w))
	}
	sound(t, w)
}
