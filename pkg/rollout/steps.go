package rollout

import (
	"fmt"
	"slices"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// untouched is whether the run has led no request to the canary yet.
func (p *pass) untouched() bool {
	return p.next.CanaryWeight == 0 && p.next.Iterations == 0 && !p.st.Mirror
}

// analyzed notes that the pass took an analysis step, the first one included.
func (p *pass) analyzed() {
	if !slices.Contains(p.outcomes, OutcomeAnalyzed) {
		p.outcomes = append(p.outcomes, OutcomeAnalyzed)
	}
}

// preRollout calls the hooks that must pass before the first request goes to the canary.
func preRollout(p *pass) bool {
	if !p.running() || p.st.Stage != "" && p.st.Stage != stagePreRollout {
		return false
	}
	if p.st.Stage == "" && p.findsUnasked() {
		return true
	}
	p.analyzed()
	if p.st.Stage == "" {
		p.normal("Starting canary analysis for %s", p.targetName())
		for _, w := range slices.Concat(strategyOf(p.f, p.a).warnings, p.notes(), analysis.Warnings(p.c), p.chatWarnings()) {
			p.warning("%s", w)
		}
		p.st.Stage = stagePreRollout
		if p.asksFirst() && (!p.canaryServes() && p.letProxiesFind() || p.planPreRollout()) {
			return true
		}
	}
	if p.hooks(v1beta1.PreRolloutHook) {
		results, known := p.answers(v1beta1.PreRolloutHook)
		if !known {
			p.keepStepHealth()
			return true
		}
		if bad := refusal(results); bad != nil {
			n := p.warning("Halt %s advancement pre-rollout check %s failed %s", p.canaryName(), bad.Name, bad.Text)
			if p.tellOnce(v1beta1.PreRolloutHook) {
				alert(n, v1beta1.SeverityWarn, "Canary pre-rollout check %s failed %s", bad.Name, bad.Text)
			}
			p.failCheck(n)
			return true
		}
		for _, r := range results {
			p.normal("Pre-rollout check %s passed", r.Name)
		}
	}
	p.st.Stage, p.st.ToldHook = stageAnalysis, ""
	if p.canaryServes() {
		// It has all the traffic already, but what the metrics show now is still about the revision before.
		p.pace()
		return true
	}
	return false
}

// asksFirst is whether somebody is asked before the first request goes to the canary. What is asked has a number that stays the same
// after a crash, so it is planned on record.
func (p *pass) asksFirst() bool {
	return p.hooks(v1beta1.PreRolloutHook) || p.hooks(v1beta1.ConfirmTrafficIncreaseHook)
}

// findsUnasked is whether the start waits for the proxies. It is told together with the first step then.
func (p *pass) findsUnasked() bool {
	return !p.asksFirst() && !p.canaryServes() && p.st.NextCheckAt == nil && p.letProxiesFind()
}

// letProxiesFind is whether requests have to wait for the proxies, which hear of pods that just became ready as late as of
// routes: one that knows the route and no pod answers with an error.
func (p *pass) letProxiesFind() bool {
	if !p.f.Provider.Routes || p.f.Settings.PropagationDelay == 0 {
		return false
	}
	p.st.NextCheckAt = micro(p.f.Now.Add(p.f.Settings.PropagationDelay))
	p.wakeAt(p.st.NextCheckAt.Time)
	return true
}

// primaryFound is whether proxies have had the time to find a ready primary that is about to get its first requests. The record of since when
// holds only from one pass that asks for it to the next: pods that came back meanwhile have to be found anew.
func (p *pass) primaryFound() bool {
	if !p.f.Provider.Routes {
		return true
	}
	if p.f.Primary.Available == 0 || !p.f.Services.BackendsInPlace {
		return false
	}
	p.findsPrimary = true
	return p.elapsed(&p.st.PrimaryReadySince, p.f.Settings.PropagationDelay)
}

// settleFound drops that record when nobody waits.
func (p *pass) settleFound() {
	if !p.findsPrimary {
		p.st.PrimaryReadySince = nil
	}
}

// planPreRollout puts the first check on record before it is begun, so that its number stays the same whatever is told
// meanwhile.
func (p *pass) planPreRollout() bool {
	if !p.hooks(v1beta1.PreRolloutHook) {
		return false
	}
	p.st.NextCheckAt = micro(p.f.Now)
	p.wakeAt(p.f.Now)
	return true
}

// judge calls the rollout hooks and evaluates the metrics. Before the first step there is nothing to judge.
func judge(p *pass) bool {
	if !p.running() {
		return false
	}
	p.analyzed()
	if p.untouched() {
		return false
	}
	if p.hooks(v1beta1.RolloutHook) {
		results, known := p.answers(v1beta1.RolloutHook)
		if !known {
			p.keepStepHealth()
			return true
		}
		if bad := refusal(results); bad != nil {
			p.failCheck(p.warning("Halt %s advancement external check %s failed %s", p.canaryName(), bad.Name, bad.Text))
			return true
		}
	}
	if !p.a.HasChecks() {
		return false
	}
	v := p.metricsVerdict()
	if v == nil {
		p.keepStepHealth()
		return true
	}
	p.recordChecks(v)
	switch v.Outcome {
	case analysis.Pass:
		return false
	case analysis.Hold:
		reason := ReasonWaitingForMetrics
		if v.Divided {
			reason = ReasonUnexpectedSplit
		}
		p.fail(reason, "%s", v.Message)
		p.pace()
	default:
		n := p.warning("%s", v.Message)
		n.Error, n.Verdict = v.Error, v.Decisive
		p.failCheck(n)
		switch {
		case v.Critical:
			p.takeBackCritical(v)
		case v.NoRequests:
			p.blameRoutes(v.Message)
		}
	}
	return true
}

// takeBackCritical takes a canary back at the first failure of a metric that is critical.
func (p *pass) takeBackCritical(v *analysis.Verdict) {
	n := p.warning("Rolling back %s critical metric %s failed", p.canaryName(), v.Metric)
	alert(n, v1beta1.SeverityError, "Critical metric %s failed: %s", v.Metric, v.Message)
	p.rollBack()
}

// blameRoutes says that requests don't come where the routes lead them. The routes are as old as the step, an interval at least.
// An A/B test may have no users yet.
func (p *pass) blameRoutes(message string) {
	if want := Traffic(p.a, p.next); p.f.Provider.Routes && want.CanaryWeight > 0 && !want.Matched {
		p.failQuietly(ReasonNoCanaryTraffic, fmt.Sprintf("%s: routes lead %d %% of the requests to it: see whether the gateway reads them, "+
			"whether there are requests, and whether the metrics server knows of it", message, want.CanaryWeight))
	}
}

// failCheck counts a check that failed and was told in n.
func (p *pass) failCheck(n *v1beta1.Notice) {
	p.failQuietly(ReasonCheckFailed, n.Message)
	p.pace()
	p.countFailure()
}

// countFailure counts a failed check. The last one that the analysis allows is acted on at once.
func (p *pass) countFailure() {
	p.next.FailedChecks++
	if p.next.FailedChecks >= p.c.GetAnalysisThreshold() {
		p.wakeAt(p.f.Now)
	}
}

// advance takes the next step of the strategy: everything before it passed.
func advance(p *pass) bool {
	if !p.running() {
		return false
	}
	s := strategyOf(p.f, p.a)
	switch s.kind {
	case v1beta1.DeploymentStrategyABTesting:
		p.stepABTest(s.iterations)
	case v1beta1.DeploymentStrategyBlueGreen:
		p.stepBlueGreen(s.iterations)
	default:
		p.stepWeight()
	}
	return true
}

// stepWeight shifts the next share of the traffic, or promotes at the end (contract section 3.6).
func (p *pass) stepWeight() {
	w := p.next.CanaryWeight
	if w >= MaxWeight(p.a) {
		p.confirmPromotion()
		return
	}
	next, ok := NextWeight(p.a, w)
	if !ok {
		p.fail(ReasonInvalidSpec, "spec.analysis: no step leads on from canary weight %d: set stepWeight, stepWeights or iterations", w)
		p.pace()
		return
	}
	if !p.trafficIncreaseConfirmed() {
		return
	}
	if p.a.Mirror && w == 0 && !p.st.Mirror {
		p.st.Mirror = true
		next = 0
	} else {
		p.st.Mirror = false
	}
	p.next.CanaryWeight = next
	p.stepTaken()
	p.normal("Advance %s canary weight %v", p.canaryName(), next)
}

// trafficIncreaseConfirmed asks the gate before an increase. It alerts once per wait.
func (p *pass) trafficIncreaseConfirmed() bool {
	if !p.hooks(v1beta1.ConfirmTrafficIncreaseHook) {
		return true
	}
	results, known := p.answers(v1beta1.ConfirmTrafficIncreaseHook)
	if !known {
		p.keepStepHealth()
		return false
	}
	closed := refusal(results)
	if closed == nil {
		for _, r := range results {
			p.normal("Confirm-traffic-increase check %s passed", r.Name)
		}
		p.st.ToldHook = ""
		return true
	}
	message := "Halt " + p.canaryName() + " advancement waiting for traffic increase approval " + closed.Name
	if p.tellOnce(v1beta1.ConfirmTrafficIncreaseHook) && p.healthReason() != ReasonWaitingForGate {
		p.haltAtGate(message, closed, "Canary traffic increase is waiting for approval.")
	}
	p.failQuietly(ReasonWaitingForGate, message)
	p.pace()
	return false
}

// tellOnce is whether it has not been told yet that webhooks of a type keep the rollout where it is. The record keeps that,
// because a condition gives another reason as soon as something else goes wrong meanwhile.
func (p *pass) tellOnce(t v1beta1.HookType) bool {
	told := p.st.ToldHook == t
	p.st.ToldHook = t
	return !told
}

func (p *pass) stepTaken() {
	p.recordAudience()
	p.noteTraffic()
	p.enter(v1beta1.CanaryPhaseProgressing, stageAnalysis)
	p.pace()
	if due := p.routesDue(); p.f.Provider.Routes && due.After(p.st.NextCheckAt.Time) {
		// What is measured sooner is not about this step.
		p.st.NextCheckAt = micro(due)
	}
}

// stepABTest leads the matched users to the canary for a number of iterations.
func (p *pass) stepABTest(iterations int32) {
	if p.next.Iterations >= iterations {
		p.confirmPromotion()
		return
	}
	p.next.CanaryWeight = 100
	p.iterate(iterations)
}

func (p *pass) iterate(of int32) {
	p.next.Iterations++
	p.stepTaken()
	p.normal("Advance %s canary iteration %v/%v", p.canaryName(), p.next.Iterations, of)
}

// stepBlueGreen tests the canary without live traffic, then moves all of it over at once, then promotes.
func (p *pass) stepBlueGreen(iterations int32) {
	// Once requests go to the canary, copies of others would show nothing new and disturb those.
	mirror := p.a.Mirror && p.f.Provider.Routes && p.next.CanaryWeight == 0
	switch {
	case p.next.Iterations < iterations:
		p.st.Mirror = mirror
		p.iterate(iterations)
	case p.st.Stage == stageSwitched:
		p.promoteAnalyzed()
	case !p.promotionConfirmed():
	default:
		p.switchToCanary(mirror)
	}
}

// switchToCanary moves all traffic at once, where there are routes. Its stage tells it from iterations that were done before
// their number was lowered.
func (p *pass) switchToCanary(mirrored bool) {
	p.next.Iterations++
	p.stepTaken()
	p.st.Stage = stageSwitched
	if !p.f.Provider.Routes {
		return
	}
	p.st.Mirror = false
	p.next.CanaryWeight = 100
	if mirrored {
		p.normal("Stop traffic mirroring and route all traffic to canary")
		return
	}
	p.normal("Routing all traffic to canary")
}

func (p *pass) confirmPromotion() {
	told := len(p.notices)
	if p.promotionConfirmed() && !p.promoteAnalyzed() {
		// The gate is asked for again when the last answer is there, and told of then.
		p.notices = p.notices[:told]
	}
}

// promotionConfirmed asks the gate before a promotion. Weights and iterations stay as they are while it is closed.
func (p *pass) promotionConfirmed() bool {
	if !p.hooks(v1beta1.ConfirmPromotionHook) {
		return true
	}
	results, known := p.answers(v1beta1.ConfirmPromotionHook)
	if !known {
		p.keepStepHealth()
		return false
	}
	closed := refusal(results)
	if closed == nil {
		for _, r := range results {
			p.normal("Confirm-promotion check %s passed", r.Name)
		}
		return true
	}
	message := "Halt " + p.canaryName() + " advancement waiting for promotion approval " + closed.Name
	if !p.inPhase(v1beta1.CanaryPhaseWaitingPromotion) {
		p.enter(v1beta1.CanaryPhaseWaitingPromotion, stageAnalysis)
		p.haltAtGate(message, closed, "Canary promotion is waiting for approval.")
	}
	p.failQuietly(ReasonWaitingForGate, message)
	p.pace()
	return false
}
