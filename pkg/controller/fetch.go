package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

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

// fetch answers the questions of the rules, all at the same time, without holding a worker. It fails with errMoved when a
// new revision or a changed Canary makes the answers void.
func (c *Controller) fetch(ctx context.Context, v *view, needs []rollout.Need) (rollout.Checks, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupted := false
	c.mu.Lock()
	v.memory.asked = generations{v.canary.Generation, v.facts.Target.Revision.Generation}
	v.memory.interrupt = func() {
		interrupted = true
		cancel()
	}
	c.mu.Unlock()

	checks := v.facts.Checks
	checks.Hooks = map[v1beta1.HookType][]rollout.HookResult{}
	for kind, results := range v.facts.Checks.Hooks {
		checks.Hooks[kind] = results
	}
	var mu sync.Mutex
	c.workers.Without(func() { c.ask(ctx, v, needs, &checks, &mu) })

	c.mu.Lock()
	defer c.mu.Unlock()
	v.memory.interrupt = nil
	if interrupted {
		return checks, errMoved
	}
	return checks, ctx.Err()
}

func (c *Controller) ask(ctx context.Context, v *view, needs []rollout.Need, checks *rollout.Checks, mu *sync.Mutex) {
	var wait sync.WaitGroup
	// A panic in a goroutine of its own would end the process: it is carried over to the pass.
	panics := make(chan any, len(needs))
	for _, need := range needs {
		wait.Go(func() {
			defer func() {
				if value := recover(); value != nil {
					panics <- value
				}
			}()
			put := c.answer(ctx, v, need)
			mu.Lock()
			defer mu.Unlock()
			put(checks)
		})
	}
	wait.Wait()
	select {
	case value := <-panics:
		panic(value)
	default:
	}
}

// answer fetches one answer and returns how to put it into the checks.
func (c *Controller) answer(ctx context.Context, v *view, need rollout.Need) func(*rollout.Checks) {
	switch n := need.(type) {
	case rollout.NeedHooks:
		results := c.callHooks(ctx, v.canary, n)
		v.reword(n.Type, results, c.Clock.Now())
		return func(checks *rollout.Checks) { checks.Hooks[n.Type] = results }
	case rollout.NeedMetrics:
		ctx, cancel := context.WithTimeout(ctx, metricsTime)
		defer cancel()
		verdict := analysis.Evaluate(analysis.ID{
			Name: v.canary.Name, Namespace: v.canary.Namespace, Target: v.canary.Spec.TargetRef.Name,
		}, c.Metrics.Read(ctx, v.canary))
		return func(checks *rollout.Checks) { checks.Metrics = &verdict }
	case rollout.NeedProviders:
		ctx, cancel := context.WithTimeout(ctx, metricsTime)
		defer cancel()
		check := &rollout.ProvidersCheck{}
		if err := c.Metrics.Check(ctx, v.canary); err != nil {
			check.Error = v.memory.words.of(aboutProviders, err.Error(), v.canary.Generation, c.Clock.Now())
		} else {
			v.memory.words.over(aboutProviders, "")
		}
		return func(checks *rollout.Checks) { checks.Providers = check }
	default:
		panic(fmt.Sprintf("the rules asked an unknown question %T", need))
	}
}

// reword keeps the words of the last answer of a webhook that fails again.
func (v *view) reword(t v1beta1.HookType, results []rollout.HookResult, now time.Time) {
	for i := range results {
		r := &results[i]
		about := aboutHook + string(t) + "/" + r.Name
		if r.Passed {
			v.memory.words.over(about, "")
		} else {
			r.Text = v.memory.words.of(about, r.Text, v.canary.Generation, now)
		}
	}
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
