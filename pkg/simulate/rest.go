package simulate

import (
	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// maxPasses is how many passes the loop may take without any time going by. A rollout needs less than ten of them for what
// takes no time.
const maxPasses = 500

// checkLoop demands that passes come to an end as long as nothing happens.
func (w *World) checkLoop() {
	if !w.now.Equal(w.loopAt) {
		w.loopAt, w.loops = w.now, 0
	}
	if w.loops++; w.loops == maxPasses {
		w.violate(6, "%d passes without a rest, phase %s", w.loops, w.canary.Status.Phase)
	}
}

// spins is whether the loop goes on without anything happening. Playing on would take long and show nothing new.
func (w *World) spins() bool { return w.loops >= maxPasses && w.now.Equal(w.loopAt) }

// checkQuiet holds what the cluster looks like when there is nothing left to do for now against the invariants 1, 4 and 7.
func (w *World) checkQuiet(f *rollout.Facts) {
	if w.canary.Spec.Suspend || w.canary.DeletionTimestamp != nil || f.Problem != nil && f.Problem.Unknown || w.refuse != nil {
		return
	}
	w.checkServingPods(f)
	if f.Problem != nil {
		return
	}
	w.checkPromotion(f)
	w.checkRoutes(f)
	w.checkHealthy(f)
	w.checkWayBack(f)
}

// checkWayBack demands that Flagger, should it be put back while a Canary rests, begins no rollout.
func (w *World) checkWayBack(f *rollout.Facts) {
	s, now := &w.canary.Status, f.Target.Revision.FlaggerHash
	if rollout.UnderWay(s.Phase) || s.Rollout == nil || s.Rollout.Promoted == nil || s.Phase == v1beta1.CanaryPhaseWaiting ||
		w.gateIsAsked() {
		return
	}
	if f.Target.Paused {
		// What it was changed to meanwhile is no revision until somebody asks for it. Flagger does not know of that.
		return
	}
	if s.Rollout.Waiting != nil {
		// Flagger waits for nobody.
		return
	}
	if now != s.LastAppliedSpec && now != s.LastPromotedSpec {
		w.violate(7, "at rest with %s, of which Flagger is told %s applied, %s promoted", now, s.LastAppliedSpec, s.LastPromotedSpec)
	}
}

// checkServingPods demands that nothing goes to a canary without pods as long as the primary has some.
func (w *World) checkServingPods(f *rollout.Facts) {
	if w.routed.SendsToCanary() && w.routes && f.Target.Available == 0 && w.ready(&w.primary) &&
		w.canary.Status.Phase != v1beta1.CanaryPhaseInitializing {
		w.violate(1, "weight %d, mirror %t on a canary without pods while the primary has %d", w.routed.CanaryWeight, w.routed.Mirror,
			f.Primary.Available)
	}
}

// checkPromotion demands that a primary without pods gets no requests during its promotion as long as the canary can have them.
func (w *World) checkPromotion(f *rollout.Facts) {
	target := w.canary.Status.Rollout.Target
	analyzed := target != nil && target.Fingerprint == f.Target.Revision.Fingerprint
	if w.canary.Status.Phase == v1beta1.CanaryPhasePromoting && w.opts.Provider.Routes && w.routes && analyzed && f.Primary.Exists &&
		f.Primary.Available == 0 && f.Target.Health.State == rollout.Ready && toAll(w.routed) < 100 {
		w.violate(1, "%d%% of the requests go to a primary without pods while the canary has %d", 100-toAll(w.routed), f.Target.Available)
	}
}

// checkRoutes demands that the routes are those of the status, unless that would lead to a side without pods.
func (w *World) checkRoutes(f *rollout.Facts) {
	s, want := &w.canary.Status, w.wanted()
	if s.Phase == "" || s.Phase == v1beta1.CanaryPhaseInitializing || !w.opts.Provider.Routes || !w.routes {
		return
	}
	without := want.CanaryWeight > w.routed.CanaryWeight && f.Target.Available == 0 ||
		want.CanaryWeight < w.routed.CanaryWeight && f.Primary.Available == 0
	if w.routed != want && !without {
		w.violate(4, "routed %+v, the status wants %+v", w.routed, want)
	}
	if bound := s.SessionAffinityCookie != ""; bound != (w.canary.GetAnalysis().SessionAffinity != nil && w.opts.Provider.SessionAffinity && s.CanaryWeight > 0) {
		w.violate(4, "cookie %q at weight %d", s.SessionAffinityCookie, s.CanaryWeight)
	}
}

// checkHealthy demands that a Canary at rest does not call itself healthy when nobody answers.
func (w *World) checkHealthy(f *rollout.Facts) {
	s := &w.canary.Status
	switch s.Phase {
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed:
	default:
		return
	}
	for _, c := range s.Conditions {
		if c.Type == v1beta1.HealthyType && c.Status == corev1.ConditionTrue && f.Primary.Available == 0 && s.CanaryWeight == 0 &&
			(!w.scaler.exists || f.Primary.Replicas > 0) {
			w.violate(7, "healthy in phase %s with a primary without pods", s.Phase)
		}
		known := s.Rollout.Promoted != nil && s.Rollout.Promoted.Fingerprint != "unknown"
		if c.Type == v1beta1.HealthyType && c.Status == corev1.ConditionTrue && f.Primary.Edited && known {
			w.violate(7, "healthy in phase %s with %s on the primary instead of %s", s.Phase, w.primary.template, s.Rollout.Promoted.Fingerprint)
		}
	}
}

// checkEndIsTold demands an alert for each end of a rollout.
func (w *World) checkEndIsTold(old v1beta1.CanaryPhase, next *v1beta1.CanaryStatus) {
	if next.Rollout == nil {
		return
	}
	for _, n := range next.Rollout.Outbox {
		if n.Alert == nil || n.Sequence <= w.alerted {
			continue
		}
		w.alerted = n.Sequence
		w.untold = w.untold && n.Alert.Details
	}
	if next.Phase == old {
		return
	}
	switch next.Phase {
	case v1beta1.CanaryPhaseProgressing:
		// A promotion that is taken back begins nothing, and its end was told.
		w.untold = w.untold || old != v1beta1.CanaryPhaseWaitingPromotion && old != v1beta1.CanaryPhasePromoting &&
			next.Rollout.Stage != "rollback"
	case v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed:
		if w.untold {
			w.violate(7, "a rollout ended in %s without an alert", next.Phase)
		}
		w.untold = false
	case v1beta1.CanaryPhaseTerminating:
		w.untold = false
	default:
	}
}
