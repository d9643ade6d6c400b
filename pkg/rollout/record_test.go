package rollout

import (
	"fmt"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// records are what a status may have for a record that another operator, an editor or a restore has passed over.
func records() map[string]*v1beta1.RolloutStatus {
	all := map[string]*v1beta1.RolloutStatus{
		"none":          nil,
		"empty":         {},
		"target":        {Target: refTo(rev("1", 1))},
		"empty target":  {Target: &v1beta1.RevisionRef{}},
		"promoted":      {Promoted: refTo(rev("1", 1))},
		"canary serves": {Target: refTo(rev("1", 1)), ServingSide: v1beta1.ServingCanary},
		"clocks":        {Target: refTo(rev("1", 1)), UnreadySince: &v1beta1.UnreadySince{}, Mirror: true},
	}
	for _, stage := range []string{stageCopying, stageRouting, stagePreRollout, stageAnalysis, stageRollback, stageCancel, stageSkip,
		stageReturning, stageReverting, stageDraining, "other"} {
		all["stage "+stage] = &v1beta1.RolloutStatus{Stage: stage}
		all["target and stage "+stage] = &v1beta1.RolloutStatus{Stage: stage, Target: refTo(rev("1", 1))}
	}
	return all
}

// Whatever a status lacks, no rule relies on it.
func TestIncompleteRecords(t *testing.T) {
	edits := map[string]edit{
		"well": func(*Facts) {}, "changed": targetRuns("2", 2), "suspended": spec(func(s *v1beta1.CanarySpec) { s.Suspend = true }),
		"target gone":     func(f *Facts) { f.Target = Workload{Name: "podinfo"} },
		"primary gone":    func(f *Facts) { f.Primary = Workload{Name: "podinfo-primary"} },
		"primary stuck":   func(f *Facts) { unready(&f.Primary, Stuck, 0) },
		"canary stuck":    func(f *Facts) { unready(&f.Target, Stuck, 0) },
		"other routes":    func(f *Facts) { f.Routes = RoutesFact{Known: true, CanaryWeight: 30} },
		"no routes":       func(f *Facts) { f.Routes, f.Services = RoutesFact{}, ServicesFact{} },
		"reverted":        routingBack,
		"write refused":   func(f *Facts) { f.ApplyError = "denied" },
		"fault":           problem(Problem{Reason: ReasonInvalidSpec, Message: "x"}),
		"target not here": problem(Problem{Reason: ReasonTargetNotFound, Message: "x"}),
		"unknown":         problem(Problem{Reason: ReasonReadFailed, Message: "x", Unknown: true}),
		"no analysis":     spec(func(s *v1beta1.CanarySpec) { s.Analysis = nil }),
	}
	phases := []v1beta1.CanaryPhase{"", v1beta1.CanaryPhaseInitializing, initialized, waiting, progressing, v1beta1.CanaryPhaseWaitingPromotion,
		promotingTo, finalisingP, succeeded, failed, v1beta1.CanaryPhaseTerminating, v1beta1.CanaryPhaseTerminated, "other"}
	for _, phase := range phases {
		for record, rollout := range records() {
			for name, change := range edits {
				for deletion, mark := range map[string]edit{"kept": reverts, "being deleted": deleted} {
					for weight := range int32(2) {
						f := facts(phase, mark, change)
						f.Canary.Status.CanaryWeight, f.Canary.Status.Rollout = weight*30, rollout.DeepCopy()
						f.Canary.Finalizers = []string{v1beta1.Finalizer}
						decideSafely(t, fmt.Sprintf("phase %s, record %s, %s, %s, weight %d", phase, record, name, deletion, weight), f)
					}
				}
			}
		}
	}
}

// decideSafely takes some passes from the facts, with each status that comes of it.
func decideSafely(t *testing.T, name string, f Facts) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: %v", name, p)
		}
	}()
	for range 4 {
		d := Decide(f)
		if len(d.Needs) > 0 {
			return
		}
		f.Canary = f.Canary.DeepCopy()
		f.Canary.Status = d.Status
		f.Now = f.Now.Add(time.Minute)
	}
}
