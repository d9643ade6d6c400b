package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// upgrade makes every revision read differently, as for an operator that computes another hash of the same objects.
func (w *World) upgrade() {
	rename := func(d *deployment) {
		for i := range d.pods {
			if d.pods[i].template == d.template {
				d.pods[i].template += " in the new form"
			}
		}
		d.template += " in the new form"
	}
	rename(&w.target)
	rename(&w.primary)
	// The record on the primary is void; the primary can still be compared with what would be made of the target now.
	w.primary.copyOf, w.primary.written = "", ""
}

// A-09, incident B8: another hash of an object that nobody has changed begins no rollout, in no phase that a Canary rests in.
func TestIncidentB8_AnotherFormOfTheHashStartsNothing(t *testing.T) {
	for _, phase := range []v1beta1.CanaryPhase{initialized, succeeded, failed} {
		w := ready(t, podinfo(threshold(1)), func(o *Options) { o.Metrics = badSuccessRate("v3") })
		if phase != initialized {
			w.Ship("v2")
			rest(t, w, succeeded)
		}
		if phase == failed {
			w.Ship("v3")
			rest(t, w, failed)
		}
		run, statuses := w.Status().Rollout.Run, w.statuses
		w.upgrade()
		w.Run(time.Hour)
		if s := w.Status(); s.Phase != phase || s.Rollout.Run != run || w.statuses != statuses {
			t.Errorf("%s: phase %s, run %d instead of %d, %d status writes", phase, s.Phase, s.Rollout.Run, run, w.statuses-statuses)
		}
		w.Ship("v4")
		rest(t, w, succeeded)
		serves(t, w, "v4")
		sound(t, w)
	}
}

// What can't be read has not changed, advanced, passed or failed: the run stands still, however long, and then goes on.
func TestIncidentB9_FailedReadIsNoChange(t *testing.T) {
	everyPhase(t, nil, func(t *testing.T, w *World, phase v1beta1.CanaryPhase) {
		w.Run(0)
		before, statuses := w.Status().DeepCopy(), w.statuses
		w.SetProblem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true})
		// What nobody could see is not to be acted on.
		w.target.template, w.primary.template = "unreadable", "unreadable"
		w.Run(5 * time.Minute)
		s := w.Status()
		if s.Phase != phase || s.CanaryWeight != before.CanaryWeight || s.FailedChecks != before.FailedChecks || s.Rollout.Run != before.Rollout.Run {
			t.Errorf("phase %s weight %d failedChecks %d run %d during failed reads, before them %s %d %d %d", s.Phase, s.CanaryWeight,
				s.FailedChecks, s.Rollout.Run, before.Phase, before.CanaryWeight, before.FailedChecks, before.Rollout.Run)
		}
		// One write says so, one empties the outbox.
		if w.statuses-statuses > 2 {
			t.Errorf("%d status writes about one failed read", w.statuses-statuses)
		}
		w.target.template, w.primary.template = "v2", "v1"
		if phase == promoting || phase == finalising {
			w.primary.template = "v2"
		}
		w.SetProblem(nil)
		w.Ship("v3")
		rest(t, w, succeeded)
		serves(t, w, "v3")
	})
}

// Whether metrics can be asked matters to an analysis and not to a workload that is taken over.
func TestIncidentB22_BootstrapNeedsNoMetrics(t *testing.T) {
	w := world(podinfo(), func(o *Options) {
		o.Providers = func(*World) string { return "prometheus not avaiable: no such host" }
	})
	w.Run(2 * time.Minute)
	if w.Status().Phase != initialized {
		t.Errorf("phase %s while the metric providers are away", w.Status().Phase)
	}
	if got := count(w.Events, "Error checking metric providers: prometheus not avaiable: no such host"); got == 0 {
		t.Error("nobody was told")
	}
	serves(t, w, "v1")
	sound(t, w)
}

// A revision that nobody asks anything of has passed no check: when its traffic stops, the run ends and nothing is promoted.
func TestIncidentB25_TrafficThatStopsEndsTheRun(t *testing.T) {
	w := ready(t, podinfo(threshold(3)), func(o *Options) {
		o.Metrics = func(w *World, template string) analysis.Verdict {
			reading := analysis.Reading{
				Metric: w.canary.Spec.Analysis.Metrics[0], Source: analysis.SuccessRate, Provider: "istio",
				State: analysis.Value, Value: 100,
			}
			if w.Status().CanaryWeight >= 30 {
				reading.State, reading.Cause = analysis.NoData, "no values found"
			}
			return analysis.Evaluate(analysis.Check{ID: analysis.ID{Name: "podinfo", Namespace: "default", Target: "podinfo"}}, []analysis.Reading{reading})
		}
	})
	w.Ship("v2")
	rest(t, w, failed)
	serves(t, w, "v1")
	if got := count(w.Events, "podinfo.default is not receiving traffic"); got != 3 {
		t.Errorf("told %d times that there are no values", got)
	}
	sound(t, w)
}
