package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// dependsOn makes the Canary depend on backend, and on others that are promoted.
func dependsOn(state DependencyState, edits ...func(*v1beta1.DependsOn)) edit {
	return func(f *Facts) {
		d := &v1beta1.DependsOn{Canaries: []v1beta1.CanaryReference{{Name: "cache"}, {Name: "backend"}}}
		for _, e := range edits {
			e(d)
		}
		f.Canary.Spec.DependsOn = d
		f.Dependencies = []DependencyFact{{Name: "cache.test", State: DependencyPromoted}, {Name: "backend.test", State: state}}
	}
}

func atDeadline(what string) func(*v1beta1.DependsOn) {
	return func(d *v1beta1.DependsOn) { d.AtDeadline = what }
}

// sinceThen is a revision 2 that was seen some time ago, and that has waited for others for some of that, 0 for not at all.
func sinceThen(seen, waited time.Duration) edit {
	return status(func(s *v1beta1.CanaryStatus) {
		w := &v1beta1.WaitingForCanaries{Revision: "v2:2", SeenAt: *micro(now.Add(-seen))}
		if waited > 0 {
			w.Since = micro(now.Add(-waited))
		}
		s.Rollout.Waiting = &v1beta1.WaitingStatus{Since: *micro(now.Add(-seen)), Canaries: w}
	})
}

const waitsForBackend = "New revision of podinfo.test detected, waiting to be rolled out: backend.test, which comes first (spec.dependsOn), "

func TestWaitingForCanaries(t *testing.T) {
	v2, hour := targetRuns("2", 2), now.Add(time.Hour)
	told := health(ReasonWaitingForCanaries, waitsForBackend+"has a change that is not promoted yet", now.Add(-time.Minute))
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"changes of the others that come with it are waited for": {
			facts(succeeded, v2, dependsOn(DependencyPromoted)),
			want{rule: "wait-for-canaries", phase: succeeded, wake: now.Add(10 * time.Second)}},
		"for as long as is asked": {
			facts(succeeded, v2, dependsOn(DependencyPromoted, func(d *v1beta1.DependsOn) { d.Delay = "0s" })),
			want{rule: "start", phase: progressing, says: []string{"New revision detected!"}}},
		"and then nobody is waited for who has no change": {
			facts(succeeded, v2, dependsOn(DependencyPromoted), sinceThen(10*time.Second, 0)),
			want{rule: "start", phase: progressing, says: []string{"New revision detected!"}}},
		"a newer revision may come with others": {
			facts(succeeded, targetRuns("3", 3), dependsOn(DependencyPromoted), sinceThen(time.Hour, 0)),
			want{rule: "still-waiting", phase: succeeded, wake: now.Add(10 * time.Second)}},
		"a change of another comes first": {
			facts(succeeded, v2, dependsOn(DependencyUnderWay)),
			want{rule: "wait-for-canaries", phase: succeeded, reason: ReasonWaitingForCanaries, wake: hour,
				says: []string{waitsForBackend + "has a change that is not promoted yet"}}},
		"which is told once": {
			facts(succeeded, v2, dependsOn(DependencyUnderWay), sinceThen(time.Minute, time.Minute), told),
			want{rule: "still-waiting", phase: succeeded, reason: ReasonWaitingForCanaries, wake: now.Add(59 * time.Minute)}},
		"it was promoted": {
			facts(succeeded, v2, dependsOn(DependencyPromoted), sinceThen(time.Minute, time.Minute), told),
			want{rule: "start", phase: progressing, reason: ReasonHealthy, says: []string{"New revision detected!"}}},
		"then there is a turn to wait for": {
			facts(succeeded, v2, dependsOn(DependencyPromoted), sinceThen(time.Minute, time.Minute), told, others),
			want{rule: "still-waiting", phase: succeeded, reason: ReasonWaitingForTurn, says: []string{itsTurn}}},
		"who waits for others takes no turn": {
			facts(succeeded, v2, dependsOn(DependencyUnderWay), others, sinceThen(time.Minute, time.Minute), told),
			want{rule: "still-waiting", phase: succeeded, reason: ReasonWaitingForCanaries, wake: now.Add(59 * time.Minute)}},
		"it failed": {
			facts(succeeded, v2, dependsOn(DependencyFailed), sinceThen(time.Minute, time.Minute), told),
			want{rule: "still-waiting", reason: ReasonWaitingForCanaries, wake: now.Add(59 * time.Minute),
				says: []string{waitsForBackend + "failed: roll out another revision of it, or take its change back"}}},
		"it does not exist": {
			facts(succeeded, v2, dependsOn(DependencyMissing)),
			want{rule: "wait-for-canaries", reason: ReasonWaitingForCanaries, wake: hour, says: []string{waitsForBackend + "does not exist: create it"}}},
		"it is suspended": {
			facts(succeeded, v2, dependsOn(DependencySuspended)),
			want{rule: "wait-for-canaries", reason: ReasonWaitingForCanaries, wake: hour, says: []string{waitsForBackend + "has a change and is suspended"}}},
		"it is not known": {
			facts(succeeded, v2, dependsOn(DependencyUnknown)),
			want{rule: "wait-for-canaries", reason: ReasonWaitingForCanaries, wake: hour, says: []string{waitsForBackend + "has a target that can't be read"}}},
		"it is new": {
			facts(succeeded, v2, dependsOn(DependencyNew)),
			want{rule: "wait-for-canaries", reason: ReasonWaitingForCanaries, wake: hour, says: []string{waitsForBackend + "is not initialized yet"}}},
		"at the deadline the change is given up": {
			facts(succeeded, v2, dependsOn(DependencyUnderWay), sinceThen(time.Hour, time.Hour), told),
			want{rule: "still-waiting", phase: failed, says: []string{
				"New revision of podinfo.test is given up, it has waited for backend.test as long as spec.dependsOn.deadline (1h0m0s): backend.test",
				"Canary failed! Scaling down podinfo.test"}}},
		"which the target may not be asked for again": {
			facts(failed, dependsOn(DependencyUnderWay), v2, status(func(s *v1beta1.CanaryStatus) { s.Rollout.Target = refTo(rev("2", 2)) })),
			want{rule: "settled", phase: failed}},
		"or begins, if that is asked for": {
			facts(succeeded, v2, dependsOn(DependencyFailed, atDeadline(v1beta1.AtDeadlineBegin)), sinceThen(time.Hour, time.Hour), told),
			want{rule: "start", phase: progressing, says: []string{"New revision of podinfo.test begins without backend.test: it has waited", "New revision detected!"}}},
		"at its turn": {
			facts(succeeded, v2, dependsOn(DependencyFailed, atDeadline(v1beta1.AtDeadlineBegin)), sinceThen(time.Hour, time.Hour), told, others),
			want{rule: "still-waiting", phase: succeeded, reason: ReasonWaitingForTurn, says: []string{"begins without backend.test", itsTurn}}},
		"the gate comes first": {
			facts(succeeded, v2, dependsOn(DependencyUnderWay), hook(v1beta1.ConfirmRolloutHook)),
			want{rule: "confirm-rollout", needs: 1}},
		"and is not asked meanwhile": {
			facts(waiting, v2, dependsOn(DependencyUnderWay), hook(v1beta1.ConfirmRolloutHook), sinceThen(time.Minute, time.Minute), told),
			want{rule: "still-waiting", phase: waiting, wake: now.Add(59 * time.Minute)}},
		"a run under way waits for nobody": {
			facts(progressing, running(10), targetRuns("3", 3), dependsOn(DependencyUnderWay)),
			want{rule: "restart", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"Restarting analysis"}}},
		"nor does a target that has not changed": {
			facts(succeeded, dependsOn(DependencyFailed)), want{rule: "settled", phase: succeeded}},
		"a change that is taken back waits no longer": {
			facts(failed, told, dependsOn(DependencyUnderWay), sinceThen(time.Minute, time.Minute),
				status(func(s *v1beta1.CanaryStatus) { s.Rollout.Target = refTo(rev("2", 2)) })),
			want{rule: "reverted", phase: failed, reason: ReasonHealthy}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

// A wait for others that is over and begins anew, because one of them has changed again, has a deadline of its own.
func TestDeadlineOfCanariesCountsTheirChangesAlone(t *testing.T) {
	v2 := targetRuns("2", 2)
	met := Decide(facts(succeeded, v2, dependsOn(DependencyPromoted), sinceThen(time.Hour, 50*time.Minute), others)).Status.Rollout.Waiting.Canaries
	if met.Since != nil || !met.SeenAt.Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("nobody is waited for, and the record is %+v", met)
	}
	again := Decide(facts(succeeded, v2, dependsOn(DependencyUnderWay), sinceThen(2*time.Hour, 0), others)).Status.Rollout.Waiting.Canaries
	if again.Since == nil || !again.Since.Time.Equal(now) {
		t.Errorf("somebody is waited for again, and the record is %+v", again)
	}
	newer := Decide(facts(succeeded, targetRuns("3", 3), dependsOn(DependencyUnderWay), sinceThen(2*time.Hour, time.Hour))).Status.Rollout.Waiting
	if newer.Canaries.Revision != "v2:3" || !newer.Canaries.Since.Time.Equal(now) || !newer.Since.Time.Equal(now.Add(-2*time.Hour)) {
		t.Errorf("a newer revision has the record %+v", newer)
	}
}

func TestDependency(t *testing.T) {
	one, two := rev("1", 1), rev("2", 2)
	at := func(phase v1beta1.CanaryPhase, target, promoted Revision, edits ...edit) *v1beta1.Canary {
		f := facts(phase, append(edits, status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.Target, s.Rollout.Promoted = refTo(target), refTo(promoted)
		}))...)
		return f.Canary
	}
	going := at(succeeded, one, one)
	going.DeletionTimestamp = &metav1.Time{Time: now}
	suspend := spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })
	serves := status(func(s *v1beta1.CanaryStatus) { s.Rollout.ServingSide = v1beta1.ServingCanary })
	tracked := one
	tracked.Configs = map[string]string{"configmap/settings": "new"}
	for name, c := range map[string]struct {
		canary *v1beta1.Canary
		target Revision
		want   DependencyState
	}{
		"it never changed":                      {at(v1beta1.CanaryPhaseInitialized, one, one), one, DependencyPromoted},
		"it was promoted":                       {at(succeeded, two, two), two, DependencyPromoted},
		"a change that nobody has looked at":    {at(succeeded, one, one), two, DependencyUnderWay},
		"a change of a config":                  {at(succeeded, one, one), tracked, DependencyUnderWay},
		"a change after a failure":              {at(failed, two, one), rev("3", 3), DependencyUnderWay},
		"it waits":                              {at(waiting, one, one), two, DependencyUnderWay},
		"it is under analysis":                  {at(progressing, two, one), two, DependencyUnderWay},
		"it is promoted right now":              {at(v1beta1.CanaryPhaseFinalising, two, two), two, DependencyUnderWay},
		"it failed":                             {at(failed, two, one), two, DependencyFailed},
		"its failed change was taken back":      {at(failed, two, one), one, DependencyPromoted},
		"and that was noted":                    {at(failed, one, one), one, DependencyPromoted},
		"its promotion failed":                  {at(failed, two, one, serves), two, DependencyFailed},
		"its canary serves a change taken back": {at(failed, two, one, serves), one, DependencyUnderWay},
		"it is suspended with a change":         {at(succeeded, one, one, suspend), two, DependencySuspended},
		"it is suspended without one":           {at(succeeded, one, one, suspend), one, DependencyPromoted},
		"its target can't be read":              {at(succeeded, one, one), Revision{}, DependencyUnknown},
		"it is being made":                      {at(v1beta1.CanaryPhaseInitializing, one, one), one, DependencyNew},
		"nobody has seen it":                    {&v1beta1.Canary{}, one, DependencyNew},
		"it is being deleted":                   {going, one, DependencyMissing},
	} {
		if got := Dependency(c.canary, c.target); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestCycle(t *testing.T) {
	for graph, want := range map[string]string{
		"":                        "",
		"a-b b-c":                 "",
		"a-a":                     "a a",
		"a-b b-a":                 "a b a",
		"a-b a-c b-d c-d d-a":     "a b d a",
		"a-b b-c c-b":             "",
		"a-b b-c c-b b-d c-d d-a": "a b c d a",
	} {
		got := Cycle("a", func(name string) []string {
			var all []string
			for _, entry := range strings.Fields(graph) {
				if from, to, _ := strings.Cut(entry, "-"); from == name {
					all = append(all, to)
				}
			}
			return all
		})
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %q", graph, got, want)
		}
	}
}
