package rollout

import (
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func others(f *Facts) {
	f.OthersFirst = true
	f.Settings.MaxRollouts, f.Queue.Position = 3, 7
}

const (
	itsTurn = "New revision of podinfo.test detected, waiting to be rolled out: no more than 3 rollouts run at the same time " +
		"(flag -max-concurrent-rollouts), number 7 in the queue"
	// itsOldTurn is what an earlier version wrote.
	itsOldTurn = "New revision of podinfo.test detected, waiting to be rolled out: no more than 3 rollouts run at the same time " +
		"(flag -max-concurrent-rollouts)"
)

// waits is a change that has waited for some time, and what was written of its place in the queue.
func waits(since time.Duration, position, inNamespace int32) edit {
	return status(func(s *v1beta1.CanaryStatus) {
		s.Rollout.Waiting = &v1beta1.WaitingStatus{Since: *micro(now.Add(-since)), Position: position, PositionInNamespace: inNamespace}
	})
}

func TestC14_WaitingForATurn(t *testing.T) {
	told := health(ReasonWaitingForTurn, itsTurn, now.Add(-time.Hour))
	known := func(f *Facts) { told(f); waits(time.Hour, 7, 0)(f) }
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

// A place in the queue is told when the wait begins. Later it costs a write each time that half of the way is left, and no event.
func TestPlaceInTheQueue(t *testing.T) {
	const started = time.Hour
	known := health(ReasonWaitingForTurn, itsTurn, now.Add(-started))
	queue := func(position, inNamespace int32) edit {
		return func(f *Facts) { f.Queue = QueueFact{Position: position, InNamespace: inNamespace} }
	}
	perNamespace := func(all int) edit {
		return func(f *Facts) { f.Settings.MaxRollouts, f.Settings.MaxRolloutsPerNamespace = all, 2 }
	}
	cases := map[string]struct {
		facts   Facts
		want    v1beta1.WaitingStatus
		message string
		events  int
	}{
		"the wait begins": {
			facts(succeeded, targetRuns("2", 2), others),
			v1beta1.WaitingStatus{Since: *micro(now), Position: 7}, "number 7 in the queue", 1},
		"of a namespace": {
			facts(succeeded, targetRuns("2", 2), others, perNamespace(0), queue(0, 4)),
			v1beta1.WaitingStatus{Since: *micro(now), PositionInNamespace: 4},
			"no more than 2 rollouts of a namespace run at the same time (flag -max-concurrent-rollouts-per-namespace), number 4 in the queue", 1},
		"of both": {
			facts(succeeded, targetRuns("2", 2), others, perNamespace(3), queue(9, 4)),
			v1beta1.WaitingStatus{Since: *micro(now), Position: 9, PositionInNamespace: 4},
			"no more than 3 rollouts run at the same time, and 2 of a namespace (flags -max-concurrent-rollouts and " +
				"-max-concurrent-rollouts-per-namespace), number 9 in the queue, number 4 of its namespace", 1},
		"some places up": {
			facts(succeeded, targetRuns("2", 2), others, known, waits(started, 7, 0), queue(4, 0)),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 7}, "number 7 in the queue", 0},
		"half of the way": {
			facts(succeeded, targetRuns("2", 2), others, known, waits(started, 7, 0), queue(3, 0)),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 3}, "number 3 in the queue", 0},
		"half of the way in the namespace": {
			facts(succeeded, targetRuns("2", 2), others, perNamespace(3), known, waits(started, 7, 2), queue(6, 1)),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 6, PositionInNamespace: 1}, "number 1 of its namespace", 0},
		"back again behind others": {
			facts(succeeded, targetRuns("2", 2), others, known, waits(started, 3, 0), queue(20, 0)),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 3}, "number 3 in the queue", 0},
		"a newer revision keeps the place": {
			facts(succeeded, targetRuns("3", 3), others, known, waits(started, 7, 0)),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 7}, "number 7 in the queue", 0},
		"of an earlier version": {
			facts(succeeded, targetRuns("2", 2), others, health(ReasonWaitingForTurn, itsOldTurn, now.Add(-started))),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 7}, "number 7 in the queue", 0},
		"what was in the way is told, and the place is kept": {
			facts(succeeded, targetRuns("2", 2), others, waits(started, 0, 0), health(ReasonReadFailed, "away", now)),
			v1beta1.WaitingStatus{Since: *micro(now.Add(-started)), Position: 7}, "number 7 in the queue", 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			got := d.Status.Rollout.Waiting
			if got == nil || *got != c.want {
				t.Errorf("record %+v, want %+v", got, c.want)
			}
			if healthy := condition(&d.Status, v1beta1.HealthyType); !strings.HasSuffix(healthy.Message, c.message) {
				t.Errorf("condition %q", healthy.Message)
			}
			if n := len(d.Status.Rollout.Outbox); n != c.events || !d.Wake.IsZero() {
				t.Errorf("%d events, and another pass at %s", n, d.Wake)
			}
		})
	}
}

// The record of a wait is there as long as the wait: a place is neither lost by a read that fails nor kept by a change that begins.
func TestEndOfAWait(t *testing.T) {
	known := health(ReasonWaitingForTurn, itsTurn, now.Add(-time.Hour))
	waiting := waits(time.Hour, 7, 0)
	for name, c := range map[string]struct {
		facts Facts
		want  *v1beta1.WaitingStatus
	}{
		"it begins":        {facts(succeeded, targetRuns("2", 2), known, waiting), nil},
		"it is taken back": {facts(succeeded, known, waiting), nil},
		"the target can't be read": {facts(succeeded, known, waiting, func(f *Facts) {
			f.Target.Revision = Revision{}
			f.Problem = &Problem{Reason: ReasonReadFailed, Unknown: true}
		}), &v1beta1.WaitingStatus{Since: *micro(now.Add(-time.Hour))}},
		"it is suspended": {facts(succeeded, targetRuns("2", 2), known, waiting, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })),
			&v1beta1.WaitingStatus{Since: *micro(now.Add(-time.Hour))}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Decide(c.facts).Status.Rollout.Waiting
			if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
				t.Errorf("record %+v, want %+v", got, c.want)
			}
		})
	}
}
