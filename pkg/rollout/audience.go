package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// strategyChanged begins the analysis anew when the spec asks for one that the steps taken so far are no part of. Failed checks
// stay counted, because the revision is the same.
func strategyChanged(p *pass) bool {
	if !p.running() || !p.stepsAreVoid() {
		return false
	}
	if !p.giveUpTraffic() {
		if p.f.Primary.Health.State != Stuck && !p.expired(&p.clocks().Primary) {
			p.fail(ReasonNoReadyCapacity, "%s %s to take the traffic of %s back: the analysis that spec.analysis asks for begins once it has",
				p.primaryName(), p.noReadyPods(p.f.Port.State), p.targetName())
			return true
		}
		// The spec may have been changed to get a revision out sooner that mends the primary.
		p.letCanaryServe()
	}
	p.next.Phase = v1beta1.CanaryPhaseProgressing
	p.next.Iterations = 0
	if p.st.Stage == stageSwitched {
		p.st.Stage = stageAnalysis
	}
	p.st.ToldHook = ""
	p.normal("Strategy changed! Restarting analysis for %s", p.targetName())
	return true
}

// stepsAreVoid is whether what was analyzed so far says nothing about the steps that the spec asks for: a share of the matched
// requests can't be compared with a share of all, and the weight of an A/B test is no end of a series of weights. A canary
// that serves instead of the primary gets all requests, whatever the spec says.
func (p *pass) stepsAreVoid() bool {
	if !p.f.Provider.Routes || p.st.Audience == "" || p.untouched() || p.canaryServes() {
		return false
	}
	s := strategyOf(p.f, p.a)
	tested := p.st.Audience == v1beta1.AudienceMatched && p.next.Iterations > 0
	return p.st.Audience != s.audience || tested && s.kind == v1beta1.DeploymentStrategyCanary
}

// recordAudience notes whose requests the step at hand is about.
func (p *pass) recordAudience() {
	if !p.canaryServes() {
		p.st.Audience = strategyOf(p.f, p.a).audience
	}
}

// adoptAudience completes the record of a run that an earlier version or another operator began. The routes tell whom it is
// about even if the spec was changed meanwhile.
func (p *pass) adoptAudience() {
	if p.st.Audience != "" || p.untouched() || p.canaryServes() || p.f.Problem != nil {
		return
	}
	p.recordAudience()
	if !p.f.Provider.Routes || !p.f.Routes.Known || p.f.Routes.CanaryWeight == 0 {
		return
	}
	p.st.Audience = v1beta1.AudienceAll
	if p.f.Routes.Matched {
		p.st.Audience = v1beta1.AudienceMatched
	}
}

// lostAudience is whether nothing tells anymore which requests the canary is to get.
func (p *pass) lostAudience() bool {
	return p.st.Audience == v1beta1.AudienceMatched && len(p.a.Match) == 0
}

// letCanaryServe leads everybody to a canary that is the only side which can serve.
func (p *pass) letCanaryServe() {
	p.leadAllToCanary()
	p.st.ServingSide = v1beta1.ServingCanary
}

// leadAllToCanary leads everybody to the canary, whomever its analysis was about.
func (p *pass) leadAllToCanary() {
	p.next.CanaryWeight = 100
	p.st.Mirror = false
	p.st.Audience = v1beta1.AudienceAll
}
