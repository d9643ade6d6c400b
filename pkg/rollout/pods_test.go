package rollout

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A target without pods of its own goes through every phase that would scale one with pods.
func TestUnscalableTarget(t *testing.T) {
	unscalable := func(f *Facts) {
		f.Canary.Spec.TargetRef.Kind = "Service"
		f.Target.Unscalable, f.Primary.Unscalable = true, true
		f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
	}
	copied := func(f *Facts) {
		running(0)(f)
		f.Primary.Copy = f.Target.Revision.Fingerprint
	}
	for name, c := range map[string]struct {
		phase, next v1beta1.CanaryPhase
		edits       []edit
	}{
		"bootstrap": {v1beta1.CanaryPhaseInitializing, v1beta1.CanaryPhaseInitialized, []edit{stage(stageRouting)}},
		"promotion": {v1beta1.CanaryPhaseFinalising, v1beta1.CanaryPhaseSucceeded, []edit{copied}},
		"rollback":  {v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseFailed, []edit{running(0), stage(stageRollback)}},
		"start":     {v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseProgressing, []edit{targetRuns("2", 2)}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(facts(c.phase, append(c.edits, unscalable)...))
			if d.Status.Phase != c.next || len(d.Actions) > 0 {
				t.Errorf("phase %q with the actions %#v, want %q and none", d.Status.Phase, d.Actions, c.next)
			}
		})
	}
}
