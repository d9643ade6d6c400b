package rollout

import (
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// closed is a time at which no rollout may begin.
func closed(f *Facts) {
	f.Schedule = ScheduleFact{Closed: true, Opens: now.Add(20 * time.Hour), By: "spec.analysis.schedule"}
}

// onHold is one at which none goes on either.
func onHold(f *Facts) {
	closed(f)
	f.Schedule.Holds = true
}

// asUrgent annotates the Canary, and says with which value another rollout was let through, and which.
func asUrgent(value, used string, run int64) edit {
	return func(f *Facts) {
		f.Canary.Annotations = map[string]string{v1beta1.UrgentAnnotation: value}
		if used != "" {
			f.Canary.Status.Rollout.Urgent = &v1beta1.UrgentStatus{Value: used, Run: run}
		}
	}
}

const (
	nextWindow = "only within spec.analysis.schedule, next at Fri 2026-01-02 08:00 UTC"
	notYet     = "New revision of podinfo.test detected, waiting to be rolled out: rollouts begin " + nextWindow
	isHeld     = "podinfo.test is held at canary weight 10: rollouts go on " + nextWindow
)

func TestWaitingForSchedule(t *testing.T) {
	v2, opens := targetRuns("2", 2), now.Add(20*time.Hour)
	told, toldHeld := health(ReasonWaitingForSchedule, notYet, now.Add(-time.Hour)), health(ReasonWaitingForSchedule, isHeld, now.Add(-time.Hour))
	metric := spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "errors"}} })
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"a change waits for the next window": {
			facts(succeeded, v2, closed), want{rule: "wait-for-schedule", phase: succeeded, reason: ReasonWaitingForSchedule, says: []string{notYet}, wake: opens}},
		"which is told once": {
			facts(succeeded, v2, closed, told, waits(time.Hour, 0, 0)),
			want{rule: "still-waiting", phase: succeeded, reason: ReasonWaitingForSchedule, wake: opens}},
		"and begins then": {
			facts(succeeded, v2, told, waits(time.Hour, 0, 0)), want{rule: "start", phase: progressing, reason: ReasonHealthy, says: []string{"New revision detected!"}}},
		"when nothing else is in its way": {
			facts(succeeded, v2, told, waits(time.Hour, 0, 0), others),
			want{rule: "still-waiting", reason: ReasonWaitingForTurn, says: []string{itsTurn}}},
		"who waits for a window takes no turn": {
			facts(succeeded, v2, closed, others), want{rule: "wait-for-schedule", reason: ReasonWaitingForSchedule, says: []string{notYet}, wake: opens}},
		"a skipped analysis waits as well": {
			facts(succeeded, v2, closed, spec(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })),
			want{rule: "wait-for-schedule", reason: ReasonWaitingForSchedule, says: []string{notYet}, wake: opens}},
		"the gate may be passed before": {
			facts(waiting, v2, closed, hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, true)),
			want{rule: "wait-for-schedule", phase: waiting, reason: ReasonWaitingForSchedule, says: []string{"check hook passed", notYet}, wake: opens}},
		"a schedule that is never open": {
			facts(succeeded, v2, closed, func(f *Facts) { f.Schedule.Opens = time.Time{} }),
			want{rule: "wait-for-schedule", reason: ReasonWaitingForSchedule, says: []string{"spec.analysis.schedule, which is never open: correct it"}}},
		"a change that is taken back waits no longer": {
			facts(failed, told, closed, waits(time.Hour, 0, 0), status(func(s *v1beta1.CanaryStatus) { s.Rollout.Target = refTo(rev("2", 2)) })),
			want{rule: "reverted", phase: failed, reason: ReasonHealthy}},
		"what is urgent begins": {
			facts(succeeded, v2, closed, told, waits(time.Hour, 0, 0), asUrgent("INC-1", "", 0)),
			want{rule: "start", phase: progressing, says: []string{
				"New revision of podinfo.test begins although rollouts begin " + nextWindow + `: annotation flagger.app/urgent is "INC-1"`, "New revision detected!"}}},
		"once": {
			facts(succeeded, v2, closed, asUrgent("INC-1", "INC-1", 0)),
			want{rule: "wait-for-schedule", reason: ReasonWaitingForSchedule, says: []string{notYet}, wake: opens}},
		"and again with another value": {
			facts(succeeded, v2, closed, asUrgent("INC-2", "INC-1", 0)), want{rule: "start", phase: progressing,
				says: []string{"begins although", "New revision detected!"}}},
		"it waits for no Canaries": {
			facts(succeeded, v2, dependsOn(DependencyFailed), asUrgent("INC-1", "", 0)), want{rule: "start", phase: progressing, says: []string{"New revision detected!"}}},
		"but for its turn": {
			facts(succeeded, v2, closed, others, asUrgent("INC-1", "", 0)), want{rule: "wait-for-turn", reason: ReasonWaitingForTurn, says: []string{itsTurn}}},
		"a rollout under way goes on": {
			facts(progressing, running(10), closed), want{weight: 20, rule: "advance", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"canary weight 20"}}},
		"unless it is to be held": {
			facts(progressing, running(10), onHold), want{weight: 10, rule: "outside-schedule", phase: progressing, reason: ReasonWaitingForSchedule, says: []string{isHeld},
				wake: now.Add(30 * time.Second)}},
		"and is checked meanwhile": {
			facts(progressing, running(10), onHold, toldHeld, metric), want{rule: "analysis", phase: progressing, needs: 1}},
		"and is taken back as ever": {
			facts(progressing, running(10), onHold, toldHeld, status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 })),
			want{rule: "threshold", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"Rolling back"}}},
		"between two checks nothing is told": {
			facts(progressing, running(10), onHold, toldHeld, status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(time.Second)) })),
			want{weight: 10, rule: "not-due", phase: progressing, reason: ReasonWaitingForSchedule, wake: now.Add(time.Second)}},
		"a promotion waits": {
			facts(progressing, running(30), onHold), want{weight: 30, rule: "outside-schedule", phase: progressing, reason: ReasonWaitingForSchedule, says: []string{"is held at canary weight 30"},
				wake: now.Add(30 * time.Second)}},
		"that of a skipped analysis, too": {
			facts(progressing, running(0), onHold, spec(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })),
			want{rule: "skip", phase: progressing, reason: ReasonWaitingForSchedule, says: []string{"is held at canary weight 0"}, wake: opens}},
		"a promotion that began does not": {
			facts(promotingTo, running(30), stage(stageLeadingBack), onHold, func(f *Facts) { f.Primary.Copy = "v2:2" }), want{rule: "promoting", actions: []Action{EnsureRoutes{}}, says: []string{"Routing all traffic to primary"}}},
		"what is urgent is not held": {
			facts(progressing, running(10), onHold, toldHeld, asUrgent("INC-1", "", 0)),
			want{weight: 20, rule: "advance", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"canary weight 20"}}},
		"in its whole rollout": {
			facts(progressing, running(10), onHold, asUrgent("INC-1", "INC-1", 7), status(func(s *v1beta1.CanaryStatus) { s.Rollout.Run = 7 })),
			want{weight: 20, rule: "advance", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"canary weight 20"}}},
		"and no other": {
			facts(progressing, running(10), onHold, asUrgent("INC-1", "INC-1", 6), status(func(s *v1beta1.CanaryStatus) { s.Rollout.Run = 7 })),
			want{weight: 10, rule: "outside-schedule", phase: progressing, reason: ReasonWaitingForSchedule, says: []string{isHeld}, wake: now.Add(30 * time.Second)}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

// Each rollout that begins uses the annotation up, whether or not it was needed: one that was forgotten lets no change of later through.
func TestUrgencyIsUsedUp(t *testing.T) {
	d := Decide(facts(succeeded, targetRuns("2", 2), asUrgent("INC-1", "", 0)))
	if got := d.Status.Rollout.Urgent; got == nil || *got != (v1beta1.UrgentStatus{Value: "INC-1", Run: 1}) {
		t.Errorf("record %+v", got)
	}
	d = Decide(facts(progressing, running(10), onHold, asUrgent("INC-2", "INC-1", 3), status(func(s *v1beta1.CanaryStatus) { s.Rollout.Run = 4 })))
	if got := d.Status.Rollout.Urgent; got == nil || *got != (v1beta1.UrgentStatus{Value: "INC-2", Run: 4}) {
		t.Errorf("record %+v", got)
	}
	long := strings.Repeat("x", 1000)
	if got := Urgent(map[string]string{v1beta1.UrgentAnnotation: long}, ""); len(got) != urgentLength || Urgent(map[string]string{v1beta1.UrgentAnnotation: long}, got) != "" {
		t.Errorf("%d characters are recorded", len(got))
	}
}

// A deadline for others does not run while nobody may begin.
func TestClosedScheduleStopsTheDeadlineOfCanaries(t *testing.T) {
	w := Decide(facts(succeeded, targetRuns("2", 2), closed, dependsOn(DependencyUnderWay), sinceThen(time.Hour, 50*time.Minute))).Status.Rollout.Waiting
	if w.Canaries.Since != nil || !w.Canaries.SeenAt.Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("record %+v", w.Canaries)
	}
}
