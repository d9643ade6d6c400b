package controller

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/rollout"
)

// silence is a Canary under analysis at 50% whose webhook, or metric server, does not answer.
type silence struct {
	*loop
	// asked gets the context of each question that is left without an answer until its context ends or something comes by
	// answers.
	asked   chan context.Context
	answers chan bool
	abort   atomic.Bool
}

// metricsAreSilent stands for the type of hook where the metric server is the one that does not answer.
const metricsAreSilent v1beta1.HookType = "metrics"

// newSilence runs a Canary until the first question of a kind is outstanding.
func newSilence(t *testing.T, kind v1beta1.HookType) *silence {
	t.Helper()
	canary := revertible("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["provider"], spec["progressDeadlineSeconds"] = "istio", int64(60)
	spec["analysis"] = map[string]any{"interval": "10s", "threshold": int64(5), "stepWeight": int64(50), "maxWeight": int64(50)}
	withWebhooks(canary,
		map[string]any{"name": "load", "type": "rollout", "url": "http://hook.test/", "timeout": "30m"},
		map[string]any{"name": "promote", "type": "confirm-promotion", "url": "http://hook.test/", "timeout": "30m"},
		map[string]any{"name": "abort", "type": "rollback", "url": "http://hook.test/", "timeout": "30m"})
	spec["analysis"].(map[string]any)["metrics"] = []any{map[string]any{"name": "errors", "query": "x"}}
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), canary)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	s := &silence{loop: newLoop(t, a, 1), asked: make(chan context.Context, 100), answers: make(chan bool)}
	silent := func() bool { return a.canary("podinfo").Status.CanaryWeight == 50 }
	s.hooks.answer = func(ctx context.Context, h v1beta1.CanaryWebhook) hook.Result {
		switch {
		case h.Type == kind && silent():
			return hook.Result{Passed: s.wait(ctx)}
		case h.Type == v1beta1.RollbackHook:
			return hook.Result{Passed: s.abort.Load()}
		}
		return hook.Result{Passed: true, Status: 200}
	}
	s.metrics.read = func(ctx context.Context) []analysis.Reading {
		value := 100.0
		if kind == metricsAreSilent && silent() && !s.wait(ctx) {
			value = 0
		}
		return []analysis.Reading{{
			Metric: v1beta1.CanaryMetric{Name: "errors", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: new(99.0)}},
			Source: analysis.Inline, State: analysis.Value, Value: value,
		}}
	}
	s.start()
	s.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	s.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	a.paint("podinfo", "blue")
	s.until("a question without an answer", func() bool { return len(s.asked) > 0 })
	return s
}

func (s *silence) wait(ctx context.Context) bool {
	s.asked <- ctx
	select {
	case passed := <-s.answers:
		return passed
	case <-ctx.Done():
		return false
	}
}

// within waits until something holds, while no more time passes than given and pods stay as they are.
func (s *silence) within(d time.Duration, what string, ok func() bool) {
	s.t.Helper()
	end := s.clock.Now().Add(d)
	eventually(s.t, what, func() bool {
		if ok() {
			return true
		}
		if s.clock.Now().Before(end) {
			s.clock.Step(100 * time.Millisecond)
		}
		return false
	})
}

// leadsToCanary is the share of the canary by the status and by the routes.
func (s *silence) leadsToCanary() (wanted int32, routed int64) {
	_, routed = s.api.canaryWeights()
	return s.api.canary("podinfo").Status.CanaryWeight, routed
}

// pods says how many of the two pods of the canary are ready.
func (s *silence) pods(ready int64) {
	s.t.Helper()
	u := s.api.get(deploymentResource, "podinfo")
	status := statusOf(u.GetGeneration(), 2)
	status["readyReplicas"], status["availableReplicas"] = ready, ready
	u.Object["status"] = status
	s.api.put(u)
}

func (s *silence) noTrafficToCanary() bool {
	wanted, routed := s.leadsToCanary()
	return wanted == 0 && routed == 0
}

// Invariants 1 and 6 hold at every moment: what keeps traffic safe, and what people ask for, does not wait for an answer.
func TestSilenceSwitchesNoProtectionOff(t *testing.T) {
	for _, kind := range []v1beta1.HookType{v1beta1.RolloutHook, metricsAreSilent, v1beta1.RollbackHook, v1beta1.ConfirmPromotionHook} {
		for name, happens := range map[string]func(s *silence){
			"canary without pods": func(s *silence) {
				s.pods(0)
				s.within(0, "all traffic on the primary", s.noTrafficToCanary)
			},
			"drift": func(s *silence) {
				u := s.api.get(virtualServices, "podinfo")
				routes, _, _ := unstructured.NestedSlice(u.Object, "spec", "http")
				for _, d := range routes[0].(map[string]any)["route"].([]any) {
					d.(map[string]any)["weight"] = int64(100)
				}
				s.api.edit(virtualServices, "podinfo", routes, "spec", "http")
				s.within(0, "the weight of the step", func() bool { _, routed := s.leadsToCanary(); return routed == 50 })
			},
			"deadline": func(s *silence) {
				s.pods(1)
				s.within(2*time.Minute, "the end of the rollout", func() bool { return s.phase("podinfo") == v1beta1.CanaryPhaseFailed })
			},
			"rollback hook": func(s *silence) {
				if kind == v1beta1.RollbackHook {
					s.answers <- true
				}
				s.abort.Store(true)
				s.within(20*time.Second, "all traffic on the primary", s.noTrafficToCanary)
			},
			"deletion": func(s *silence) {
				s.api.delete("podinfo")
				s.within(20*time.Second, "the finalizer to go", func() bool {
					return !slices.Contains(s.api.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
				})
			},
			"suspend": func(s *silence) {
				s.api.edit(canaryResource, "podinfo", true, "spec", "suspend")
				s.within(0, "the condition", func() bool { return s.healthy("podinfo").Reason == string(rollout.ReasonSuspended) })
			},
			"skipAnalysis": func(s *silence) {
				s.api.edit(canaryResource, "podinfo", true, "spec", "skipAnalysis")
				s.until("the promotion", func() bool { return s.phase("podinfo") == v1beta1.CanaryPhaseSucceeded })
			},
			"new revision": func(s *silence) {
				run := s.api.canary("podinfo").Status.Rollout.Run
				s.api.paint("podinfo", "green")
				s.within(0, "the start of the next analysis", func() bool { return s.api.canary("podinfo").Status.Rollout.Run == run+1 })
				s.within(0, "all traffic on the primary", s.noTrafficToCanary)
			},
		} {
			t.Run(string(kind)+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := newSilence(t, kind)
				first := <-s.asked
				happens(s)
				switch {
				case name != "drift":
					eventually(t, "the question to end", func() bool { return first.Err() != nil })
				case kind != metricsAreSilent && first.Err() != nil:
					t.Error("a webhook that is asked the same again was canceled")
				}
			})
		}
	}
}

// Rollback hooks are asked at their interval, whatever else is outstanding.
func TestSilenceLeavesRollbackHooksTheirInterval(t *testing.T) {
	s := newSilence(t, v1beta1.RolloutHook)
	var polls atomic.Int32
	inner := s.hooks.answer
	s.hooks.set(func(ctx context.Context, h v1beta1.CanaryWebhook) hook.Result {
		if h.Type == v1beta1.RollbackHook {
			polls.Add(1)
		}
		return inner(ctx, h)
	})
	s.unanswered = 1
	for range 600 {
		s.clock.Step(time.Second)
		s.untilIdle()
	}
	if n := polls.Load(); n < 50 || n > 60 {
		t.Errorf("%d polls in ten minutes, want one in ten seconds", n)
	}
	if n := len(s.asked); n != 1 {
		t.Errorf("the webhook that is at work was called %d times", n)
	}
	if got := s.healthy("podinfo"); got.Status == corev1.ConditionFalse {
		t.Errorf("unhealthy for %s: %s", got.Reason, got.Message)
	}
}
