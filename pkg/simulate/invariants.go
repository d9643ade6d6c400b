package simulate

import (
	"reflect"
	"slices"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// checkAction holds an action against the invariants 1 to 4 at the moment of its write.
func (w *World) checkAction(a rollout.Action) {
	switch a := a.(type) {
	case rollout.EnsureRoutes:
		w.checkTraffic(w.wanted())
	case rollout.EnsureApexService:
		if !w.apex && w.primary.available(w.now) == 0 && w.target.available(w.now) > 0 {
			w.violate(1, "clients led to a primary without a ready pod")
		}
	case rollout.ScaleTargetToZero:
		if w.zeroSince.IsZero() || w.now.Sub(w.zeroSince) < w.drainTime(w.served && w.target.available(w.now) > 0) {
			w.violate(2, "target scaled down although traffic may still reach it")
		}
	case rollout.EnsureBackendServices, rollout.EnsurePrimaryScaler, rollout.ScaleTargetUp:
	case rollout.RetireRoutes, rollout.RetireServices:
		w.checkRetirement(a)
	case rollout.EnsurePrimary:
		w.checkCopy(a.Revision.Fingerprint)
	default:
		w.checkDeletion(a)
	}
}

// settled is whether the provider reports that the routes are in force.
func (w *World) settled() bool {
	return w.routes && !w.unsettled && !w.silent && w.nextReport().IsZero()
}

// drainTime is how long pods have to stay after the last route to them is gone. The proxies may lag behind whatever a controller
// reports, so those that served stay for an interval where nobody looks at the proxies themselves.
func (w *World) drainTime(served bool) time.Duration {
	delay := Settings().PropagationDelay
	if !served || w.opts.Provider.ReportsDataPlane && w.settled() {
		return delay
	}
	return max(delay, w.canary.GetAnalysisInterval(Settings().MinInterval))
}

// checkTraffic demands ready pods on a side that gets more than before, unless the other has none either.
func (w *World) checkTraffic(t rollout.TrafficState) {
	before := w.routed
	if !w.routes {
		before = rollout.TrafficState{CanaryWeight: 0}
	}
	canary, primary := w.ready(&w.target), w.ready(&w.primary)
	// A side that its autoscaler means to be without pods is fit for requests.
	canaryFit, primaryFit := canary || w.atZero(&w.target), primary || w.atZero(&w.primary)
	// A primary without pods leaves nobody else to answer.
	if serving := w.canary.Status.Rollout.ServingSide; before.Matched && before.CanaryWeight > 0 && toAll(t) > 0 && serving == "" &&
		w.canary.Status.Phase != v1beta1.CanaryPhasePromoting && primary {
		w.violate(4, "%d%% of all requests led to a canary that only the matched ones were meant for", t.CanaryWeight)
	}
	if t.CanaryWeight > before.CanaryWeight && !canaryFit && primary {
		w.violate(1, "canary weight raised to %d without a ready pod", t.CanaryWeight)
	}
	if toAll(t) > toAll(before) && !canaryFit && primary {
		w.violate(1, "%d%% of all requests led to a canary without a ready pod", t.CanaryWeight)
	}
	if (t.CanaryWeight < before.CanaryWeight || toAll(t) < toAll(before)) && !primaryFit && canary {
		w.violate(1, "primary weight raised to %d, matched %t, without a ready pod", 100-t.CanaryWeight, t.Matched)
	}
}

// checkFound demands that proxies have had the time to find a primary which is to get its first requests while the target can have them:
// those of a bootstrap, and those after a time in which the canary had all. A rollback, and a canary that died or became another revision,
// are in a hurry.
func (w *World) checkFound(f *rollout.Facts, d *rollout.Decision) {
	a, phase, under := f.Canary.GetAnalysis(), f.Canary.Status.Phase, d.Status.Rollout
	if under == nil || under.Target == nil || !slices.Contains(d.Actions, rollout.Action(rollout.EnsureRoutes{})) {
		return
	}
	first := phase == v1beta1.CanaryPhaseInitializing && !f.Routes.Known
	all := rollout.Traffic(a, &f.Canary.Status) == rollout.TrafficState{CanaryWeight: 100}
	back := all && !rollout.Traffic(a, &d.Status).SendsToCanary()
	progressing := phase == v1beta1.CanaryPhaseProgressing || d.Status.Phase == v1beta1.CanaryPhaseProgressing
	hurry := progressing || under.Target.Fingerprint != f.Target.Revision.Fingerprint
	dead := f.Target.Available == 0 || f.Problem != nil && f.Services.CanaryUnfound
	if !first && (!back || hurry) || dead || f.Primary.Available == 0 {
		return
	}
	if seen := w.now.Sub(w.primarySince); seen < f.Settings.PropagationDelay {
		w.violate(1, "requests led to a primary that was seen ready for no longer than %s", seen)
	}
}

// checkStop demands that no request goes to a primary whose last ready pod is about to be taken away, where the canary can have
// them. The proxies need their time to follow. A bootstrap has no canary that passed an analysis.
func (w *World) checkStop(fingerprint string) {
	replaced := w.primary.otherSelector(&w.target) != ""
	stops := w.primary.exists && (replaced || w.primary.template != fingerprint) && w.primary.stopsFirst(&w.target) && w.primary.available(w.now) > 0
	if replaced && stops && w.canary.Status.Phase != v1beta1.CanaryPhasePromoting {
		w.violate(1, "primary with ready pods deleted in phase %s", w.canary.Status.Phase)
	}
	if !stops || w.canary.Status.Phase != v1beta1.CanaryPhasePromoting || !w.routes || !w.apex || !w.opts.Provider.Routes {
		return
	}
	if w.allSince.IsZero() || w.now.Sub(w.allSince) < Settings().PropagationDelay {
		w.violate(1, "primary stopped for its update while %d%% of the requests go there", 100-toAll(w.routed))
	}
	if w.target.available(w.now) == 0 {
		w.violate(1, "primary stopped for its update while the canary has no ready pod")
	}
}

// toAll is the share of the canary in the requests that no match picks.
func toAll(t rollout.TrafficState) int32 {
	if t.Matched {
		return 0
	}
	return t.CanaryWeight
}

// checkCopy demands that what is promoted after bootstrap was judged good, unless the analysis is skipped.
func (w *World) checkCopy(fingerprint string) {
	if w.canary.Status.Phase != v1beta1.CanaryPhasePromoting || w.canary.Status.Rollout.Stage == "skip" {
		return
	}
	if w.primary.exists && w.primary.template == fingerprint {
		return
	}
	if promoted := w.canary.Status.Rollout.Promoted; !w.primary.exists && promoted != nil && promoted.Fingerprint == fingerprint {
		return
	}
	if w.canary.Status.Rollout.Target.Fingerprint != fingerprint {
		w.violate(3, "%s copied while %s was analyzed", fingerprint, w.canary.Status.Rollout.Target.Fingerprint)
	}
	if len(w.canary.GetAnalysis().Metrics) > 0 && w.judged[fingerprint] == 0 {
		w.violate(3, "%s promoted without a passed check", fingerprint)
	}
}

// checkQuestion demands that hooks are asked about the revision that their answer is used for.
func (w *World) checkQuestion(f *rollout.Facts, n rollout.NeedHooks) {
	if n.Revision != f.Target.Revision.Fingerprint {
		w.violate(3, "hooks of type %s asked about %s, the target runs %s", n.Type, n.Revision, f.Target.Revision.Fingerprint)
	}
	running := f.Canary.Status.Phase == v1beta1.CanaryPhaseProgressing || f.Canary.Status.Phase == v1beta1.CanaryPhaseWaitingPromotion
	if under := f.Canary.Status.Rollout; running && under != nil && under.Target != nil && under.Target.Fingerprint != n.Revision {
		w.violate(3, "hooks of type %s asked about %s while %s is analyzed", n.Type, n.Revision, under.Target.Fingerprint)
	}
}

// checkDecision holds a decision against the invariants 5 and 7.
func (w *World) checkDecision(f *rollout.Facts, d *rollout.Decision) {
	old, next := &f.Canary.Status, &d.Status
	w.checkFound(f, d)
	for _, n := range d.Needs {
		if !slices.Contains(d.Standing, n.ID()) {
			w.violate(6, "rule %s asks for %s and forgets it", d.Rule, n.ID())
		}
	}
	if f.Problem != nil && f.Problem.Unknown {
		if len(d.Actions) > 0 && !letsGo(d.Actions) || old.Phase != next.Phase || old.CanaryWeight != next.CanaryWeight || old.FailedChecks != next.FailedChecks {
			w.violate(5, "a failed read led to %v and phase %s", d.Actions, next.Phase)
		}
	}
	if next.Phase == v1beta1.CanaryPhaseSucceeded && old.Phase == v1beta1.CanaryPhaseFinalising {
		w.checkSuccess()
	}
	if next.CanaryWeight < 0 || next.CanaryWeight > 100 || next.Iterations < 0 || next.FailedChecks < 0 {
		w.violate(7, "status out of bounds: weight %d iterations %d failedChecks %d", next.CanaryWeight, next.Iterations, next.FailedChecks)
	}
	w.checkCounts(old.Rollout, next.Rollout)
	w.checkSplit(old, d)
	again := *f
	if second := rollout.Decide(again); !reflect.DeepEqual(*d, second) {
		w.violate(4, "the same facts gave another decision")
	}
}

// checkCounts demands that a check counts its requests once, and that those of other runs are not counted.
func (w *World) checkCounts(old, next *v1beta1.RolloutStatus) {
	if next == nil || next.Checks == nil {
		return
	}
	if next.Checks.Run != next.Run && next.Checks.Run != 0 {
		w.violate(3, "what the checks of run %d left behind is kept in run %d", next.Checks.Run, next.Run)
	}
	var before *v1beta1.ChecksStatus
	if old != nil && old.Checks != nil && old.Checks.Run == next.Checks.Run {
		before = old.Checks
	}
	for _, m := range next.Checks.Metrics {
		if m.Evidence == nil {
			continue
		}
		counted := int64(0)
		if before != nil {
			for _, b := range before.Metrics {
				if b.Index == m.Index && b.Bound == m.Bound && b.Evidence != nil {
					counted = b.Evidence.CanaryTotal
				}
			}
		}
		early := counted > 0 && next.Checks.CheckedAt.Sub(before.CheckedAt.Time) < w.canary.GetAnalysisInterval(0)
		if added := m.Evidence.CanaryTotal - counted; added < 0 || added > maxBatch || early && added != 0 {
			w.violate(3, "the check at %s counted %d requests after %d", next.Checks.CheckedAt, m.Evidence.CanaryTotal, counted)
		}
	}
}

// checkSplit demands that no step follows on one whose share was not seen to be right, if that is asked for.
func (w *World) checkSplit(old *v1beta1.CanaryStatus, d *rollout.Decision) {
	next := &d.Status
	policy := w.canary.GetAnalysis().Split
	if d.Rule != "advance" || old.CanaryWeight == 0 || policy == nil || policy.Mode != v1beta1.SplitEnforce || next.Rollout.Checks == nil {
		return
	}
	s := next.Rollout.Checks.Split
	if s != nil && s.Weight == old.CanaryWeight && s.Outcome != v1beta1.OutcomePass && !s.Observed {
		w.violate(5, "weight %d follows on %d with a split that comes to %s: %s", next.CanaryWeight, old.CanaryWeight, s.Outcome, s.Reason)
	}
}

// maxBatch is the most requests of a canary in one check.
const maxBatch = 1000

func (w *World) checkSuccess() {
	r := w.canary.Status.Rollout
	switch {
	case w.primary.template != r.Target.Fingerprint:
		w.violate(7, "succeeded with %s on the primary instead of %s", w.primary.template, r.Target.Fingerprint)
	case w.primary.available(w.now) < w.primary.replicas:
		w.violate(7, "succeeded with %d of %d primary pods", w.primary.available(w.now), w.primary.replicas)
	case w.opts.Provider.Routes && w.routed.CanaryWeight != 0:
		w.violate(7, "succeeded with canary weight %d routed", w.routed.CanaryWeight)
	}
}
