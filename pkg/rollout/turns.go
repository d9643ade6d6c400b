package rollout

import (
	"slices"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// changeWithdrawn ends the wait for an approval when the change it was for is gone.
func changeWithdrawn(p *pass) bool {
	if !p.inPhase(v1beta1.CanaryPhaseWaiting) || p.moved() && !p.backToPromoted() {
		return false
	}
	n := p.normal("Change of %s was taken back, no approval is needed", p.targetName())
	alert(n, v1beta1.SeverityInfo, "Change of %s was taken back, no approval is needed.", p.targetName())
	phase := v1beta1.CanaryPhaseFailed
	if p.backToPromoted() {
		p.returnToPromoted()
		phase = v1beta1.CanaryPhaseSucceeded
	}
	p.enter(phase, "")
	p.st.NextCheckAt = nil
	return true
}

// waitingRollback lets a rollback hook refuse a revision that waits for its approval.
func waitingRollback(p *pass) bool {
	if !p.inPhase(v1beta1.CanaryPhaseWaiting) || !p.rollbackHooks() || !p.due() {
		return false
	}
	fired, known := p.rollbackFired()
	if !known {
		p.waitForGate()
		return true
	}
	if !fired {
		return false
	}
	p.st.Target = p.present()
	p.st.NextCheckAt = nil
	p.closeFailed()
	return true
}

// confirmRollout asks whether a change may start. A gate that gives no answer is closed.
func confirmRollout(p *pass) bool {
	waiting := p.inPhase(v1beta1.CanaryPhaseWaiting)
	if !waiting && !p.resting() || !p.hooks(v1beta1.ConfirmRolloutHook) {
		return false
	}
	if waiting && !p.due() {
		p.waitForGate()
		return true
	}
	results, known := p.answers(v1beta1.ConfirmRolloutHook)
	switch {
	case known:
	case waiting:
		p.waitForGate()
		return true
	default:
		reason := p.healthReason()
		p.keepHealth = reason == ReasonMetrics || slices.Contains(beforeStart(), reason)
		p.lookAfterRest()
		return true
	}
	p.tellRollbackRefused()
	if closed := refusal(results); closed != nil {
		message := "Halt " + p.canaryName() + " advancement waiting for approval " + closed.Name
		if !waiting {
			p.enter(v1beta1.CanaryPhaseWaiting, "")
			p.haltAtGate(message, closed, "Canary is waiting for approval.")
		}
		p.failQuietly(ReasonWaitingForGate, message)
		p.pace()
		p.leaveDeadCanary()
		return true
	}
	for _, r := range results {
		p.normal("Confirm-rollout check %s passed", r.Name)
	}
	return false
}

// waitForGate leaves everything as it is, but for requests that lead nowhere.
func (p *pass) waitForGate() {
	p.keepHealth = true
	p.leaveDeadCanary()
}

// haltAtGate tells once that a gate is closed.
func (p *pass) haltAtGate(message string, closed *HookResult, text string) {
	n := p.warning("%s", message)
	if !closed.MuteAlert {
		alert(n, v1beta1.SeverityWarn, "%s", text)
	}
}

// start begins the analysis of a changed target.
func start(p *pass) bool {
	if !p.resting() && !p.inPhase(v1beta1.CanaryPhaseWaiting) {
		return false
	}
	if p.f.Schedule.Closed {
		p.normal("New revision of %s begins although rollouts begin %s: annotation %s is %q", p.targetName(), p.f.Schedule.words(),
			v1beta1.UrgentAnnotation, p.c.Annotations[v1beta1.UrgentAnnotation])
	}
	p.begin()
	if _, asked := p.f.Checks.Hooks[v1beta1.RollbackHook]; asked {
		p.rollbackRefused()
	}
	n := p.normal("New revision detected! Scaling up %s", p.targetName())
	alertWithDetails(n, v1beta1.SeverityInfo, "New revision detected, progressing canary analysis.")
	return true
}

// begin resets everything that belongs to one revision. A canary that serves goes on serving.
func (p *pass) begin() {
	p.leaveServingCanary()
	p.enter(v1beta1.CanaryPhaseProgressing, "")
	p.st.Run++
	p.useUrgency()
	p.st.Target = p.present()
	p.st.NextCheckAt, p.st.NextRollbackCheckAt, p.st.Checks = nil, nil, nil
	p.st.Mirror = false
	p.next.FailedChecks, p.next.Iterations = 0, 0
	switch {
	case p.canaryServes():
		p.next.CanaryWeight = 100
		p.st.Audience = v1beta1.AudienceAll
	case p.f.Primary.Available > 0:
		p.next.CanaryWeight = 0
		p.st.Audience = ""
	}
	if p.f.Target.Replicas == 0 {
		p.st.CanaryIdle = true
	}
	if p.lacksPods() && !p.stopping() {
		p.do(ScaleTargetUp{})
	}
}

// leaveServingCanary gives the traffic back to a primary that got ready after its promotion had failed, before the pods of the
// canary become those of another revision.
func (p *pass) leaveServingCanary() {
	if !p.canaryServes() || p.f.Primary.Health.State != Ready || p.st.Target == nil {
		return
	}
	switch {
	case p.inPhase(v1beta1.CanaryPhaseFailed) && p.st.Stage != stageRollback && p.isCopyOf(p.st.Target):
		p.st.Promoted = p.st.Target.DeepCopy()
	case p.st.Promoted == nil || !p.isCopyOf(p.st.Promoted):
		return
	}
	p.routeToPrimary()
}

// cancel takes a run back whose target returned to the promoted revision, or whose revision was promoted before.
func cancel(p *pass) bool {
	retreats := p.st.Stage == stageRollback || p.st.Stage == stageCancel
	if !p.running() || !p.moved() && (retreats || !p.promotedUnnoticed()) || !p.backToPromoted() {
		return false
	}
	p.normal("%s is back at the promoted revision, canceling the analysis", p.targetName())
	p.returnToPromoted()
	p.st.NextCheckAt = nil
	p.enter(v1beta1.CanaryPhaseProgressing, stageCancel)
	p.giveUpTraffic()
	return true
}

// restart drops the verdicts on a revision that a newer one replaces.
func restart(p *pass) bool {
	if !p.running() || !p.superseded() {
		return false
	}
	p.startOver()
	return true
}

func (p *pass) startOver() {
	p.begin()
	p.normal("New revision detected! Restarting analysis for %s", p.targetName())
}

// canaryNotReady waits for the pods of the revision, up to the deadline of the step.
func canaryNotReady(p *pass) bool {
	h := p.f.Target.Health
	if !p.running() {
		return false
	}
	if h.State == Ready {
		back := p.clocks().Canary != nil && p.st.NextCheckAt == nil
		p.stop(&p.clocks().Canary)
		return back && p.toBeFoundAnew() && p.letProxiesFind()
	}
	if p.st.Stage == "" || p.toBeFoundAnew() {
		p.st.NextCheckAt = nil
	}
	stopping := p.stopping()
	deadline := p.startDeadline()
	reason := h.Reason
	stuck := h.State == Stuck && p.reportedInStage(h)
	if !stuck && !p.f.Now.Before(deadline) {
		stuck = true
		reason = p.overdue()
		if p.lacksPods() && p.f.ApplyError != "" {
			reason += ": " + p.f.ApplyError
		}
	}
	message := p.canaryUnready(reason, stuck)
	if !stuck {
		switch {
		case p.takenDown():
			p.do(HoldTarget{})
		case p.lostScaleUp() && !stopping:
			p.do(ScaleTargetUp{})
		}
		if p.st.Stage != "" || !p.justBegun(ReasonCanaryNotReady) {
			p.fail(ReasonCanaryNotReady, "%s", message)
		}
		p.wakeAt(deadline)
		if p.leaveDeadCanary() {
			if p.takenDown() {
				p.next.Iterations = 0
			} else {
				p.beginAnew()
			}
		}
		return true
	}
	p.warning("%s", message)
	p.exceedDeadline(p.withSubject(reason))
	return true
}

// toBeFoundAnew is whether proxies have yet to find pods that were lost before the first request went to them, or got ready again.
func (p *pass) toBeFoundAnew() bool {
	return p.st.Stage != "" && p.untouched() && !p.canaryServes() && p.f.Provider.Routes
}

// lostScaleUp is whether a revision that has not been ready yet is without pods.
func (p *pass) lostScaleUp() bool { return p.st.Stage == "" && p.lacksPods() }

// startDeadline is until when a canary may take to get ready, if it is to get its pods only now.
func (p *pass) startDeadline() time.Time {
	if !p.lostScaleUp() {
		p.clocks().Change = nil
		return p.canaryDeadline()
	}
	if p.changeRefused() {
		return p.f.Now
	}
	if !p.stopping() && p.f.Target.Revision.Generation == p.st.Target.Generation && p.f.Scaler.Pausable == p.f.Scaler.Paused {
		// Nobody has given it pods since the start. Whoever scales it down again and again gets no more time.
		p.renewClock()
	}
	return p.canaryDeadline()
}

// canaryDeadline counts from the start of the revision, and once it has been ready, from when it was seen not to be.
func (p *pass) canaryDeadline() time.Time {
	if p.st.Stage == "" && p.st.StageStartedAt != nil {
		return p.st.StageStartedAt.Add(p.deadline())
	}
	return p.expires(&p.clocks().Canary)
}

// reportedInStage is whether a report of a stuck workload is about the stage at hand. An older one is about a revision
// that is gone.
func (p *pass) reportedInStage(h Health) bool {
	return h.Since.IsZero() || p.st.StageStartedAt == nil || !h.Since.Before(p.st.StageStartedAt.Truncate(time.Second))
}

// beginAnew puts the analysis of a canary that lost its pods back to its beginning, for when they are back. One that dies of
// its traffic each time comes to an end by the failed checks.
func (p *pass) beginAnew() {
	p.next.Iterations = 0
	p.countFailure()
}

// sendsToCanary is whether the status asks for requests, or copies of requests, to the canary.
func (p *pass) sendsToCanary() bool { return p.next.CanaryWeight > 0 || p.st.Mirror }

// routedToCanary is whether the routes lead requests, or copies of requests, to the canary, whatever the status asks for.
func (p *pass) routedToCanary() bool {
	r := p.f.Routes
	return r.Known && (r.CanaryWeight > 0 || r.Mirror || p.next.SessionAffinityCookie != "")
}

// leaveDeadCanary takes requests off a canary without a single ready pod, and reports whether it did.
func (p *pass) leaveDeadCanary() bool {
	if !p.sendsToCanary() || p.f.Target.Available > 0 || p.f.Primary.Available == 0 {
		return false
	}
	p.warning("%s %s, routing all traffic to primary", p.targetName(), p.noReadyPods(p.f.Port.Canary))
	p.routeToPrimary()
	return true
}

// skip promotes at once what need not be analyzed.
func skip(p *pass) bool {
	if !p.running() || !p.c.SkipAnalysis() {
		return false
	}
	if p.heldBySchedule() {
		return true
	}
	p.promote("Copying %s template spec to %s-primary."+p.c.Namespace, p.targetName(), p.c.Spec.TargetRef.Name)
	p.st.Stage = stageSkip
	return true
}

// rollbackHook lets a human or a machine call the rollout off, whatever else it waits for.
func rollbackHook(p *pass) bool {
	if !p.running() {
		return false
	}
	if !p.rollbackHooks() {
		p.st.NextRollbackCheckAt = nil
		return false
	}
	return p.reached(&p.st.NextRollbackCheckAt) && p.calledOff()
}

// rollbackHooks is whether there are hooks that may call the rollout off. They are not asked about what need not be analyzed.
func (p *pass) rollbackHooks() bool { return !p.c.SkipAnalysis() && p.hooks(v1beta1.RollbackHook) }

// calledOff takes the canary back if a rollback hook says so, and reports whether it did. As long as that is not known the
// rollout takes no step.
func (p *pass) calledOff() bool {
	fired, known := p.rollbackFired()
	switch {
	case !known:
		p.unheard = true
		p.keepStepHealth()
		return false
	case fired:
		p.rollBack()
		return true
	}
	p.rollbackRefused()
	return false
}

// rollbackRefused notes that the rollback hooks let the rollout go on. They are not asked again within the interval.
func (p *pass) rollbackRefused() {
	p.tellRollbackRefused()
	p.heard = true
	p.st.NextRollbackCheckAt = micro(p.f.Now.Add(p.interval()))
	p.wakeAt(p.st.NextRollbackCheckAt.Time)
}

// tellRollbackRefused tells which rollback hooks let the rollout go on, at most once in a pass.
func (p *pass) tellRollbackRefused() {
	for _, r := range p.refused {
		p.normal("Rollback hook %s not signaling a rollback", r)
	}
	p.refused = nil
}

// rollbackFired asks the rollback hooks. It tells of one that says so; what the others said is told when it has an effect.
func (p *pass) rollbackFired() (fired, known bool) {
	results, known := p.answers(v1beta1.RollbackHook)
	if !known {
		return false, false
	}
	for _, r := range results {
		if !r.Passed {
			p.refused = append(p.refused, r.Name)
			continue
		}
		p.tellRollbackRefused()
		p.warning("Rollback check %s passed", r.Name)
		n := p.warning("Rolling back %s manual webhook invoked", p.canaryName())
		alert(n, v1beta1.SeverityWarn, "Rolling back manual webhook invoked")
		return true, true
	}
	return false, true
}
