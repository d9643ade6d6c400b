package rollout

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const theirs = `VirtualService podinfo.test: field manager "argocd" keeps changing spec.http`

func contest(f *Facts) { f.Contended = &Problem{Reason: ReasonContended, Message: theirs} }

func TestIncidentB14_ContendedObjectHoldsTheRollout(t *testing.T) {
	drift := func(f *Facts) { f.Routes.InPlace, f.Routes.CanaryWeight = false, 50 }
	known := health(ReasonContended, theirs, now.Add(-time.Minute))
	step := now.Add(30 * time.Second)
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"no step is taken": {
			facts(progressing, running(10), contest, drift),
			want{rule: "contended", phase: progressing, weight: 10, actions: []Action{EnsureRoutes{}}, reason: ReasonContended, says: []string{theirs}, wake: step}},
		"it is told once": {
			facts(progressing, running(10), contest, drift, known),
			want{rule: "contended", phase: progressing, weight: 10, actions: []Action{EnsureRoutes{}}, reason: ReasonContended, wake: step}},
		"a repair alone is no end": {
			facts(progressing, running(10), contest, known),
			want{rule: "contended", phase: progressing, weight: 10, reason: ReasonContended}},
		"when it is over the next step follows": {
			facts(progressing, running(10), known),
			want{rule: "advance", phase: progressing, weight: 20, actions: []Action{EnsureRoutes{}}, reason: ReasonHealthy, says: []string{"Advance"}}},
		"a human may call the rollout off": {
			facts(progressing, running(10), contest, drift, known, hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, true)),
			want{rule: "rollback-hook", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}}, reason: ReasonContended,
				says: []string{"Rollback check hook passed", "Rolling back"}}},
		"failed checks lead back": {
			facts(progressing, running(10), contest, drift, known, status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 })),
			want{rule: "threshold", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"Rolling back"}}},
		"a dead canary loses its traffic": {
			facts(progressing, running(10), contest, drift, known, func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", phase: progressing, actions: []Action{EnsureRoutes{}}, reason: ReasonCanaryNotReady,
				says: []string{"no ready pods", "not ready"}}},
		"whoever takes the pods of a new revision away is named": {
			facts(progressing, running(0), stage(""), contest, func(f *Facts) { f.Target.Replicas = 0; unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", phase: progressing, actions: []Action{ScaleTargetUp{}}, reason: ReasonContended, says: []string{theirs}}},
		"a newer revision starts over": {
			facts(progressing, running(10), contest, drift, known, targetRuns("3", 3)),
			want{rule: "restart", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"Restarting analysis"}}},
		"no pods are taken while requests may go to them": {
			facts(progressing, running(0), contest, drift, known, stage(stageRollback)),
			want{rule: "retreat", phase: progressing, actions: []Action{EnsureRoutes{}}, reason: ReasonContended}},
		"at rest it is told, too": {
			facts(succeeded, contest, func(f *Facts) { f.Services.ApexInPlace = false }),
			want{rule: "settled", phase: succeeded, actions: []Action{EnsureApexService{}}, reason: ReasonContended, says: []string{theirs}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}
