package controller

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/rollout"
)

const (
	// maxHookPause is the longest pause between two attempts of a webhook, fixed by the contract.
	maxHookPause = 30 * time.Second
	// maxHookTime bounds what a webhook may ask for by timeout and retries.
	maxHookTime = time.Hour
	// metricsTime is more than the metrics allow themselves, all of which run in parallel.
	metricsTime = 30 * time.Second
)

// inquire asks what a decision lacks, without waiting for it, and lets go of what is void by now. It returns when to ask again
// what could not be asked.
func (c *Controller) inquire(ctx context.Context, v *view, d rollout.Decision) (again time.Time) {
	c.inquiries.Keep(v.key, d.Standing)
	for _, need := range d.Needs {
		again = until(again, c.inquiries.Ask(ctx, v.key, need.ID(), func(ctx context.Context) rollout.Answer {
			return c.answer(ctx, v, need)
		}))
	}
	return again
}

// answer gets one answer.
func (c *Controller) answer(ctx context.Context, v *view, need rollout.Need) rollout.Answer {
	switch n := need.(type) {
	case rollout.NeedHooks:
		return rollout.Answer{Hooks: c.callHooks(ctx, v.canary, n)}
	case rollout.NeedMetrics:
		ctx, cancel := context.WithTimeout(ctx, metricsTime)
		defer cancel()
		readings := c.Metrics.Read(ctx, v.canary)
		n.Check.Now = c.Clock.Now()
		verdict := analysis.Evaluate(n.Check, readings)
		return rollout.Answer{Metrics: &verdict}
	case rollout.NeedProviders:
		ctx, cancel := context.WithTimeout(ctx, metricsTime)
		defer cancel()
		check := &rollout.ProvidersCheck{}
		if err := c.Metrics.Check(ctx, v.canary); err != nil {
			check.Error = v.memory.words.of(aboutProviders, err.Error(), v.canary.Generation, c.Clock.Now())
		} else {
			v.memory.words.over(aboutProviders, "")
		}
		return rollout.Answer{Providers: check}
	default:
		panic(fmt.Sprintf("the rules asked an unknown question %T", need))
	}
}

// unanswered tells of a question that went wrong in a way nobody foresaw. It is asked again.
func (c *Controller) unanswered(key string) *rollout.Problem {
	p, first := c.inquiries.Panicked(key)
	if p == nil {
		return nil
	}
	if first {
		c.logger(key).Error("panic in a question", zap.Any("panic", p.Value), zap.ByteString("stack", p.Stack))
	}
	return &rollout.Problem{Reason: rollout.ReasonInternalError, Message: messageOf(p)}
}

// callHooks calls the webhooks of one type in their order.
func (c *Controller) callHooks(ctx context.Context, canary *v1beta1.Canary, n rollout.NeedHooks) []rollout.HookResult {
	hooks := hook.OfType(canary, n.Type)
	ctx, cancel := context.WithTimeout(ctx, timeFor(hooks))
	defer cancel()
	answers := c.Hooks.CallAll(ctx, hooks, hook.Payload{
		Name: canary.Name, Namespace: canary.Namespace, Phase: n.Phase, Checksum: n.Checksum,
	}, n.Key)
	results := make([]rollout.HookResult, 0, len(answers))
	for i, answer := range answers {
		results = append(results, rollout.HookResult{
			Name: hooks[i].Name, Passed: answer.Passed, Text: answer.Text, MuteAlert: hooks[i].MuteAlert,
		})
	}
	return results
}

// timeFor is how long a series of webhooks may take at the most, going by their own timeouts and retries.
func timeFor(hooks []v1beta1.CanaryWebhook) time.Duration {
	total := time.Second
	for _, h := range hooks {
		timeout, err := time.ParseDuration(h.Timeout)
		if err != nil || timeout <= 0 {
			timeout = hook.DefaultTimeout
		}
		// Each term is bounded before it is added: a large timeout times many retries would overflow.
		calls := time.Duration(max(0, h.Retries)) + 1
		total += min(timeout, maxHookTime/calls)*calls + min(maxHookPause, maxHookTime/calls)*(calls-1)
		total = min(total, maxHookTime)
	}
	return total
}
