package rollout

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func others(f *Facts) {
	f.OthersFirst = true
	f.Settings.MaxRollouts = 3
}

const itsTurn = "New revision of podinfo.test detected, waiting to be rolled out: no more than 3 rollouts run at the same time " +
	"(flag -max-concurrent-rollouts)"

func TestC14_WaitingForATurn(t *testing.T) {
	known := health(ReasonWaitingForTurn, itsTurn, now.Add(-time.Hour))
	serves := func(f *Facts) {
		f.Canary.Status.CanaryWeight, f.Canary.Status.Rollout.ServingSide = 100, v1beta1.ServingCanary
		f.Routes.CanaryWeight = 100
	}
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"a change waits while others are under way": {
			facts(succeeded, targetRuns("2", 2), others),
			want{rule: "wait-for-turn", phase: succeeded, reason: ReasonWaitingForTurn, says: []string{itsTurn}}},
		"it is told once": {
			facts(succeeded, targetRuns("2", 2), others, known),
			want{rule: "still-waiting", phase: succeeded, reason: ReasonWaitingForTurn}},
		"the newest revision starts at its turn": {
			facts(succeeded, targetRuns("3", 3), known),
			want{rule: "start", phase: progressing, says: []string{"New revision detected!"}, reason: ReasonHealthy}},
		"an analysis that is skipped is a rollout, too": {
			facts(succeeded, targetRuns("2", 2), others, spec(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })),
			want{rule: "wait-for-turn", reason: ReasonWaitingForTurn, says: []string{itsTurn}}},
		"a change that is taken back waits no longer": {
			facts(failed, known, others, status(func(s *v1beta1.CanaryStatus) { s.Rollout.Target = refTo(rev("2", 2)) })),
			want{rule: "reverted", phase: failed, reason: ReasonHealthy}},
		"the gate comes first": {
			facts(succeeded, targetRuns("2", 2), others, hook(v1beta1.ConfirmRolloutHook)),
			want{rule: "confirm-rollout", needs: 1}},
		"a closed gate waits for nobody's turn": {
			facts(succeeded, targetRuns("2", 2), others, hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, false)),
			want{rule: "confirm-rollout", phase: waiting, reason: ReasonWaitingForGate, says: []string{"waiting for approval"}}},
		"an open gate waits for its turn": {
			facts(waiting, targetRuns("2", 2), others, hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, true)),
			want{rule: "wait-for-turn", phase: waiting, reason: ReasonWaitingForTurn, says: []string{"check hook passed", itsTurn}}},
		"an open gate is not asked again before its turn": {
			facts(waiting, targetRuns("2", 2), others, known, hook(v1beta1.ConfirmRolloutHook)),
			want{rule: "still-waiting", phase: waiting}},
		"a rollback hook is asked once in an interval": {
			facts(waiting, targetRuns("2", 2), others, known, hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, false)),
			want{rule: "still-waiting", phase: waiting, says: []string{"not signaling"}, wake: now.Add(30 * time.Second)}},
		"but not when the analysis is skipped": {
			facts(waiting, targetRuns("2", 2), others, known, hook(v1beta1.RollbackHook), spec(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })),
			want{rule: "still-waiting", phase: waiting}},
		"a canary that serves and dies is left": {
			facts(failed, targetRuns("2", 2), others, known, serves, func(f *Facts) { unready(&f.Target, Stuck, 0) }),
			want{rule: "still-waiting", phase: failed, actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary"}}},
		"a newer revision of a run under way restarts it": {
			facts(progressing, running(10), targetRuns("3", 3), others),
			want{rule: "restart", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"Restarting analysis"}}},
		"a run under way is canceled": {
			facts(progressing, running(10), targetRuns("1", 3), others),
			want{rule: "cancel", phase: progressing, stage: stageCancel, actions: []Action{EnsureRoutes{}}, says: []string{"canceling"}}},
		"a run under way is rolled back": {
			facts(progressing, running(10), others, status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 })),
			want{rule: "threshold", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"Rolling back"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}
