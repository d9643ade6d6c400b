package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// bootstrap takes a workload over: the primary is made and seen ready, then Services and routes lead to it, and only when
// the target was seen to get nothing any more are its pods taken away.
func bootstrap(p *pass) bool {
	if !p.inPhase("", v1beta1.CanaryPhaseInitializing) {
		return false
	}
	if p.begins() {
		p.beginBootstrap()
	}
	p.checkProviders()
	made := p.primaryMade()
	if p.providersAnswer && !p.holdsGoodNews() {
		p.tellProviders()
	}
	if made {
		p.leadToPrimary()
	}
	return true
}

// begins is whether this is the first pass of a bootstrap. Somebody who empties the phase asks for another one.
func (p *pass) begins() bool {
	return p.inPhase("") || p.c.Status.Rollout == nil || p.c.Status.Rollout.Target == nil
}

// beginBootstrap decides what the primary is to run. A primary that is there already, because the status was lost, is taken
// as it is: it serves, and a target that differs from it is a change to analyze.
func (p *pass) beginBootstrap() {
	p.enter(v1beta1.CanaryPhaseInitializing, stageCopying)
	p.routeToPrimary()
	p.st.Target, p.st.Promoted, p.st.NextCheckAt = nil, nil, nil
	p.next.Iterations, p.next.FailedChecks = 0, 0
	if note := p.f.Port.Undeclared; note != "" {
		p.warning("%s", note)
	}
	if !p.f.Primary.Exists {
		return
	}
	p.st.Stage = stageRouting
	p.st.Target = &v1beta1.RevisionRef{Fingerprint: unknownRevision}
	if now := refTo(p.f.Target.Revision); p.isCopyOf(now) {
		p.st.Target = now
	} else if made := p.f.Primary.Copy; made != "" {
		p.st.Target.Fingerprint, p.st.Target.Configs = made, p.f.Primary.CopyConfigs
	}
}

// checkProviders tells whether the metric providers answer: once if they do, and again and again as long as they don't.
// Bootstrap goes on either way.
func (p *pass) checkProviders() {
	missing := p.st.NextCheckAt != nil || p.healthReason() == ReasonMetrics
	if p.c.SkipAnalysis() || len(p.a.Metrics) == 0 || !p.begins() && !missing {
		p.st.NextCheckAt = nil
		return
	}
	p.askProviders()
}

// askProviders asks the metric providers when they are to be asked, and tells what they said. While they are missing the status
// keeps since when and does not change: a metrics server may be away for a day, and thousands of Canaries rest meanwhile.
func (p *pass) askProviders() {
	p.keepHealth = p.healthReason() == ReasonMetrics
	if p.st.NextCheckAt == nil {
		p.st.NextCheckAt = micro(p.f.Now)
	}
	if !p.due() {
		return
	}
	question := p.providersQuestion()
	switch check := p.f.Checks.Providers; {
	case check == nil:
		p.ask(question)
	case check.Error != "":
		p.keepHealth = false
		p.fail(ReasonMetrics, "Error checking metric providers: %s", check.Error)
		p.standing = append(p.standing, question.ID())
		p.wakeAtNextCheck()
	case p.next.Phase == v1beta1.CanaryPhaseInitializing:
		p.providersAnswer = true
		p.standing = append(p.standing, question.ID())
	default:
		p.tellProviders()
	}
}

func (p *pass) tellProviders() {
	p.keepHealth = false
	p.normal("all the metrics providers are available!")
	p.st.NextCheckAt = nil
}

// holdsGoodNews is whether nobody waits to hear that the metric providers answer. It is told with what comes next, which is that the
// primary is ready, or that it is not.
func (p *pass) holdsGoodNews() bool {
	return p.st.Stage == stageCopying && p.problem == nil && p.f.ApplyError == "" && p.healthReason() == ReasonHealthy
}

// primaryMade brings the primary up and reports whether it has been seen ready. Until then the target may change: it still
// has all the traffic, so the primary just follows it.
func (p *pass) primaryMade() bool {
	now := p.f.Target.Revision
	if p.st.Stage == stageRouting && (!p.f.Primary.Exists || p.primaryIsLost()) {
		p.enter(v1beta1.CanaryPhaseInitializing, stageCopying)
	}
	if p.st.Stage == stageCopying && p.f.Primary.SelectorDiffers != "" && p.f.Primary.Available > 0 {
		// The target was made anew meanwhile. What has pods may have requests, so it is taken as it is and replaced by a promotion.
		p.beginBootstrap()
	}
	if p.st.Stage == stageCopying && (p.st.Target == nil || !same(now, p.st.Target)) {
		p.st.Target = refTo(now)
		p.st.StageStartedAt = micro(p.f.Now)
	}
	if t := p.f.Target; p.st.Stage == stageCopying && t.Paused && t.Replicas > 0 && t.Health.State != Ready {
		p.failPaused()
		return false
	}
	if !p.f.Services.BackendsInPlace {
		p.do(EnsureBackendServices{})
	}
	made := p.f.Primary.Exists && (p.st.Stage == stageRouting || p.isCopyOf(p.st.Target))
	if !made {
		p.copyTarget()
		return false
	}
	if p.f.Primary.Health.State != Ready {
		if p.f.Primary.Health.State == Stuck || p.st.Stage != stageCopying || !p.justBegun(ReasonPrimaryNotReady) {
			p.fail(ReasonPrimaryNotReady, "%s", p.primaryUnready(p.f.Primary.Health.Reason))
		}
		if p.f.Primary.Replicas == 0 {
			p.ensureScaler()
		}
		return false
	}
	if p.st.Stage == stageCopying {
		p.enter(v1beta1.CanaryPhaseInitializing, stageRouting)
	}
	return p.f.Services.BackendsInPlace
}

// primaryIsLost is whether a primary that was there before us serves nobody and won't by itself, while the target serves.
func (p *pass) primaryIsLost() bool {
	return p.f.Primary.Health.State == Stuck && p.f.Primary.Available == 0 && p.f.Target.Health.State == Ready
}

// leadToPrimary moves the traffic over and then lets go of the target's pods.
func (p *pass) leadToPrimary() {
	p.ensureScaler()
	if !p.portServed() {
		return
	}
	if !p.f.Services.ApexInPlace {
		p.do(EnsureApexService{})
	}
	if p.f.Provider.Routes && !p.f.Routes.InPlace && p.primaryFound() {
		p.do(EnsureRoutes{})
	}
	if !p.drained() {
		return
	}
	if p.hasPods() {
		p.do(ScaleTargetToZero{})
		return
	}
	p.st.Promoted = p.st.Target.DeepCopy()
	p.enter(v1beta1.CanaryPhaseInitialized, "")
	n := p.normal("Initialization done! %s", p.canaryName())
	alertWithDetails(n, v1beta1.SeverityInfo, "New %s detected, initialization completed.", p.c.Spec.TargetRef.Kind)
}

// ensureScaler gives the primary its autoscaler, or what changed in that of the target.
func (p *pass) ensureScaler() {
	p.retireScalers()
	if p.f.Scaler.Wanted && !p.f.Scaler.InPlace {
		p.do(EnsurePrimaryScaler{})
	}
	p.raisePrimary()
}

// drained reports whether the target has been seen without traffic for as long as its pods have to stay. It keeps the time of
// the first such sight in the status. Only a bootstrap, which takes nothing back, heeds a report that the routes are not in force.
func (p *pass) drained() bool {
	if !p.leftByPreviousRoutes() || !p.routedAway() {
		p.st.CanaryDrainedAt = nil
		return false
	}
	if p.inPhase(v1beta1.CanaryPhaseInitializing) && p.heldByReport() {
		p.st.CanaryDrainedAt = nil
		return false
	}
	return p.elapsed(&p.st.CanaryDrainedAt, p.canaryDrainTime())
}

// routedAway is whether nothing leads to the target.
func (p *pass) routedAway() bool {
	r := p.f.Routes
	routed := !p.f.Provider.Routes || r.Known && r.InPlace && r.CanaryWeight == 0 && !r.Mirror
	return routed && !p.previousRoutes() && p.f.Services.ApexInPlace && p.next.CanaryWeight == 0
}

// adopt makes a record for a status that another operator wrote, with that one write and no other.
func adopt(p *pass) bool {
	// A record without a target only holds what was told while the Canary could not be looked at.
	known := p.c.Status.Rollout != nil && p.c.Status.Rollout.Target != nil && !outdated(&p.c.Status)
	if known || p.inPhase("", v1beta1.CanaryPhaseInitializing) {
		return false
	}
	p.frozen, p.keepHealth = true, true
	now := p.f.Target.Revision
	if now.Fingerprint == "" {
		return true
	}
	p.dropRecord()
	unknown := func() *v1beta1.RevisionRef { return &v1beta1.RevisionRef{Fingerprint: unknownRevision} }
	switch p.c.Status.Phase {
	case v1beta1.CanaryPhaseFailed:
		p.st.Target, p.st.Promoted = refTo(now), unknown()
		if p.next.CanaryWeight == 100 && p.f.Target.Replicas > 0 {
			p.st.ServingSide = v1beta1.ServingCanary
		}
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseWaiting:
		p.st.Target, p.st.Promoted = unknown(), unknown()
		if p.isCopyOf(refTo(now)) || p.promotedByFlagger() {
			p.st.Target, p.st.Promoted = refTo(now), refTo(now)
		}
	default:
		p.adoptRun(now)
		p.st.Promoted = unknown()
	}
	p.keepContract()
	p.recordTarget()
	p.recordRouting()
	p.recordScaler()
	return true
}

// adoptRun goes on with a run where its routes say that it is.
func (p *pass) adoptRun(now Revision) {
	p.st.Target = refTo(now)
	p.st.StageStartedAt = micro(p.f.Now)
	if p.f.Routes.Known {
		p.next.CanaryWeight = p.f.Routes.CanaryWeight
		p.st.Mirror = p.f.Routes.Mirror
	}
	p.next.Iterations = max(0, p.next.Iterations)
	p.adoptAudience()
	if p.next.CanaryWeight > 0 || p.next.Iterations > 0 || p.st.Mirror {
		p.st.Stage = stageAnalysis
	}
	if p.inPhase(v1beta1.CanaryPhaseProgressing) && p.switchCounted() {
		p.st.Stage = stageSwitched
	}
	if p.inPhase(v1beta1.CanaryPhaseFinalising) && (p.next.CanaryWeight > 0 || p.st.Mirror) {
		// The last route was not written. It may be when the primary is ready for it, which nobody has seen since.
		p.next.Phase = v1beta1.CanaryPhasePromoting
	}
}

// switchCounted is whether another operator has noted the switch of blue/green in the way that it has: as one more iteration.
func (p *pass) switchCounted() bool {
	s := strategyOf(p.f, p.a)
	return s.kind == v1beta1.DeploymentStrategyBlueGreen && p.next.Iterations > s.iterations &&
		(p.next.CanaryWeight == 100 || !p.f.Provider.Routes)
}
