package simulate

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// source hands out bytes, and zeros when there are none left.
type source struct{ bytes []byte }

func (s *source) next() byte {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return b
}

// below returns a number below n.
func (s *source) below(n int) int { return int(s.next()) % n }

func (s *source) bool() bool { return s.next()&1 != 0 }

func pick[T any](s *source, from ...T) T { return from[s.below(len(from))] }

// percent favors the ends, where things go wrong.
func (s *source) percent() int32 {
	return pick(s, int32(s.next())%101, 0, 1, 10, 30, 50, 99, 100)
}

// hookTypes are those that a Canary may have.
var hookTypes = []v1beta1.HookType{
	v1beta1.ConfirmRolloutHook, v1beta1.PreRolloutHook, v1beta1.RolloutHook, v1beta1.RollbackHook,
	v1beta1.ConfirmTrafficIncreaseHook, v1beta1.ConfirmPromotionHook, v1beta1.PostRolloutHook,
}

// shape is what a Canary and its cluster are like.
type shape struct {
	canary   *v1beta1.Canary
	provider rollout.ProviderFact
	replicas int32
	strategy Strategy
	lag      time.Duration
}

// shapeBytes is how many bytes say what a Canary and its cluster are like, but for the policies of its metrics.
const shapeBytes = 32

// shapeOf makes a Canary that the schema admits of whatever the bytes say.
func shapeOf(s *source) shape {
	c := podinfo()
	// The policies of metrics have bytes of their own, so that they change nothing else of what a seed stands for.
	policies := &source{s.bytes[min(len(s.bytes), shapeBytes):]}
	s.bytes = s.bytes[:min(len(s.bytes), shapeBytes)]
	shapeStrategy(s, c.Spec.Analysis)
	shapeAnalysis(s, c.Spec.Analysis)
	shapeHooks(s, c.Spec.Analysis)
	c.Spec.SkipAnalysis = s.below(8) == 1
	c.Spec.RevertOnDeletion = s.bool()
	c.Spec.ProgressDeadlineSeconds = pick(s, nil, new(int32(30)), new(int32(60)), new(int32(3600)))
	if s.below(32) == 1 {
		// Without an analysis every revision is promoted at once.
		c.Spec.Analysis = nil
	}
	if s.below(4) == 1 {
		scaled(&c.Spec)
	}
	p := mesh()
	if s.below(4) == 1 {
		p = noMesh()
	}
	p.ReportsSettled = s.bool() && p.Routes
	p.ReportsDataPlane = p.ReportsSettled && s.bool()
	p.Mirror, p.Match = p.Mirror && s.below(4) != 1, p.Match && s.below(4) != 1
	made := shape{canary: c, provider: p, replicas: int32(pick(s, 1, 2, 3, 0)), strategy: shapeRollingUpdate(s)}
	if c.Spec.Analysis != nil && policies.bool() {
		shapePolicy(policies, c.Spec.Analysis)
	}
	made.lag = pick(policies, 0, 0, time.Second, 2*time.Second)
	if c.Spec.Analysis != nil {
		shapeSplit(policies, c.Spec.Analysis)
	}
	return made
}

// shapeRollingUpdate is how the target replaces its pods.
func shapeRollingUpdate(s *source) Strategy {
	return pick(s, Strategy{}, Strategy{Recreate: true}, Strategy{Surge: 25, Missing: 25}, Strategy{Missing: 100}, Strategy{Missing: 50},
		Strategy{Missing: 1, RoundUp: true}, Strategy{Missing: 51, RoundUp: true}, Strategy{Surge: 100, Missing: 100})
}

// shapeStrategy sets exactly one of the fields that choose a strategy, as the schema demands.
func shapeStrategy(s *source, a *v1beta1.CanaryAnalysis) {
	a.StepWeight, a.StepWeights, a.Iterations, a.Match = 0, nil, 0, nil
	switch s.below(5) {
	case 0:
		a.StepWeight, a.MaxWeight = max(1, s.percent()), s.percent()
	case 1:
		weight := int32(0)
		for range 1 + s.below(5) {
			a.StepWeights = append(a.StepWeights, weight+int32(s.below(30)))
			weight = a.StepWeights[len(a.StepWeights)-1] + 1
		}
	case 2:
		a.Iterations = int32(1 + s.below(4))
	case 3:
		a.Iterations, a.Match = int32(1+s.below(4)), []v1beta1.AnalysisMatch{{}}
	case 4:
		// No step leads on: the run waits until somebody corrects that.
		a.StepWeight, a.MaxWeight = 0, s.percent()
	}
}

func shapeAnalysis(s *source, a *v1beta1.CanaryAnalysis) {
	a.Interval = pick(s, "60s", "10s", "30s", "1h", "1ms")
	a.Threshold = int32(s.below(5))
	a.Mirror = s.bool()
	a.StepWeightPromotion = pick(s, 0, s.percent())
	if s.below(4) == 1 {
		a.Metrics = nil
	}
	switch s.below(4) {
	case 1:
		a.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "c"}
	case 2:
		a.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "c", PrimaryCookieName: "p"}
	default:
		a.SessionAffinity = nil
	}
}

// shapePolicy says what the judgement of the metric leads to.
func shapePolicy(s *source, a *v1beta1.CanaryAnalysis) {
	if len(a.Metrics) == 0 {
		return
	}
	m := &a.Metrics[0]
	m.MetricPolicy = v1beta1.MetricPolicy{
		MinSamples: pick(s, int32(0), 0, 100), NoData: pick(s, "", v1beta1.NoDataFail, v1beta1.NoDataHold, v1beta1.NoDataPass),
		Mode: pick(s, "", "", v1beta1.ModeEnforce, v1beta1.ModeObserve), Warmup: pick(s, "", "", "1m", "1h"),
	}
	if m.GetNoData() != v1beta1.NoDataFail {
		m.NoDataLimit = pick(s, "", "1m", "1h", "0s")
	}
	m.Critical = m.Mode != v1beta1.ModeObserve && s.below(3) == 1
	m.ThresholdRange = &v1beta1.CanaryThresholdRange{Min: new(99.0)}
	if s.below(3) == 1 {
		m.Comparison, m.ThresholdRange = oneWorse(), nil
	}
}

// shapeSplit says what the share of the canary leads to.
func shapeSplit(s *source, a *v1beta1.CanaryAnalysis) {
	mode := pick(s, v1beta1.SplitMode(""), v1beta1.SplitIgnore, v1beta1.SplitEnforce, v1beta1.SplitEnforce)
	if mode == "" || mode == v1beta1.SplitEnforce && a.NoShare() != "" {
		return
	}
	a.Split = &v1beta1.SplitPolicy{Mode: mode, Limit: pick(s, "", "1m", "0s", "1h"), Tolerance: pick(s, int32(0), 1, 40)}
}

// shapeHooks adds hooks of the types that a byte names.
func shapeHooks(s *source, a *v1beta1.CanaryAnalysis) {
	a.Webhooks = nil
	types := s.next()
	if s.bool() {
		types = 0
	}
	for i, h := range hookTypes {
		if types>>i&1 != 0 {
			a.Webhooks = append(a.Webhooks, v1beta1.CanaryWebhook{Name: string(h), Type: h, URL: "http://x", MuteAlert: types&128 != 0})
		}
	}
}
