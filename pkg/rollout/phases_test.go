package rollout

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// The phase that webhooks are told, by the table of contract section 5.2.
func TestPhaseToldToWebhooks(t *testing.T) {
	const (
		initialized      = v1beta1.CanaryPhaseInitialized
		waiting          = v1beta1.CanaryPhaseWaiting
		progressing      = v1beta1.CanaryPhaseProgressing
		waitingPromotion = v1beta1.CanaryPhaseWaitingPromotion
		succeeded        = v1beta1.CanaryPhaseSucceeded
		failed           = v1beta1.CanaryPhaseFailed
	)
	changed := targetRuns("2", 2)
	for name, c := range map[string]struct {
		hook  v1beta1.HookType
		facts Facts
		want  v1beta1.CanaryPhase
	}{
		"confirm-rollout, first":          {v1beta1.ConfirmRolloutHook, facts(initialized, changed), initialized},
		"confirm-rollout after a success": {v1beta1.ConfirmRolloutHook, facts(succeeded, changed), succeeded},
		"confirm-rollout after a failure": {v1beta1.ConfirmRolloutHook, facts(failed, changed), failed},
		"confirm-rollout, waiting":        {v1beta1.ConfirmRolloutHook, facts(waiting, changed), waiting},
		"rollback, waiting":               {v1beta1.RollbackHook, facts(waiting, changed), waiting},
		"pre-rollout":                     {v1beta1.PreRolloutHook, facts(progressing, running(0), stage(stagePreRollout)), progressing},
		"rollout":                         {v1beta1.RolloutHook, facts(progressing, running(10)), progressing},
		"rollout, waiting for promotion":  {v1beta1.RolloutHook, facts(waitingPromotion, running(30)), progressing},
		"more traffic":                    {v1beta1.ConfirmTrafficIncreaseHook, facts(progressing, running(10)), progressing},
		"promotion":                       {v1beta1.ConfirmPromotionHook, facts(progressing, running(30)), progressing},
		"promotion, waiting":              {v1beta1.ConfirmPromotionHook, facts(waitingPromotion, running(30)), progressing},
		"rollback":                        {v1beta1.RollbackHook, facts(progressing, running(10)), progressing},
		"rollback, waiting for promotion": {v1beta1.RollbackHook, facts(waitingPromotion, running(30)), waitingPromotion},
	} {
		t.Run(name, func(t *testing.T) {
			hook(c.hook)(&c.facts)
			d := Decide(c.facts)
			if len(d.Needs) != 1 {
				t.Fatalf("rule %s needs %v", d.Rule, d.Needs)
			}
			if n, ok := d.Needs[0].(NeedHooks); !ok || n.Type != c.hook || n.Phase != c.want {
				t.Errorf("asks %+v, want %s with phase %s", d.Needs[0], c.hook, c.want)
			}
		})
	}
}
