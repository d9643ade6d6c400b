package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// blocked takes no step while the Canary can't run as written or the cluster can't be read: nobody knows when the Canary will
// be corrected. Users of the target are protected meanwhile, and a run does not wait for ever.
func blocked(p *pass) bool {
	problem := p.f.Problem
	if problem == nil {
		if c := p.st.UnreadySince; c != nil {
			c.Blocked = nil
		}
		return false
	}
	p.detect()
	p.frozen = true
	p.problem = problem
	if problem.Unknown {
		return true
	}
	if p.routable() {
		if p.inPhase(v1beta1.CanaryPhasePromoting) {
			p.coverPrimary()
		}
		p.leaveUncheckedCanary()
	}
	p.takeBackBlocked()
	p.problem = problem
	if p.routable() && (p.leadsUnwanted() || p.leadsTooFew()) {
		p.writeFrozenRoutes()
	}
	if p.actable() && p.f.Target.Exists && !p.inPhase("", v1beta1.CanaryPhaseInitializing) && p.promotedKnown() {
		primaryMissing(p)
	}
	return true
}

// actable is whether the workloads of a blocked Canary are known, and nobody else's.
func (p *pass) actable() bool {
	// A target without a name was not looked at.
	return p.f.Problem.Reason != ReasonDuplicateTarget && p.f.Target.Name != ""
}

// routable is whether the routes of a blocked Canary can be changed.
func (p *pass) routable() bool { return p.actable() && p.f.Provider.Routes && p.f.Routes.Known }

// leaveUncheckedCanary takes requests off a canary that died, or that became a revision which has passed no check. What was
// found out about the revision before goes with them.
func (p *pass) leaveUncheckedCanary() {
	if p.moved() {
		p.leaveServingCanary()
	}
	sent := p.sendsToCanary()
	switch dead := p.leaveUnfitCanary(); {
	case !p.running():
	case dead:
		p.beginAnew()
	case sent && !p.sendsToCanary():
		p.next.Iterations = 0
	}
}

// leadsUnwanted is whether routes lead to the canary what the status leads to a primary that can take it.
func (p *pass) leadsUnwanted() bool {
	if p.sendsToCanary() || !p.routedToCanary() || p.f.Primary.Available == 0 {
		return false
	}
	return p.f.Target.Available == 0 || !p.inPhase("", v1beta1.CanaryPhaseInitializing)
}

// leadsTooFew is whether routes lead requests to the primary where the status says that the canary serves all of them.
func (p *pass) leadsTooFew() bool {
	r := p.f.Routes
	all := r.CanaryWeight == 100 && !r.Matched && !r.Mirror
	return !all && p.leadsAllToCanary() && p.f.Target.Health.State == Ready && !p.moved()
}

// takeBackBlocked ends a run that can't go on: when a rollback hook says so, or when it was blocked for as long as the progress
// deadline.
func (p *pass) takeBackBlocked() {
	stage := p.st.Stage
	switch {
	case p.inPhase(v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising):
		p.endBlockedPromotion()
	case !p.running():
	case stage != stageRollback && p.expired(&p.clocks().Blocked):
		p.exceedDeadline(p.f.Problem.Message)
	case stage == stageRollback || stage == stageCancel:
		p.retreatBlocked()
	case !p.moved() && p.f.Target.Revision.Fingerprint != "":
		rollbackHook(p)
	}
}

// endBlockedPromotion ends a promotion that was blocked for as long as the progress deadline. If the primary was seen to serve the
// analyzed revision alone, it is done but for the pods of the target, which go once the problem is gone.
func (p *pass) endBlockedPromotion() {
	if !p.expired(&p.clocks().Blocked) {
		return
	}
	switch {
	case !p.actable():
		p.failPromotion(p.f.Problem.Message)
	case !p.isCopyOf(p.st.Target):
		p.giveUpCopy(p.f.Problem.Message)
	case p.f.Primary.Health.State == Ready && p.routedAway():
		p.succeed()
		p.st.Stage = stageRollback
	default:
		p.failPromotion(p.f.Problem.Message)
	}
}

// retreatBlocked takes a canary back as far as the problem lets it. What is left is done once the problem is gone.
func (p *pass) retreatBlocked() {
	if p.actable() {
		retreat(p)
	}
	ends := p.next.Phase == v1beta1.CanaryPhaseProgressing && p.st.Stage == stageRollback
	if !ends || p.actable() && (p.next.CanaryWeight > 0 || p.canaryServes()) || !p.elapsed(&p.st.StageStartedAt, p.deadline()) {
		return
	}
	p.fellBack("Canary failed! %s could not be scaled down", p.targetName())
	p.st.Stage = stageRollback
}
