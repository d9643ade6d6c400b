package rollout

import (
	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A change that nobody refuses may have to wait for others before its rollout begins. It stays where it is, at rest or in Waiting, and
// the record says since when, so that it keeps its place whatever else goes wrong meanwhile and whoever leads by then.

// beforeStart are the reasons that keep a change from its start which nobody refused.
func beforeStart() []ProblemReason {
	return []ProblemReason{ReasonWaitingForTurn, ReasonWaitingForCanaries, ReasonWaitingForSchedule}
}

// Pending is whether the target asks for something whose rollout has not begun. It is what a change may have to wait with.
func Pending(f *Facts) bool {
	s := &f.Canary.Status
	switch s.Phase {
	case v1beta1.CanaryPhaseWaiting:
		return true
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed:
		return s.Rollout == nil || !same(f.Target.Revision, s.Rollout.Target)
	default:
		return false
	}
}

// stillWaiting keeps a change waiting whose rollout was allowed by everybody but others, who come first. The gate was asked already,
// and is asked again when the rollout can begin.
func stillWaiting(p *pass) bool {
	waits := p.st.Waiting != nil || p.healthReason() == ReasonWaitingForTurn
	return waits && (waitForSchedule(p) || waitForCanaries(p) || waitForTurn(p))
}

// mayStart is whether a rollout begins unless something keeps it.
func (p *pass) mayStart() bool { return p.resting() || p.inPhase(v1beta1.CanaryPhaseWaiting) }

// waiting is the record of the wait, which begins now unless it has begun.
func (p *pass) waiting() *v1beta1.WaitingStatus {
	if p.st.Waiting != nil {
		return p.st.Waiting
	}
	since := micro(p.f.Now)
	if p.healthReason() == ReasonWaitingForTurn {
		// The condition is older than the record: an earlier version of the operator wrote it.
		since = micro(condition(&p.c.Status, v1beta1.HealthyType).LastTransitionTime.Time)
	}
	p.st.Waiting = &v1beta1.WaitingStatus{Since: *since}
	return p.st.Waiting
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

// settleWaiting drops the record with the wait, and the place in the queue with the wait for a turn. A target that can't be read has not
// changed back.
func (p *pass) settleWaiting() {
	w := p.st.Waiting
	switch healthy := condition(p.next, v1beta1.HealthyType); {
	case w == nil:
	case !p.waitsToStart() && (p.f.Target.Revision.Fingerprint != "" || !p.resting()):
		p.st.Waiting = nil
	case healthy == nil || healthy.Status != corev1.ConditionFalse || healthy.Reason != string(ReasonWaitingForTurn):
		w.Position, w.PositionInNamespace = 0, 0
	}
}
