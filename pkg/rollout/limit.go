package rollout

import (
	"fmt"

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

// waitForTurn puts the start of a rollout off while too many others are under way. Whatever is the newest revision when its
// turn comes is what is analyzed.
func waitForTurn(p *pass) bool {
	if !p.f.OthersFirst || !p.mayStart() {
		return false
	}
	p.keepWaiting()
	w, q := p.waiting(), p.f.Queue
	if MovedUp(w.Position, q.Position) || MovedUp(w.PositionInNamespace, q.InNamespace) {
		w.Position, w.PositionInNamespace = q.Position, q.InNamespace
	}
	p.failOnce(ReasonWaitingForTurn, p.turnMessage(w))
	return true
}

// MovedUp is whether a place in the queue is worth a write, given what was written, 0 for nothing. Of a thousand changes that wait each
// moves up a thousand times: that it has half of its way left is said ten times at the most.
func MovedUp(written, place int32) bool {
	if written == 0 || place == 0 {
		return written != place
	}
	return 2*place <= written
}

func (p *pass) turnMessage(w *v1beta1.WaitingStatus) string {
	detected := fmt.Sprintf("New revision of %s detected, waiting to be rolled out: no more than ", p.targetName())
	switch all, each := p.f.Settings.MaxRollouts, p.f.Settings.MaxRolloutsPerNamespace; {
	case each == 0:
		return detected + fmt.Sprintf("%d rollouts run at the same time (flag -max-concurrent-rollouts), number %d in the queue", all, w.Position)
	case all == 0:
		return detected + fmt.Sprintf("%d rollouts of a namespace run at the same time (flag -max-concurrent-rollouts-per-namespace), "+
			"number %d in the queue", each, w.PositionInNamespace)
	default:
		return detected + fmt.Sprintf("%d rollouts run at the same time, and %d of a namespace (flags -max-concurrent-rollouts and "+
			"-max-concurrent-rollouts-per-namespace), number %d in the queue, number %d of its namespace", all, each, w.Position,
			w.PositionInNamespace)
	}
}
