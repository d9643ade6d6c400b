package simulate

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// What a Canary may cost in an interval in which nothing happens: what an analysis needs for a step that fails, and the tries of
// something that fails.
const (
	maxIdlePasses = 10
	maxIdleCalls  = 6
)

// watch leaves a cluster in peace for long, and then demands that whatever the Canary waits for costs next to nothing, and that
// its condition says what that is.
func watch(w *World) {
	w.Run(6 * time.Hour)
	// Faults that wait for the next passes are no peace.
	w.lag, w.killAfter, w.failAt = 0, map[int]bool{}, map[int]bool{}
	w.Run(0)
	interval := w.canary.GetAnalysisInterval(Settings().MinInterval)
	progress := w.progress()
	for range 5 {
		if w.spins() {
			return
		}
		passes, calls, again, before := w.passes, w.calls, tries(interval), w.progress()
		w.Run(interval)
		if w.progress() != before {
			// A deadline came, and what follows it is tried from the shortest pause on.
			again += tries(2 * maxPause)
		}
		if n := w.passes - passes; n > maxIdlePasses+again {
			w.violate(6, "%d passes in an interval of %s in which nothing happens, phase %s", n, interval, w.Status().Phase)
		}
		if n := w.calls - calls; n > maxIdleCalls+again {
			w.violate(6, "%d calls in an interval of %s in which nothing happens, phase %s", n, interval, w.Status().Phase)
		}
	}
	if w.progress() == progress {
		w.checkWaitIsTold()
	}
}

// tries is how often something that fails is tried in an interval in which it begins to fail.
func tries(interval time.Duration) int {
	n := 0
	for pause := time.Second; pause <= interval; n++ {
		interval -= pause
		pause = min(2*pause, maxPause)
	}
	return n
}

// progress changes with whatever a rollout gets on by.
func (w *World) progress() string {
	s := w.Status()
	if s.Rollout == nil {
		return string(s.Phase)
	}
	return fmt.Sprint(s.Phase, s.CanaryWeight, s.Iterations, s.FailedChecks, s.Rollout.Stage, s.Rollout.Run, s.Rollout.Mirror)
}

// checkWaitIsTold demands that a Canary that waits does not call itself healthy.
func (w *World) checkWaitIsTold() {
	if w.atRest() || w.gone {
		return
	}
	for _, c := range w.Status().Conditions {
		if c.Type == v1beta1.HealthyType && c.Status == corev1.ConditionFalse && c.Message != "" {
			return
		}
	}
	w.violate(7, "waits in phase %s stage %q and does not say for what", w.Status().Phase, w.Status().Rollout.Stage)
}

// Whatever a Canary waits for, in whatever phase, it neither spins nor calls itself healthy.
func TestIncidentB11_NoWaitSpins(t *testing.T) {
	reports := mesh()
	reports.ReportsSettled = true
	for name, stick := range map[string]func(w *World){
		"closed gate":   func(*World) {},
		"paused target": func(w *World) { w.Pause(true); w.Ship("v3") },
		"refused copy": func(w *World) {
			w.refuse = func(a rollout.Action) bool { _, is := a.(rollout.EnsurePrimary); return is }
		},
		"refused change": func(w *World) { w.refuse = func(rollout.Action) bool { return true } },
		"missing config": func(w *World) {
			w.SetProblem(&rollout.Problem{Reason: rollout.ReasonConfigNotFound, Message: "configmap a.default not found"})
		},
		"failed read": func(w *World) {
			w.SetProblem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: "timeout", Unknown: true})
		},
		"silent routes":      func(w *World) { w.unsettled = true },
		"broken pods":        func(w *World) { w.Break("v1", true); w.Break("v2", true) },
		"no target":          (*World).DeleteTarget,
		"edited primary":     func(w *World) { w.EditPrimary("hotfix") },
		"suspended, resumed": func(w *World) { w.unsettled = true; w.Edit(suspend(true)); w.Run(time.Minute); w.Edit(suspend(false)) },
	} {
		t.Run(name, func(t *testing.T) {
			everyPhase(t, nil, func(t *testing.T, w *World, _ v1beta1.CanaryPhase) {
				w.opts.Provider = reports
				stick(w)
				watch(w)
			})
		})
	}
}

func suspend(suspended bool) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) { s.Suspend = suspended }
}
