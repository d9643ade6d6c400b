package rollout

import (
	"fmt"
	"slices"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// holdsFinalizer is whether our finalizer keeps the Canary from vanishing.
func (p *pass) holdsFinalizer() bool { return slices.Contains(p.c.Finalizers, v1beta1.Finalizer) }

// finalizer makes sure, before anything is taken over, that a deletion waits until the target has its traffic back, or until
// routes are gone that nobody else would delete. It lets go as soon as nobody wants that any more.
func finalizer(p *pass) bool {
	has, wants := p.holdsFinalizer(), p.c.Spec.RevertOnDeletion || p.f.Routes.Outlasting
	if has == wants || p.f.Problem != nil && (p.f.Problem.Unknown || !p.tookOver()) {
		return false
	}
	p.frozen, p.keepHealth = true, true
	if wants {
		p.do(AddFinalizer{})
	} else {
		p.do(RemoveFinalizer{})
	}
	return true
}

// onDeletion says what a deletion of the Canary would do, whatever its rollout has come to. It is empty before the Canary leads to
// its primary, and where no request depends on the answer: a target without pods of its own serves as before, and a primary of the user's own stays.
func (p *pass) onDeletion() string {
	if p.next.Phase == "" || p.next.Phase == v1beta1.CanaryPhaseInitializing || p.st.Target == nil {
		return ""
	}
	target, primary, reverts := p.targetName(), p.primaryName(), p.c.Spec.RevertOnDeletion
	switch {
	case p.c.IsKnative() && !reverts:
		return fmt.Sprintf("a deletion leaves spec.traffic of %s at the promoted revision unless spec.revertOnDeletion is set", target)
	case (p.f.Target.Unscalable || p.c.HasOwnPrimary()) && !reverts:
		return ""
	case p.f.Target.Unscalable:
		return fmt.Sprintf("a deletion gives %s its traffic back first", target)
	case p.c.HasOwnPrimary():
		return fmt.Sprintf("a deletion gives %s its pods and its traffic back first", target)
	case !reverts:
		return fmt.Sprintf("a deletion takes %s away and gives %s no pods: requests are lost unless spec.revertOnDeletion is set", primary, target)
	case p.f.Provider.Name == v1beta1.ExternalProvider:
		return fmt.Sprintf("a deletion gives %s its pods and its Service back before %s goes: lead the traffic there meanwhile", target, primary)
	}
	return fmt.Sprintf("a deletion gives %s its pods and its traffic back before %s goes", target, primary)
}

// terminating hands a Canary that is being deleted back to its user: target, then traffic, and only then the Canary goes and
// the garbage collector takes the primary. No other rule runs meanwhile, and nothing leads the traffic to the primary again.
func terminating(p *pass) bool {
	if p.c.DeletionTimestamp.IsZero() {
		return false
	}
	p.frozen = true
	switch {
	case !p.holdsFinalizer():
		p.keepHealth = true
	case !p.c.Spec.RevertOnDeletion:
		p.keepHealth = true
		p.leaveNoRoutes()
	case p.inPhase(v1beta1.CanaryPhaseTerminated):
		p.letGo()
	case p.unreadable():
		p.tellHeld()
	case !p.inPhase(v1beta1.CanaryPhaseTerminating) || p.st.Stage == "" || p.st.StageStartedAt == nil:
		// Without a record of how far it came, as when another operator began it, a deletion starts over.
		p.beginTermination()
	default:
		p.handBack()
	}
	return true
}

// leaveNoRoutes lets a Canary that gives nothing back go once no routes are left that nobody else would delete.
func (p *pass) leaveNoRoutes() {
	switch {
	case !p.f.Routes.Outlasting:
		p.do(RemoveFinalizer{})
	case p.unreadable():
		p.tellHeld()
	default:
		p.tellHeld()
		p.do(RevertRouting{})
	}
}

// unreadable is whether what the Canary has to give back or to delete is not known.
func (p *pass) unreadable() bool { return p.f.Problem != nil && p.f.Problem.Unknown }

// tellHeld tells what keeps a deletion from reading or changing the objects that it has to, and the way out for those whom nobody
// can help: the cluster of the mesh may be gone for good.
func (p *pass) tellHeld() {
	held := Problem{Reason: ReasonApplyFailed, Message: p.f.ApplyError}
	if p.unreadable() {
		held = *p.f.Problem
	}
	if held.Message == "" {
		return
	}
	held.Message = fmt.Sprintf("%s: %s stays until that works; whoever removes its finalizer %s leaves behind what it made",
		held.Message, p.canaryName(), v1beta1.Finalizer)
	p.problem = &held
}

// tookOver is whether anything may lead to the primary by now. Without a record of ours, another operator may have seen to
// that.
func (p *pass) tookOver() bool {
	switch {
	case p.f.Problem != nil && p.f.Problem.Reason == ReasonDuplicateTarget:
		return false
	case !p.inPhase("", v1beta1.CanaryPhaseInitializing):
		return true
	case p.inPhase(v1beta1.CanaryPhaseInitializing) && (p.c.Status.Rollout == nil || p.c.Status.Rollout.Stage == stageRouting):
		return true
	case p.st.TargetRef != nil:
		// The primary has led before, and is only made again.
		return true
	}
	return !p.c.DeletionTimestamp.IsZero() && p.mayHaveTakenOver()
}

// mayHaveTakenOver is what the cluster says of a Canary whose status does not say that it took anything over: it may have been
// lost, or the primary may have been lost since. With a fault in the spec nobody knows what is to be given back, but a Canary
// that never worked has no primary.
func (p *pass) mayHaveTakenOver() bool {
	record := p.c.Status.Rollout
	lost := p.inPhase("") || record == nil || record.Target == nil
	return lost && p.f.Primary.Exists || !p.f.Reverted && (p.f.Problem == nil || p.f.Primary.Exists)
}

func (p *pass) beginTermination() {
	tookOver := p.tookOver()
	p.enter(v1beta1.CanaryPhaseTerminating, stageReturning)
	p.st.NextCheckAt = nil
	p.normal("Terminating canary %s", p.canaryName())
	if !tookOver {
		p.terminated()
		return
	}
	if !p.f.Target.Exists {
		return
	}
	if p.promotedKnown() && !same(p.f.Target.Revision, p.st.Promoted) {
		p.warning("%s is handed back with a revision that was not promoted", p.targetName())
	}
	p.restoreTarget()
}

// restoreTarget gives the target its pods back, once the last ones are seen to be gone.
func (p *pass) restoreTarget() {
	if !p.stopping() {
		p.do(RestoreTarget{})
	}
}

// handBack takes the next step of a deletion. Each of them needs a target that is there to serve.
func (p *pass) handBack() {
	if !p.targetReturned() {
		if p.st.Stage != stageReturning {
			p.enter(v1beta1.CanaryPhaseTerminating, stageReturning)
		}
		p.waitForTarget()
		p.leaveDeadTarget()
		return
	}
	if p.st.Stage == stageReturning {
		p.enter(v1beta1.CanaryPhaseTerminating, stageReverting)
	}
	if !p.f.Reverted {
		p.st.Stage = stageReverting
		p.problem = p.f.Problem
		p.tellHeld()
		p.do(RevertRouting{})
		return
	}
	if p.st.Stage == stageReverting {
		p.enter(v1beta1.CanaryPhaseTerminating, stageDraining)
	}
	until := p.st.StageStartedAt.Add(p.drainTime())
	if p.f.Now.Before(until) {
		p.wakeAt(until)
		return
	}
	p.terminated()
}

// targetReturned brings the target up and reports whether it can take the traffic back. One that is gone gets nothing back.
func (p *pass) targetReturned() bool {
	t, first := p.f.Target, p.st.Stage == stageReturning
	if !t.Exists {
		if first {
			p.warning("%s does not exist, %s ends with nothing to hand its traffic back to", p.targetName(), p.canaryName())
		}
		return true
	}
	// An autoscaler that holds less pods than the primary has is right in the end.
	fewer := first && t.Replicas < p.f.Primary.Replicas && p.c.Spec.AutoscalerRef == nil && p.f.Now.Before(p.returnDeadline())
	if p.takenDown() && !first {
		// It had pods, and its autoscaler took them away for want of work.
		return true
	}
	if p.takenDownAgain() {
		if !p.due() {
			return false
		}
		p.st.NextCheckAt = micro(p.f.Now.Add(p.interval()))
	}
	if p.lacksPods() || fewer || p.f.Scaler.PreviousPaused {
		p.restoreTarget()
		return false
	}
	return t.Health.State == Ready
}

// takenDownAgain is whether the autoscaler takes the pods away that the target gets and that do not get ready. It gets them once in an
// interval then, until somebody mends it.
func (p *pass) takenDownAgain() bool { return p.takenDown() && !p.f.Now.Before(p.returnDeadline()) }

// waitForTarget tells what keeps a deletion from going on.
func (p *pass) waitForTarget() {
	if p.takenDownAgain() && p.healthReason() == ReasonCanaryNotReady {
		p.keepHealth = true
		return
	}
	h, deadline := p.f.Target.Health, p.returnDeadline()
	reason := h.Reason
	if (h.State != Stuck || !p.reportedInStage(h)) && p.f.Now.Before(deadline) {
		p.fail(ReasonCanaryNotReady, "%s is to take its traffic back and is not ready: %s", p.targetName(), reason)
		p.wakeAt(deadline)
		return
	}
	p.fail(ReasonCanaryNotReady, "%s is to take its traffic back and does not get ready: %s: mend it, or set spec.revertOnDeletion "+
		"of %s to false to delete it as it is", p.targetName(), reason, p.canaryName())
}

// leaveDeadTarget leads the share of the traffic that a run had given to the target to the primary while the target has no
// pods for it.
func (p *pass) leaveDeadTarget() {
	if p.f.Target.Available > 0 || p.f.Primary.Available == 0 || !p.f.Provider.Routes || !p.f.Routes.Known {
		return
	}
	if p.next.CanaryWeight > 0 || p.st.Mirror {
		p.routeToPrimary()
		p.st.ServingSide = ""
	}
	if p.f.Routes.CanaryWeight > 0 || p.f.Routes.Mirror {
		p.do(EnsureRoutes{})
	}
}

// terminated says the last words. The Canary vanishes once they are told.
func (p *pass) terminated() {
	p.routeToPrimary()
	p.st.ServingSide = ""
	p.next.Iterations, p.next.FailedChecks = 0, 0
	p.enter(v1beta1.CanaryPhaseTerminated, "")
	p.normal("Terminated canary %s", p.canaryName())
}

// letGo gives the Canary to the garbage collector when nothing is left to tell: what is not told by then never will be.
func (p *pass) letGo() {
	if n := len(p.st.Outbox); n > 0 && p.st.Outbox[n-1].Sequence > p.f.Delivered {
		return
	}
	p.do(RemoveFinalizer{})
}

// returnDeadline is until when the target may take to get ready.
func (p *pass) returnDeadline() time.Time {
	if p.st.StageStartedAt == nil {
		return p.f.Now
	}
	return p.st.StageStartedAt.Add(p.deadline())
}
