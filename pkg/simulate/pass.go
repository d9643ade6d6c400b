package simulate

import (
	"errors"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

var (
	errKilled = errors.New("killed")
	errFault  = errors.New("the API server is not available")
	errLost   = errors.New("the revision is neither what the target is at now nor stored")
	errMoved  = errors.New("the target is at another revision by now")

	errImmutable = errors.New("spec.selector: field is immutable")
)

// observe gathers the facts as a controller would.
func (w *World) observe() rollout.Facts {
	want := w.wanted()
	var nonces [2]string
	if w.nonces != nil {
		nonces = w.nonces()
	}
	canary, problem := rollout.RolledOut(w.canary)
	if problem == nil {
		problem = w.problem
	}
	if problem == nil && !w.target.exists {
		problem = &rollout.Problem{Reason: rollout.ReasonTargetNotFound, Message: "deployment podinfo.default get query error: not found"}
	}
	primary := w.observedPrimary()
	f := rollout.Facts{
		Nonces:   nonces,
		Now:      w.now,
		Canary:   canary.DeepCopy(),
		Settings: Settings(),
		Provider: w.opts.Provider,
		Problem:  problem,
		Target:   w.target.workload(w.now, w.deadline()),
		Primary:  primary,
		Services: rollout.ServicesFact{
			BackendsInPlace: w.backends && w.backendsBy == w.selectors(), ApexInPlace: w.apex && w.apexBy == w.selectedByApex(),
			PrimaryUnfound: !w.backends || w.backendsBy.primary != w.selectors().primary,
			CanaryUnfound:  !w.backends || w.backendsBy.canary != w.selectors().canary,
		},
		Routes: rollout.RoutesFact{
			Known: w.routes, InPlace: w.routes && w.routed == want,
			Settled: w.settled(), Silent: w.silent, Reason: "not accepted",
			CanaryWeight: w.routed.CanaryWeight, Mirror: w.routed.Mirror, Matched: w.routed.Matched,
		},
		Previous:   w.previousFacts(),
		Scaler:     w.scaler.fact(w.wantedFloor()),
		Delivered:  w.delivered,
		Sight:      w.sight,
		Reverted:   w.reverted(),
		ApplyError: w.applyError,
	}
	if f.Problem == nil {
		f.Problem = rollout.Irreplaceable(&f)
	}
	return f
}

// trackPrimary keeps the time since when the primary has been seen to serve. A problem may hide from the rules that it does not, and a
// status that could not be written is a sight that is lost.
func (w *World) trackPrimary(f *rollout.Facts) {
	record := w.canary.Status.Rollout
	lost := f.Problem != nil || record != nil && record.PrimaryReadySince != nil || w.sight.PrimaryReadySince != nil
	if serves := f.Primary.Available > 0 && f.Services.BackendsInPlace; !serves && !lost {
		w.primarySince = time.Time{}
	} else if serves && w.primarySince.IsZero() {
		w.primarySince = w.now
	}
}

func (w *World) observedPrimary() rollout.Workload {
	primary := w.primary.workload(w.now, w.deadline())
	primary.Copy, primary.CopyRecorded = w.primary.originOf(&w.target), w.primary.exists && w.primary.template == w.primary.written
	primary.StopsFirst = w.primary.stopsFirst(&w.target)
	primary.SelectorDiffers = w.primary.otherSelector(&w.target)
	primary.Edited = primary.Copy == "" && w.primary.written != ""
	return primary
}

// wanted is what the routes have to express.
func (w *World) wanted() rollout.TrafficState {
	return rollout.Traffic(w.canary.GetAnalysis(), &w.canary.Status)
}

// Pass runs the loop once and reports whether it has to run again at once.
func (w *World) Pass() bool {
	if w.gone {
		return false
	}
	w.checkLoop()
	w.passes++
	f := w.observe()
	if w.opts.Adapt != nil {
		w.opts.Adapt(&f)
	}
	stale := w.makeStale(&f)
	w.trackPrimary(&f)
	d := rollout.Resolve(&f, w.answers())
	w.checkAnswers(&f)
	w.lastRule = d.Rule
	w.wake, w.sight = d.Wake, d.Sight
	w.checkDecision(&f, &d)
	told := w.delivered
	wrote, err := w.carryOut(&f, &d)
	w.trackPrimary(&f)
	switch {
	case errors.Is(err, errKilled):
		w.Kill()
		w.settleCluster()
		return true
	case err != nil:
		w.backOff(err)
		w.settleCluster()
		return false
	}
	w.applyError, w.failures = "", 0
	w.settleCluster()
	again := stale || wrote || w.answersReady() || w.delivered != told || len(d.Actions) > 0 || f.ApplyError != ""
	if !again {
		w.checkQuiet(&f)
	}
	return again
}

// maxPause is the longest pause between two tries.
const maxPause = time.Minute

// backOff plans the next pass after one that failed, as the queue of the controller does: at once after a conflict, which may be
// about an old picture of the cluster, and ever later. A conflict that goes on is told like any other failure.
func (w *World) backOff(err error) {
	pause := time.Second
	if errors.Is(err, errMoved) {
		pause = 20 * time.Millisecond
	}
	pause = min(pause<<min(w.failures, 16), maxPause)
	w.failures++
	if !errors.Is(err, errMoved) || w.failures > 7 {
		w.applyError = err.Error()
	}
	w.wake = w.now.Add(pause)
}

// makeStale lets the pass see the cluster as the pass before saw it, as caches do that have not yet heard of a write. They
// catch up before time goes on. The Canary itself is never stale: a write on an old one is refused.
func (w *World) makeStale(f *rollout.Facts) bool {
	fresh := *f
	stale := w.lag > 0 && w.last.Canary != nil && w.last.Now.Equal(f.Now)
	if stale {
		w.lag--
		f.Target, f.Primary, f.Services = w.last.Target, w.last.Primary, w.last.Services
		f.Routes, f.Reverted, f.Previous = w.last.Routes, w.last.Reverted, w.last.Previous
		seen := rollout.TrafficState{CanaryWeight: f.Routes.CanaryWeight, Mirror: f.Routes.Mirror, Matched: f.Routes.Matched}
		f.Routes.InPlace = f.Routes.Known && seen == w.wanted()
	}
	w.last = fresh
	return stale
}

// write counts a write and applies the planned faults to it: before it happens, or the kill right after.
func (w *World) write(do func()) error {
	w.writes++
	if w.failAt[w.writes] {
		return errFault
	}
	do()
	w.trackZero()
	if w.killAfter[w.writes] {
		return errKilled
	}
	return nil
}

func (w *World) carryOut(f *rollout.Facts, d *rollout.Decision) (wrote bool, err error) {
	if !d.Status.Equal(&w.canary.Status) {
		wrote = true
		if err := w.write(func() { w.storeStatus(d) }); err != nil {
			return wrote, err
		}
	}
	w.ask(f, d)
	for _, a := range d.Actions {
		w.calls++
		if w.refuse != nil && w.refuse(a) {
			return wrote, errFault
		}
		if w.lost(a) {
			return wrote, errLost
		}
		if w.moved(a) {
			return wrote, errMoved
		}
		if err := w.replace(a); err != nil {
			return wrote, err
		}
		if err := w.write(func() { w.apply(a) }); err != nil {
			return wrote, err
		}
	}
	w.publish()
	return wrote, nil
}

func (w *World) storeStatus(d *rollout.Decision) {
	old := w.canary.Status
	w.canary.Status = *d.Status.DeepCopy()
	s := &w.canary.Status
	w.statuses++
	w.calls++
	if old.Rollout != nil && s.Rollout != nil && old.Rollout.Run != s.Rollout.Run {
		// What was found out about a revision in an earlier run says nothing about this one.
		w.judged = map[string]int{}
	}
	if r := s.Rollout; r != nil && r.Stage == "analysis" && audience(s) != audience(&old) && audience(&old) != "" {
		// Nor does what was found out with other requests.
		w.judged = map[string]int{}
	}
	w.checkEndIsTold(old.Phase, s)
	if old.Phase != s.Phase || old.CanaryWeight != s.CanaryWeight || old.Iterations != s.Iterations || old.FailedChecks != s.FailedChecks {
		w.note("status %s weight=%d iterations=%d failedChecks=%d  [%s]", s.Phase, s.CanaryWeight, s.Iterations, s.FailedChecks, d.Rule)
	}
}

func audience(s *v1beta1.CanaryStatus) string {
	if s.Rollout == nil {
		return ""
	}
	return s.Rollout.Audience
}

func (w *World) publish() {
	r := w.canary.Status.Rollout
	if r == nil {
		return
	}
	for _, n := range r.Outbox {
		if n.Sequence <= w.delivered {
			continue
		}
		w.delivered = n.Sequence
		if n.Hooks != "" {
			w.posted++
		}
		if w.seen[n.Sequence] || n.Message == "" {
			continue
		}
		w.seen[n.Sequence] = true
		e := Event{At: w.Now(), Type: n.Type, Message: n.Message}
		if n.Alert != nil {
			e.Alert = string(n.Alert.Severity) + ": " + n.Alert.Message
		}
		w.Events = append(w.Events, e)
		w.note("%.1s %s", n.Type, n.Message)
		if e.Alert != "" {
			w.note("  alert %s", e.Alert)
		}
	}
}

// apply changes the cluster. The checks that belong to an action stand in invariants.go.
func (w *World) apply(a rollout.Action) {
	w.checkAction(a)
	w.applyScaling(a)
	switch a := a.(type) {
	case rollout.EnsureBackendServices:
		w.backends, w.backendsBy = true, w.selectors()
	case rollout.EnsureApexService:
		w.apex, w.taken, w.apexBy = true, true, w.selectedByApex()
	case rollout.EnsureRoutes:
		w.routed, w.routes, w.routedAt = w.wanted(), true, w.now
	case rollout.EnsurePrimary:
		w.copyPrimary(a.Revision.Fingerprint)
	case rollout.ScaleTargetUp:
		if w.target.replicas == 0 {
			w.target.scale(w.now, max(1, w.primary.replicas))
		}
	case rollout.ScaleTargetToZero:
		w.target.scaleToZero(w.now)
	case rollout.RetireRoutes, rollout.RetireServices:
		w.retire(a)
	default:
		w.applyDeletion(a)
	}
}

// lost is whether a primary that is gone is to be made of a revision of which there is nothing left.
func (w *World) lost(a rollout.Action) bool {
	e, ok := a.(rollout.EnsurePrimary)
	if !ok || w.primary.exists || w.target.template == e.Revision.Fingerprint || w.stored[e.Revision.Fingerprint] > 0 {
		return false
	}
	r := w.canary.Status.Rollout
	return r != nil && r.Promoted != nil && r.Promoted.Fingerprint == e.Revision.Fingerprint
}

// moved is whether the revision that is to be copied is not that of the target any more. A primary that is gone is rebuilt from
// the copy that was stored when it was written last.
func (w *World) moved(a rollout.Action) bool {
	e, ok := a.(rollout.EnsurePrimary)
	rebuilt := ok && !w.primary.exists && w.stored[e.Revision.Fingerprint] > 0
	return ok && w.target.template != e.Revision.Fingerprint && !rebuilt
}

// replace deletes a primary that selects its pods by another label than its copy, before that is created with another write.
func (w *World) replace(a rollout.Action) error {
	e, ok := a.(rollout.EnsurePrimary)
	if !ok || w.primary.otherSelector(&w.target) == "" {
		return nil
	}
	if !e.Replace {
		return errImmutable
	}
	return w.write(func() {
		w.checkStop(e.Revision.Fingerprint)
		if w.apex && w.apexBy == w.primarySide() && w.primary.available(w.now) > 0 {
			w.violate(1, "primary deleted while clients are led there")
		}
		w.primary = deployment{name: w.primary.name, faulty: w.primary.faulty}
	})
}

// copyPrimary makes the primary a copy of the target, or of what was stored of it, which has at least one pod.
func (w *World) copyPrimary(fingerprint string) {
	if !w.primary.exists {
		replicas := max(1, w.target.replicas, w.stored[fingerprint])
		w.primary = deployment{name: w.primary.name, exists: true, replicas: replicas, progressedAt: w.now, faulty: w.primary.faulty,
			selector: w.target.selector}
	}
	w.checkStop(fingerprint)
	w.primary.strategy = w.target.strategy
	w.primary.setTemplate(w.now, fingerprint)
	w.primary.copyOf, w.primary.written = fingerprint, fingerprint
	if !w.forbidden {
		w.stored[fingerprint] = max(1, w.primary.replicas)
	}
}
