package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/rollout"
)

// pass brings one Canary as far as it can get now, and says when to look again.
func (c *Controller) pass(ctx context.Context, key string) (time.Time, error) {
	v, err := c.observe(key)
	var undecodable cache.UndecodableError
	switch {
	case errors.As(err, &undecodable):
		c.limit.withdraw(key, c.Clock.Now())
		return time.Time{}, c.reportUndecodable(ctx, key, undecodable)
	case err != nil:
		return time.Time{}, err
	case v == nil:
		c.forget(key)
		return time.Time{}, nil
	}
	c.meetOpponents(ctx, v)
	answers, since := c.inquiries.Answers(key)
	v.facts.Unanswered = c.unanswered(key)
	decision := rollout.Resolve(&v.facts, answers)
	v.memory.sight = decision.Sight
	wake := decision.Wake
	if v.seen.RecheckAt.After(v.facts.Now) {
		wake = until(wake, v.seen.RecheckAt)
	}
	wake = until(wake, v.memory.words.due(v.facts.Now))
	begins := !rollout.UnderWay(v.canary.Status.Phase) && rollout.UnderWay(decision.Status.Phase)
	if begins && !c.limit.begin(key) {
		return time.Time{}, errMoved
	}
	stored, err := c.store(ctx, v, decision)
	if begins && err != nil && !isConflict(err) {
		c.limit.unstored(key, isRefused(err), v.started)
	}
	if apierrors.IsNotFound(err) {
		// Deleted meanwhile; the event is on its way. If none comes, whoever answered was wrong.
		return v.facts.Now.Add(lookAgain), nil
	}
	if err != nil {
		return time.Time{}, c.reportUnstored(ctx, v, err)
	}
	c.publisher.Offer(key, stored)
	c.observeOutcomes(v, stored, decision, until(since, v.started))
	// Before the actions: what is asked does not depend on them, and one that fails may fail for long.
	wake = until(wake, c.inquire(ctx, v, decision))
	if begins && onlyPods(decision.Actions) && c.queue.Pressed() {
		// Others have yet to begin. The next pass, after those, finds the actions again, as it does after a crash.
		c.queue.Hurry(key)
		return wake, nil
	}
	if len(decision.Actions) > 0 {
		wake = until(wake, v.facts.Now.Add(lookAgain))
	}
	err = c.carryOut(ctx, v, stored, decision)
	return until(wake, v.memory.contentions.wake(c.Clock.Now())), err
}

// lookAgain is how long after its actions a Canary gets a pass that sees what became of them. Events bring it much earlier;
// none comes of a write that was answered and had no effect, such as a deletion that was answered with "not found" by a server
// that did not know the resource for a moment.
const lookAgain = 10 * time.Second

// onlyPods is whether nothing is to be done but to give a canary pods, which may wait: traffic that has to be led away from one may not.
func onlyPods(actions []rollout.Action) bool {
	if len(actions) != 1 {
		return false
	}
	_, ok := actions[0].(rollout.ScaleTargetUp)
	return ok
}

// store writes the status if it differs, and returns the Canary with its new status.
func (c *Controller) store(ctx context.Context, v *view, d rollout.Decision) (*v1beta1.Canary, error) {
	changed, err := cache.Changed(&v.canary.Status, &d.Status)
	if err != nil {
		return nil, named(v.canary, err)
	}
	if changed == nil {
		return v.canary, nil
	}
	within, end := c.Tracer.WriteStatus(ctx, v.canary, &d.Status, d.Rule)
	v.memory.written, err = c.canaries.WriteStatus(within, v.object(), v.memory.canary, changed)
	end(err)
	if err != nil {
		return nil, err
	}
	stored := *v.canary
	stored.Status = d.Status
	c.logger(v.key).Debug("status written", zap.String("rule", d.Rule), zap.String("phase", string(d.Status.Phase)),
		zap.String("stage", stageOf(&d.Status)), zap.Int32("weight", d.Status.CanaryWeight))
	return &stored, nil
}

func stageOf(s *v1beta1.CanaryStatus) string {
	if s.Rollout == nil {
		return ""
	}
	return s.Rollout.Stage
}

// carryOut runs the actions in order up to the first that fails. What failed is told to the rules of the next pass.
func (c *Controller) carryOut(ctx context.Context, v *view, stored *v1beta1.Canary, d rollout.Decision) error {
	for _, action := range d.Actions {
		within, end := c.Tracer.Write(ctx, stored.Namespace, stored.Name, strings.TrimPrefix(fmt.Sprintf("%T", action), "rollout."))
		err := c.apply(within, v, stored, action)
		end(err)
		if err != nil {
			if (!isConflict(err) || c.queue.Stubborn(v.key)) && ctx.Err() == nil {
				v.memory.applyError = v.memory.words.of(aboutAction, shortened(err.Error()), v.canary.Generation, v.started)
			}
			return err
		}
	}
	v.calmActions(d.Actions)
	settled := v.facts.Contended != nil && v.memory.contentions.problem() == nil
	if v.memory.applyError == "" && !settled && !v.memory.contentions.untold() {
		return nil
	}
	v.memory.applyError = ""
	v.memory.words.over(aboutAction, "")
	// The rules have not heard yet that all is well again, or that it is not.
	c.queue.Add(v.key)
	return nil
}
