package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// UnderWay is whether a phase counts towards the limit of rollouts at the same time.
func UnderWay(phase v1beta1.CanaryPhase) bool {
	switch phase {
	case v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseWaitingPromotion, v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising:
		return true
	default:
		return false
	}
}

// stillWaiting keeps a change waiting whose rollout was allowed by everybody but has no turn yet. The gate was asked already,
// and is asked again at its turn.
func stillWaiting(p *pass) bool {
	return p.healthReason() == ReasonWaitingForTurn && waitForTurn(p)
}

// waitForTurn puts the start of a rollout off while too many others are under way. Whatever is the newest revision when its
// turn comes is what is analyzed.
func waitForTurn(p *pass) bool {
	if !p.f.OthersFirst || !p.resting() && !p.inPhase(v1beta1.CanaryPhaseWaiting) {
		return false
	}
	p.keepWaiting()
	p.fail(ReasonWaitingForTurn, "New revision of %s detected, waiting to be rolled out: no more than %d rollouts run at the same time "+
		"(flag -max-concurrent-rollouts)", p.targetName(), p.f.Settings.MaxRollouts)
	return true
}

// keepWaiting looks after a Canary whose change waits.
func (p *pass) keepWaiting() {
	p.leaveDeadCanary()
	if p.inPhase(v1beta1.CanaryPhaseWaiting) && p.rollbackHooks() && p.due() {
		// The hook that may refuse the revision goes on to be asked once in an interval.
		p.tellRollbackRefused()
		p.pace()
	}
}
