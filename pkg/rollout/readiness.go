package rollout

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Tools of GitOps wait for objects by conventions that kstatus of sigs.k8s.io/cli-utils has written down: an object is current when
// Ready is true, in progress while Reconciling is true or status.observedGeneration is behind, failed when Stalled is true.
// Flagger's Canaries have none of these, so that a tool that waits for all it applies goes on at once. That is why they are asked for:
// whoever has such waits today would wait for whole rollouts, and run into deadlines.

// settleReadiness writes these conditions, from the phase and the Healthy condition as they are by now.
func (p *pass) settleReadiness() {
	if !p.f.Settings.Readiness || p.next.Phase == "" {
		p.next.ObservedGeneration = 0
		p.dropConditions(v1beta1.ReadyType, v1beta1.ReconcilingType, v1beta1.StalledType)
		return
	}
	p.next.ObservedGeneration = p.c.Generation
	reason, message := string(p.next.Phase), ""
	if promoted := condition(p.next, v1beta1.PromotedType); promoted != nil {
		message = promoted.Message
	}
	verdict := p.readiness()
	if healthy := condition(p.next, v1beta1.HealthyType); verdict.troubled {
		reason, message = healthy.Reason, healthy.Message
	}
	p.setCondition(v1beta1.ReadyType, verdict.ready, reason, message)
	// One of them at the most: both would count as in progress.
	p.holds(v1beta1.ReconcilingType, verdict.reconciling, reason, message)
	p.holds(v1beta1.StalledType, verdict.stalled, reason, message)
}

// holds writes a condition that is there only as long as it is true.
func (p *pass) holds(t v1beta1.CanaryConditionType, is bool, reason, message string) {
	if !is {
		p.dropConditions(t)
		return
	}
	p.setCondition(t, corev1.ConditionTrue, reason, message)
}

// readiness is how far a Canary is from what was asked for.
type readiness struct {
	ready                corev1.ConditionStatus
	reconciling, stalled bool
	// troubled is whether the Healthy condition is the reason, and not the phase.
	troubled bool
}

func (p *pass) readiness() readiness {
	trouble := ReasonHealthy
	if healthy := condition(p.next, v1beta1.HealthyType); healthy != nil && healthy.Status == corev1.ConditionFalse {
		trouble = ProblemReason(healthy.Reason)
	}
	atRest := p.next.Phase == v1beta1.CanaryPhaseInitialized || p.next.Phase == v1beta1.CanaryPhaseSucceeded
	switch {
	case trouble == ReasonInvalidSpec || trouble == ReasonDuplicateTarget:
		// Time does not mend it.
		return readiness{ready: corev1.ConditionFalse, stalled: true, troubled: true}
	case (atRest || p.next.Phase == v1beta1.CanaryPhaseFailed) && slices.Contains(beforeStart(), trouble):
		// A change after one that was rejected, too: that it waits is told, and no more of the one before.
		return readiness{ready: corev1.ConditionFalse, reconciling: true, troubled: true}
	case p.next.Phase == v1beta1.CanaryPhaseFailed:
		return readiness{ready: corev1.ConditionFalse, stalled: true}
	case atRest && slices.Contains(heldBack(), trouble):
		return readiness{ready: corev1.ConditionFalse, reconciling: true, troubled: true}
	case atRest:
		return readiness{ready: corev1.ConditionTrue}
	}
	return readiness{ready: corev1.ConditionUnknown, reconciling: true, troubled: trouble != ReasonHealthy && trouble != ReasonSuspended}
}

// heldBack are the troubles that keep a Canary at rest from what was asked for. The others are told and change nothing.
func heldBack() []ProblemReason {
	return []ProblemReason{
		ReasonTargetNotFound, ReasonReadFailed, ReasonApplyFailed, ReasonPrimaryNotReady, ReasonRoutesNotSettled,
		ReasonNoReadyCapacity, ReasonInternalError, ReasonContended, ReasonConfigNotFound, ReasonScalerNotFound, ReasonTargetPaused,
	}
}

// dropConditions removes what nobody asks for any more.
func (p *pass) dropConditions(types ...v1beta1.CanaryConditionType) {
	p.next.Conditions = slices.DeleteFunc(p.next.Conditions, func(c v1beta1.CanaryCondition) bool { return slices.Contains(types, c.Type) })
}
