package telemetry

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Values of the label wait.
const (
	waitNone     = "none"
	waitApproval = "approval"
)

// moment is how a Canary stood at a time.
type moment struct {
	at    time.Time
	phase v1beta1.CanaryPhase
	wait  string
}

// Spent accounts for the time since the last call to the phase that the Canary was in then. What passed before the first call, as
// while the operator was away, belongs to no phase.
func (r *Recorder) Spent(c *v1beta1.Canary, now time.Time) {
	r.observe(c, func(target string) {
		key := object{c.Namespace, c.Name}
		if before, known := r.moments[key]; known && underWay(before.phase) && now.After(before.at) {
			r.vectors.counters[namePhaseTime].WithLabelValues(target, c.Namespace, string(before.phase), before.wait).Add(now.Sub(before.at).Seconds())
		}
		r.moments[key] = moment{now, c.Status.Phase, waitOf(&c.Status)}
	})
}

// underWay tells the phases of a rollout, waiting for its approval included, from those of rest.
func underWay(phase v1beta1.CanaryPhase) bool {
	switch phase {
	case v1beta1.CanaryPhaseInitializing, v1beta1.CanaryPhaseWaiting, v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseWaitingPromotion,
		v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising:
		return true
	default:
		return false
	}
}

// waitOf is what a rollout waits for. One that waits at a step says by which webhooks.
func waitOf(s *v1beta1.CanaryStatus) string {
	if s.Phase == v1beta1.CanaryPhaseWaiting || s.Phase == v1beta1.CanaryPhaseWaitingPromotion ||
		s.Phase == v1beta1.CanaryPhaseProgressing && s.Rollout != nil && s.Rollout.ToldHook == v1beta1.ConfirmTrafficIncreaseHook {
		return waitApproval
	}
	return waitNone
}
