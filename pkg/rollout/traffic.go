package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// TrafficState is the routing that a status asks for.
type TrafficState struct {
	// CanaryWeight is in percent; the primary gets the rest.
	CanaryWeight int32
	// Mirror is whether the primary's requests are copied to the canary.
	Mirror bool
	// Matched is whether this is about the requests that analysis.match picks, all others being for the primary.
	Matched bool
}

// SendsToCanary is whether requests, or copies of requests, go to the canary.
func (t TrafficState) SendsToCanary() bool { return t.CanaryWeight > 0 || t.Mirror }

// Traffic returns what the routes have to express. The step is that of the status, so a repair restores the current one, and
// so is whom it is about: a spec that changed since leads no request to a canary that was not meant to get it.
func Traffic(a *v1beta1.CanaryAnalysis, status *v1beta1.CanaryStatus) TrafficState {
	t := TrafficState{CanaryWeight: status.CanaryWeight, Matched: len(a.Match) > 0}
	if status.Rollout == nil {
		return t
	}
	t.Mirror = status.Rollout.Mirror
	switch {
	case !t.SendsToCanary():
	case status.Rollout.Audience == v1beta1.AudienceAll:
		t.Matched = false
	case status.Rollout.Audience == v1beta1.AudienceMatched && !t.Matched:
		// Nobody is known anymore who is to get the canary.
		t.CanaryWeight, t.Mirror = 0, false
	}
	return t
}

// MaxWeight returns the weight at which a weighted canary is promoted, in percent: the last of stepWeights, else maxWeight,
// else 100 (contract section 3.6). A list that ends at 0 has no maximum: nothing is promoted that got no request.
func MaxWeight(a *v1beta1.CanaryAnalysis) int32 {
	if n := len(a.StepWeights); n > 0 && a.StepWeights[n-1] > 0 {
		return min(100, a.StepWeights[n-1])
	}
	if a.MaxWeight > 0 {
		return min(100, a.MaxWeight)
	}
	return 100
}

// NextWeight returns the canary weight that follows w, and false when the analysis names no step that raises it. A weight
// that is not in stepWeights, because the list was edited during a run, goes on to the next higher entry.
func NextWeight(a *v1beta1.CanaryAnalysis, w int32) (int32, bool) {
	if a.StepWeight > 0 {
		return min(100, w+a.StepWeight), true
	}
	next := int32(101)
	for _, s := range a.StepWeights {
		if s > w && s < next {
			next = s
		}
	}
	return min(100, next), next <= 100
}

// strategy is the kind of analysis and its number of iterations, after what the provider can't do was taken away.
type strategy struct {
	kind       string
	iterations int32
	// audience is whose requests the analysis leads to the canary.
	audience string
	// warnings say what was taken away.
	warnings []string
}

// defaultIterations replace weights where no provider can split traffic (contract section 3.1, step 26).
const defaultIterations = 10

func strategyOf(f *Facts, a *v1beta1.CanaryAnalysis) strategy {
	s := strategy{kind: v1beta1.DeploymentStrategyCanary, iterations: a.Iterations, audience: v1beta1.AudienceAll}
	match := len(a.Match) > 0
	if !f.Provider.Weights {
		if match {
			s.warnings = append(s.warnings, "A/B testing is not supported when using the kubernetes provider")
		}
		if s.iterations < 1 {
			s.iterations = defaultIterations
			s.warnings = append(s.warnings,
				"Progressive traffic is not supported when using the kubernetes provider",
				"Setting canaryAnalysis.iterations: 10")
		}
		match = false
	}
	if match {
		s.audience = v1beta1.AudienceMatched
	}
	switch {
	case s.iterations > 0 && match:
		s.kind = v1beta1.DeploymentStrategyABTesting
	case s.iterations > 0:
		s.kind = v1beta1.DeploymentStrategyBlueGreen
	}
	return s
}
