package rollout

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// promoteAnalyzed begins the promotion of a revision that passed its analysis. It is the last moment at which a rollback hook
// can prevent it, so what they said before this pass is not good enough. It reports whether that is known.
func (p *pass) promoteAnalyzed() bool {
	if p.rollbackHooks() && !p.heard {
		if off := p.calledOff(); off || p.unheard {
			return off
		}
	}
	p.promote("Copying %s template spec to %s", p.targetName(), p.primaryName())
	return true
}

// promote begins to copy the analyzed revision, and no other, to the primary.
func (p *pass) promote(format string, args ...any) {
	p.normal(format, args...)
	p.enter(v1beta1.CanaryPhasePromoting, "")
	p.st.NextCheckAt = nil
	p.warnOfLoss()
	if p.handedOver() {
		p.copyTarget()
	}
}

// promoting waits for the primary to serve the analyzed revision and then gives it the traffic.
func promoting(p *pass) bool {
	if !p.inPhase(v1beta1.CanaryPhasePromoting) {
		return false
	}
	p.coverPrimary()
	if !p.isCopyOf(p.st.Target) {
		p.copyAgain()
		return true
	}
	if p.f.Services.BackendsInPlace {
		p.clocks().Change = nil
	}
	p.leaveUnfitCanary()
	if p.primaryCameUp() && p.primaryFit() {
		p.leadBack()
	}
	return true
}

// primaryFit is whether a promoted primary may get requests: its Service selects its pods, and proxies that sent it none have heard of them.
func (p *pass) primaryFit() bool {
	if !p.f.Services.BackendsInPlace {
		// The Service of a primary that was made anew still has to select its pods.
		p.st.NextCheckAt = nil
		if p.changeRefused() {
			p.failPromotion("Services can't be updated: " + p.f.ApplyError)
		}
		return false
	}
	return p.next.CanaryWeight < 100 || p.primaryFound()
}

// leaveUnfitCanary takes traffic off a canary that died, that became a revision which has passed no check, or whose requests
// nobody can tell anymore. It reports whether the canary died.
func (p *pass) leaveUnfitCanary() bool {
	if p.leaveDeadCanary() {
		return true
	}
	if p.canaryServes() || !p.sendsToCanary() || p.f.Primary.Available == 0 {
		return false
	}
	switch {
	case p.pausedChange():
		p.normal("%s was changed while it is paused, routing all traffic to primary", p.targetName())
	case p.moved():
		p.normal("New revision of %s detected, routing all traffic to primary", p.targetName())
	case p.lostAudience():
		p.normal("spec.analysis.match of %s is gone, routing all traffic to primary", p.canaryName())
	default:
		return false
	}
	p.routeToPrimary()
	return false
}

// copyAgain repeats a copy that was not carried out, or that somebody undid. When the target has moved on meanwhile, the
// analyzed revision is gone and the newer one has to be analyzed.
func (p *pass) copyAgain() {
	switch {
	case p.superseded():
		p.startOver()
		return
	case p.pausedChange():
		p.holdPaused()
		return
	}
	if p.next.Phase != v1beta1.CanaryPhasePromoting || p.st.Stage == stageLeadingBack {
		p.enter(v1beta1.CanaryPhasePromoting, p.promotionStage())
	}
	p.leaveDeadCanary()
	if p.changeRefused() {
		p.giveUpCopy("primary can't be updated: " + p.f.ApplyError)
		return
	}
	p.renewClock()
	if p.handedOver() {
		p.copyTarget()
	}
}

// copyTarget makes the primary a copy of the revision at hand, or puts one in its place.
func (p *pass) copyTarget() {
	p.do(EnsurePrimary{Revision: revisionOf(p.st.Target), Replace: p.f.Primary.SelectorDiffers != ""})
}

// giveUpCopy ends a promotion whose copy can't be made. A primary that still runs what was promoted before takes the
// traffic back; one that was changed is in the state of any failed promotion.
func (p *pass) giveUpCopy(cause string) {
	if !p.runsPromoted() {
		p.failPromotion(cause)
		return
	}
	p.promotionFailed(cause)
	p.rollBack()
}

// runsPromoted is whether the primary is as it was before the promotion. A revision that was not known then can't be compared;
// a primary that is ready without being a copy of the target runs it.
func (p *pass) runsPromoted() bool {
	if !p.promotedKnown() {
		return p.f.Primary.Health.State == Ready
	}
	return p.isCopyOf(p.st.Promoted)
}

// promotionStage is what stays true of a promotion in each of its stages: that its analysis was skipped.
func (p *pass) promotionStage() string {
	if p.st.Stage == stageSkip {
		return stageSkip
	}
	return ""
}

// primaryCameUp waits for the primary, up to the deadline of the promotion. One that came up and gets its traffic step by step
// has a deadline of its own each time that it is not ready: the steps may take longer than any deadline.
func (p *pass) primaryCameUp() bool {
	h := p.f.Primary.Health
	if h.State == Ready {
		p.clocks().Primary = nil
		return true
	}
	if p.st.Stage == stageLeadingBack {
		p.primaryFellBack()
		return false
	}
	p.st.NextCheckAt = nil
	from := p.f.Now
	if p.st.StageStartedAt != nil {
		from = p.st.StageStartedAt.Time
	}
	deadline := from.Add(p.deadline())
	if h.State == Stuck && p.reportedInStage(h) || !p.f.Now.Before(deadline) {
		p.failPromotion("primary not ready: " + h.Reason)
		return false
	}
	if !p.justBegun(ReasonPrimaryNotReady) {
		p.fail(ReasonPrimaryNotReady, "%s", p.primaryUnready(h.Reason))
	}
	p.wakeAt(deadline)
	return false
}

// leadBack gives the traffic to the promoted primary, at once or in steps of stepWeightPromotion. Who skips the analysis while
// steps are left wants no more of them; that the analysis was done stays true.
func (p *pass) leadBack() {
	step, w := p.a.StepWeightPromotion, p.next.CanaryWeight
	skipped := p.st.Stage == stageSkip
	switch {
	case !p.f.Provider.Routes || skipped && w == 0:
		p.leadAllBack()
	case step == 0 || w == 0 || skipped || p.c.SkipAnalysis() || p.moved():
		p.normal("Routing all traffic to primary")
		p.leadAllBack()
	case p.due():
		p.next.CanaryWeight = max(0, w-step)
		p.normal("Advance %s primary weight %v", p.canaryName(), 100-p.next.CanaryWeight)
		p.pace()
		if p.next.CanaryWeight == 0 {
			p.leadAllBack()
		} else if p.st.Stage != stageLeadingBack {
			p.enter(v1beta1.CanaryPhasePromoting, stageLeadingBack)
		}
	}
}

// leadAllBack gives the primary all traffic that it has not got yet, and begins to wait until none reaches the canary. There is
// nothing left to iterate for.
func (p *pass) leadAllBack() {
	p.routeToPrimary()
	p.next.Iterations = 0
	p.enter(v1beta1.CanaryPhaseFinalising, p.promotionStage())
}

func (p *pass) routeToPrimary() {
	p.next.CanaryWeight = 0
	p.st.Mirror = false
	p.st.Audience = ""
	p.st.ServingSide = ""
	p.st.CanaryDrainedAt = nil
}

// finalising takes the pods of the target away once it was seen to get nothing any more. A target that has moved on keeps
// them: its new revision is analyzed next.
func finalising(p *pass) bool {
	if !p.inPhase(v1beta1.CanaryPhaseFinalising) {
		return false
	}
	if !p.isCopyOf(p.st.Target) {
		p.copyAgain()
		return true
	}
	if p.f.Primary.Health.State != Ready {
		p.primaryFellBack()
		return true
	}
	p.clocks().Primary = nil
	if !p.drained() {
		p.letNewerGoOn()
		return true
	}
	if p.hasPods() && !p.moved() {
		p.do(ScaleTargetToZero{})
		return true
	}
	p.succeed()
	return true
}

// letNewerGoOn ends a promotion whose last routes don't come into force when a newer revision waits for its turn. The primary
// serves what was promoted.
func (p *pass) letNewerGoOn() {
	if !p.superseded() || p.st.StageStartedAt == nil {
		return
	}
	deadline := p.st.StageStartedAt.Add(p.deadline())
	if p.f.Now.Before(deadline) {
		p.wakeAt(deadline)
		return
	}
	p.st.Promoted = p.st.Target.DeepCopy()
	p.startOver()
}

// primaryFellBack deals with a primary that was ready and no longer is. As long as the canary has its pods it can serve; when
// the target has moved on, its new revision may be what mends the primary.
func (p *pass) primaryFellBack() {
	h := p.f.Primary.Health
	overdue := p.expired(&p.clocks().Primary)
	dead := p.f.Primary.Available == 0 && p.f.Provider.Routes || h.State == Stuck && p.reportedInStage(h)
	switch {
	case p.superseded():
		p.startOver()
	case dead && p.f.Target.Health.State == Ready, overdue:
		p.failPromotion("primary not ready: " + h.Reason)
	default:
		p.st.CanaryDrainedAt = nil
		p.fail(ReasonPrimaryNotReady, "%s", p.primaryUnready(h.Reason))
	}
}

// succeed records what was observed: the primary is ready with the analyzed revision and has all the traffic.
func (p *pass) succeed() {
	skipped := p.st.Stage == stageSkip
	p.st.Promoted = p.st.Target.DeepCopy()
	p.st.ServingSide = ""
	p.st.NextCheckAt = nil
	p.next.Iterations = 0
	p.enter(v1beta1.CanaryPhaseSucceeded, "")
	if skipped {
		n := p.normal("Promotion completed! Canary analysis was skipped for %s", p.targetName())
		alert(n, v1beta1.SeverityInfo, "Canary analysis was skipped, promotion finished.")
		p.outcomes = append(p.outcomes, OutcomeSkipped)
	} else {
		n := p.normal("Promotion completed! Scaling down %s", p.targetName())
		alert(n, v1beta1.SeverityInfo, "Canary analysis completed successfully, promotion finished.")
		p.outcomes = append(p.outcomes, OutcomeSucceeded)
	}
	p.postRollout()
}

func (p *pass) postRollout() {
	if p.hooks(v1beta1.PostRolloutHook) {
		p.notices = append(p.notices, v1beta1.Notice{Hooks: v1beta1.PostRolloutHook, Phase: p.next.Phase})
	}
}

// failPromotion lets the canary serve when the primary does not come up with the promoted revision: it is the only side
// that was seen ready with it. It goes on to serve when the primary gets ready later: both run the revision that passed its
// analysis, so no user gains by another move of the traffic, and everybody was told that the promotion has failed. The next
// revision starts from the primary then, as any other does.
func (p *pass) failPromotion(cause string) {
	n := p.promotionFailed(cause)
	if p.f.Target.Health.State == Ready && p.f.Provider.Routes && !p.moved() && (p.f.Problem == nil || p.routable()) {
		p.letCanaryServe()
	}
	p.next.Iterations, p.next.FailedChecks = 0, 0
	p.st.NextCheckAt = nil
	p.enter(v1beta1.CanaryPhaseFailed, "")
	p.failQuietly(ReasonPromotionFailed, n.Message+p.wayOut())
	p.outcomes = append(p.outcomes, OutcomeFailed)
	p.postRollout()
}

// wayOut says what a failed promotion leaves behind, and what leads out of it.
func (p *pass) wayOut() string {
	keeps := "keeps its pods"
	if p.canaryServes() {
		keeps = "keeps serving all requests"
	}
	return fmt.Sprintf(": %s %s. Once %s can get ready, change the pod template of %s, or restart it, to have it rolled out again",
		p.targetName(), keeps, p.primaryName(), p.targetName())
}

// promotionFailed tells why a revision that passed its analysis is not promoted.
func (p *pass) promotionFailed(cause string) *v1beta1.Notice {
	n := p.warning("Promotion of %s failed, %s", p.targetName(), cause)
	alert(n, v1beta1.SeverityError, "Promotion failed, %s", cause)
	return n
}

// rollBack begins to take the canary back. It ends in retreat.
func (p *pass) rollBack() {
	p.enter(v1beta1.CanaryPhaseProgressing, stageRollback)
	p.st.NextCheckAt = nil
	p.giveUpTraffic()
}

// giveUpTraffic leads all traffic to the primary if that can take it, and reports whether it did.
func (p *pass) giveUpTraffic() bool {
	able := p.f.Primary.Available > 0 && (!p.canaryServes() || p.f.Primary.Health.State == Ready)
	if p.next.CanaryWeight == 0 || able {
		p.routeToPrimary()
		return true
	}
	return false
}

// retreat takes a canary back: traffic first, then, when none was seen to arrive for long enough, its pods.
func retreat(p *pass) bool {
	if !p.running() || p.st.Stage != stageRollback && p.st.Stage != stageCancel {
		return false
	}
	if p.next.CanaryWeight > 0 || p.canaryServes() {
		if !p.giveUpTraffic() {
			p.holdCanary()
		}
		return true
	}
	if !p.drained() {
		return true
	}
	if p.hasPods() {
		p.do(ScaleTargetToZero{})
		return true
	}
	if p.st.Stage == stageCancel {
		p.next.Iterations, p.next.FailedChecks = 0, 0
		p.enter(v1beta1.CanaryPhaseSucceeded, "")
		p.promoted = "The target is back at the promoted revision, its analysis was canceled."
		n := p.normal("Canary canceled! Scaling down %s", p.canaryName())
		alert(n, v1beta1.SeverityInfo, "Canary analysis was canceled, %s is back at the promoted revision.", p.targetName())
		p.postRollout()
		return true
	}
	p.closeFailed()
	return true
}

// holdCanary keeps a canary that is to be taken back but is the only side that serves. One that served before the run goes on
// to do so when the run has failed, until its primary is ready: it was rejected, so it is not to serve for longer than it has to.
func (p *pass) holdCanary() {
	p.fail(ReasonNoReadyCapacity, "%s %s to take the traffic of %s back: the canary keeps serving until it has",
		p.primaryName(), p.noReadyPods(p.f.Port.State), p.targetName())
	if !p.canaryServes() {
		return
	}
	p.fellBack("Canary failed! %s keeps serving, the primary can't take its traffic", p.targetName())
	p.st.Stage = stageRollback
}

// finishRollback takes a rejected canary back that had to go on serving after its run, as retreat would have done.
func (p *pass) finishRollback() {
	switch {
	case p.canaryServes() && p.f.Primary.Health.State != Ready && p.saysStale():
		// What was told before the command is true again.
		p.fail(ReasonPrimaryNotReady, "%s", p.primaryUnready(p.f.Primary.Health.Reason))
	case p.canaryServes() && (p.f.Primary.Health.State != Ready || !p.primaryFound()):
		p.keepHealth = true
	case p.canaryServes():
		p.normal("%s is ready again, routing all traffic to primary", p.primaryName())
		p.routeToPrimary()
	case p.next.CanaryWeight > 0:
		p.giveUpTraffic()
	case !p.drained():
	case p.hasPods():
		p.do(ScaleTargetToZero{})
	default:
		p.st.Stage = ""
	}
}

// closeFailed ends a run whose canary was taken back.
func (p *pass) closeFailed() { p.fellBack("Canary failed! Scaling down %s", p.canaryName()) }

func (p *pass) fellBack(format string, args ...any) {
	p.next.FailedChecks, p.next.Iterations = 0, 0
	p.enter(v1beta1.CanaryPhaseFailed, "")
	p.warning(format, args...)
	p.outcomes = append(p.outcomes, OutcomeFailed)
	p.postRollout()
}
