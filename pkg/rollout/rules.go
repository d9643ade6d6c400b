package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// rule is one rung of the ladder. It reports whether it settles the pass; a rule that does not leaves the pass as it found
// it, but for notices that stay true whatever follows.
type rule struct {
	name  string
	apply func(*pass) bool
}

// chain lists the rules in order. The first that applies decides.
func chain() []rule {
	return []rule{
		{"terminating", terminating},
		{"finalizer", finalizer},
		{"suspended", suspended},
		{"target-gone", targetGone},
		{"blocked", blocked},
		{"adopt", adopt},
		{"bootstrap", bootstrap},
		{"primary-missing", primaryMissing},
		{"reverted", reverted},
		{"settled", settled},
		{"change-withdrawn", changeWithdrawn},
		{"waiting-rollback", waitingRollback},
		{"waiting-paused", waitingPaused},
		{"still-waiting", stillWaiting},
		{"confirm-rollout", confirmRollout},
		{"wait-for-schedule", waitForSchedule},
		{"wait-for-canaries", waitForCanaries},
		{"wait-for-turn", waitForTurn},
		{"start", start},
		{"cancel", cancel},
		{"paused", pausedUnderWay},
		{"restart", restart},
		{"retreat", retreat},
		{"threshold", threshold},
		{"rollback-hook", rollbackHook},
		{"canary-not-ready", canaryNotReady},
		{"skip", skip},
		{"strategy-changed", strategyChanged},
		{"promoting", promoting},
		{"finalising", finalising},
		{"routes-not-settled", routesNotSettled},
		{"not-due", notDue},
		{"primary-not-ready", primaryNotReady},
		{"await-rollback-hook", awaitRollbackHook},
		{"contended", contended},
		{"pre-rollout", preRollout},
		{"analysis", judge},
		{"outside-schedule", outsideSchedule},
		{"advance", advance},
	}
}

// Rules returns the names of all rules in their order.
func Rules() []string {
	var names []string
	for _, r := range chain() {
		names = append(names, r.name)
	}
	return names
}

// Decide applies the rules to the facts. The same facts give the same decision.
func Decide(f Facts) Decision {
	p := newPass(&f)
	for _, r := range chain() {
		if r.apply(p) {
			return p.finish(r.name)
		}
	}
	return p.finish("none")
}

// suspended touches nothing: Services, routes and weights stay as they are.
func suspended(p *pass) bool {
	if !p.c.Spec.Suspend {
		if p.healthReason() == ReasonSuspended && p.st.StageStartedAt != nil {
			// Nothing could get ready on time meanwhile.
			p.st.StageStartedAt = micro(p.f.Now)
			p.st.UnreadySince = nil
		}
		return false
	}
	p.detect()
	p.frozen = true
	p.fail(ReasonSuspended, "skipping canary run as object is suspended")
	return true
}

// targetGone leads all requests away from a target that was deleted under way. The rest waits until it is back.
func targetGone(p *pass) bool {
	gone := p.f.Problem != nil && p.f.Problem.Reason == ReasonTargetNotFound
	if !gone || !p.f.Provider.Routes || p.f.Primary.Available == 0 || !p.sendsToCanary() && !p.routedToCanary() {
		return false
	}
	p.frozen = true
	p.problem = p.f.Problem
	p.next.Iterations = 0
	p.routeToPrimary()
	p.writeFrozenRoutes()
	return true
}

// detect notes that a Canary was seen that is not looked after yet.
func (p *pass) detect() {
	if unknown := p.f.Problem != nil && p.f.Problem.Unknown; p.next.Phase == "" && !unknown {
		p.next.Phase = v1beta1.CanaryPhaseInitializing
	}
}

// writeFrozenRoutes writes routes that lead nothing to the canary, not even what a cookie binds to it.
func (p *pass) writeFrozenRoutes() {
	p.settleCookies()
	p.do(EnsureRoutes{})
}

// primaryMissing rebuilds a primary that somebody deleted, from the revision that was promoted last and whatever the target
// asks for now.
func primaryMissing(p *pass) bool {
	if p.f.Primary.Exists || p.promotesAll() {
		return false
	}
	if !p.promotedKnown() {
		p.replaceUnknownPrimary()
		return true
	}
	if p.f.ApplyError != "" {
		p.fail(ReasonPrimaryNotReady, "%s is missing and can't be made again: %s", p.primaryName(), p.f.ApplyError)
	} else {
		p.fail(ReasonPrimaryNotReady, "%s is missing: making it again from the promoted revision", p.primaryName())
	}
	p.do(EnsurePrimary{Revision: revisionOf(p.st.Promoted)})
	return true
}

// replaceUnknownPrimary begins anew with the next revision of the target when nobody can tell what the primary ran: there is
// nothing to compare that revision with.
func (p *pass) replaceUnknownPrimary() {
	if !p.moved() {
		p.fail(ReasonPrimaryNotReady, "%s is missing and what it ran is not known: change the pod template of %s, or set status.phase of %s "+
			"to nothing, and it is made anew from %s", p.primaryName(), p.targetName(), p.canaryName(), p.targetName())
		return
	}
	p.frozen = true
	p.beginBootstrap()
	p.fail(ReasonPrimaryNotReady, "%s is missing and what it ran is not known: making it anew from %s", p.primaryName(), p.targetName())
}

// reverted notes that the target is back at the promoted revision, so that the one it came from counts as new again.
func reverted(p *pass) bool {
	if !p.resting() || !p.moved() || !p.backToPromoted() {
		return false
	}
	p.returnToPromoted()
	return true
}

// settled has nothing to do: this is where an idle Canary ends. Only while the metric providers were found missing does it
// ask again, of which nothing is written.
func settled(p *pass) bool {
	if !p.resting() || p.superseded() {
		return false
	}
	reason := p.healthReason()
	if reason == ReasonMetrics || p.inPhase(v1beta1.CanaryPhaseInitialized) && p.st.NextCheckAt != nil {
		p.askProviders()
	}
	p.lookAfterRest()
	return true
}

// lookAfterRest does what goes on whatever is to be rolled out next.
func (p *pass) lookAfterRest() {
	if p.st.Stage == stageRollback {
		p.finishRollback()
	} else {
		p.keepWithoutPods()
		p.letScale()
	}
	p.leaveDeadCanary()
	if p.healthReason() == ReasonPromotionFailed {
		p.keepHealth = p.canaryServes() || p.f.Primary.Health.State != Ready
	}
	p.watchPrimary()
	p.watchContent()
	if p.problem == nil && !p.keepHealth && p.pausedChange() {
		p.failPaused()
	}
}

// watchPrimary tells when nobody is left to answer. A primary that is merely short of a pod is the business of its own
// controllers, and one that its autoscaler took to zero is meant to be there.
func (p *pass) watchPrimary() {
	leads := p.f.Services.ApexInPlace && (p.f.Routes.InPlace || !p.f.Provider.Routes)
	lost := leads && p.f.Primary.Available == 0 && (p.f.Primary.Replicas > 0 || !p.f.Scaler.AdmitsZero)
	switch told := p.healthReason() == ReasonPrimaryNotReady; {
	case p.healthReason() == ReasonPromotionFailed || p.canaryServes():
	case lost && p.f.Port.State == PortMissing:
		p.keepHealth = false
		p.failPort()
	case lost:
		p.keepHealth = false
		p.fail(ReasonPrimaryNotReady, "%s has no ready pods: nobody answers the requests for %s", p.primaryName(), p.canaryName())
	case told:
		// Pods that come and go are told of once in an interval.
		again := condition(&p.c.Status, v1beta1.HealthyType).LastUpdateTime.Add(p.interval())
		if p.f.Now.Before(again) {
			p.keepHealth = true
			p.wakeAt(again)
		}
	}
}

// watchContent tells when the primary is not what was promoted, where there is nothing worse to tell. Whoever changed it may
// have had a reason, so it stays as it is until the next promotion.
func (p *pass) watchContent() {
	told := p.problem != nil || p.keepHealth
	switch lost := p.f.Copies.Lost; {
	case told || !p.promotedKnown():
	case p.primaryEdited():
		p.fail(ReasonPrimaryChanged, "%s is not what was promoted, somebody changed its pod template: undo that, or roll out another revision of %s",
			p.primaryName(), p.targetName())
	case lost != "":
		p.fail(ReasonPrimaryChanged, "%s, which %s reads, has not the content that was promoted, and that is kept nowhere: give it back to %s, "+
			"or roll out another revision of %s", lost, p.primaryName(), p.f.Copies.Source, p.targetName())
	}
}

// primaryEdited is whether the primary is not what was promoted. Where nothing is recorded on it, that is known if it differs from a
// target which is at that revision.
func (p *pass) primaryEdited() bool {
	primary := p.f.Primary
	return primary.Exists && primary.Copy == "" && (primary.Edited || p.f.Target.Revision.Fingerprint == p.st.Promoted.Fingerprint)
}

// threshold takes a canary back that failed as many checks as its analysis allows.
func threshold(p *pass) bool {
	if !p.running() || p.c.SkipAnalysis() || p.next.FailedChecks < p.c.GetAnalysisThreshold() {
		return false
	}
	n := p.warning("Rolling back %s failed checks threshold reached %v", p.canaryName(), p.next.FailedChecks)
	alert(n, v1beta1.SeverityError, "Failed checks threshold reached %v", p.next.FailedChecks)
	p.rollBack()
	return true
}

// routesNotSettled waits until the step at hand is in force before it is judged.
func routesNotSettled(p *pass) bool {
	if !p.running() || !p.f.Provider.Routes || p.heldByOthers() {
		return false
	}
	if !p.f.Routes.InPlace {
		if p.primaryLost() {
			return true
		}
		p.keepHealth = p.f.ApplyError == ""
		if p.changeRefused() {
			p.exceedDeadline(p.f.ApplyError)
		}
		return true
	}
	p.clocks().Change = nil
	if !p.denied() {
		p.stop(&p.clocks().Routes)
		return false
	}
	if p.tellDenied() && p.expired(&p.clocks().Routes) {
		p.exceedDeadline(p.deniedText())
	}
	return true
}

// primaryLost is whether routes that somebody changed can't be repaired because the primary, which is to get more, has no pods.
// When those don't come for as long as the deadline, the canary, which has some, gets all requests.
func (p *pass) primaryLost() bool {
	if p.hasCapacity() || p.f.Primary.Available > 0 || p.canaryServes() {
		return false
	}
	if p.f.Primary.Health.State == Stuck || p.expired(&p.clocks().Primary) {
		p.normal("%s %s, routing all traffic to canary", p.primaryName(), p.noReadyPods(p.f.Port.State))
		p.letCanaryServe()
	}
	return true
}

// exceedDeadline takes a canary back that did not get on for as long as the progress deadline.
func (p *pass) exceedDeadline(reason string) {
	n := p.warning("Rolling back %s progress deadline exceeded %s", p.canaryName(), reason)
	alert(n, v1beta1.SeverityError, "Progress deadline exceeded %s", reason)
	p.rollBack()
}

// notDue waits for the next analysis step.
func notDue(p *pass) bool {
	if !p.running() || p.due() {
		return false
	}
	p.keepStepHealth()
	return true
}

// primaryNotReady holds the analysis while the primary is on its way to be ready, up to the deadline. A primary that is
// stuck holds nothing: the revision under analysis may be what mends it.
func primaryNotReady(p *pass) bool {
	if !p.running() || p.canaryServes() || p.f.Primary.Health.State == Stuck {
		return false
	}
	if p.f.Primary.Health.State == Ready {
		p.clocks().Primary = nil
		return false
	}
	p.fail(ReasonPrimaryNotReady, "%s", p.primaryUnready(p.f.Primary.Health.Reason))
	return !p.expired(&p.clocks().Primary)
}
