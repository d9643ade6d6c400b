package rollout

import (
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// deleted is a Canary with revertOnDeletion that somebody deleted and that our finalizer and another one hold.
func deleted(f *Facts) {
	at := metav1.NewTime(now.Add(-time.Minute))
	f.Canary.DeletionTimestamp = &at
	f.Canary.Finalizers = []string{"other", v1beta1.Finalizer}
	f.Canary.Spec.RevertOnDeletion = true
}

// handingBack is a deletion in a stage that began a while ago.
func handingBack(stage string, ago time.Duration) edit {
	return func(f *Facts) {
		deleted(f)
		f.Canary.Status.Phase = v1beta1.CanaryPhaseTerminating
		f.Canary.Status.Rollout.Stage = stage
		f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-ago))
	}
}

func neverLed(f *Facts) { f.Canary.Status.Rollout.TargetRef = nil }

func noPods(f *Facts) {
	f.Target.Replicas, f.Target.Available = 0, 0
	f.Target.Health = Health{State: Waiting, Reason: "waiting for rollout to finish: scaled to zero"}
}

func reverts(f *Facts)       { f.Canary.Spec.RevertOnDeletion = true }
func holds(f *Facts)         { f.Canary.Finalizers = []string{v1beta1.Finalizer} }
func routingBack(f *Facts)   { f.Reverted = true }
func problem(p Problem) edit { return func(f *Facts) { f.Problem = &p } }

func TestFinalizer(t *testing.T) {
	for name, c := range map[string]struct {
		phase v1beta1.CanaryPhase
		edits []edit
		want  want
	}{
		"before anything is taken over": {"", []edit{reverts}, want{rule: "finalizer", actions: []Action{AddFinalizer{}}}},
		"asked for later":               {succeeded, []edit{reverts}, want{rule: "finalizer", actions: []Action{AddFinalizer{}}}},
		"during a run":                  {progressing, []edit{running(10), reverts}, want{rule: "finalizer", weight: 10, actions: []Action{AddFinalizer{}}}},
		"while suspended": {succeeded, []edit{reverts, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })},
			want{rule: "finalizer", actions: []Action{AddFinalizer{}}}},
		"for routes that nobody else deletes": {succeeded, []edit{func(f *Facts) { f.Routes.Outlasting = true }},
			want{rule: "finalizer", actions: []Action{AddFinalizer{}}}},
		"no longer asked for": {succeeded, []edit{holds}, want{rule: "finalizer", actions: []Action{RemoveFinalizer{}}}},
		"present":             {succeeded, []edit{reverts, holds}, want{rule: "settled"}},
		"cluster unknown": {succeeded, []edit{reverts, problem(Problem{Reason: ReasonReadFailed, Message: "x", Unknown: true})},
			want{rule: "blocked", says: []string{"x"}, reason: ReasonReadFailed}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(facts(c.phase, c.edits...)), c.want) })
	}
}

func TestDeletion(t *testing.T) {
	const terminating, terminated = v1beta1.CanaryPhaseTerminating, v1beta1.CanaryPhaseTerminated
	waiting := "podinfo.test is to take its traffic back and is not ready: waiting for rollout to finish: 0 out of 2 new replicas have been updated"
	for name, c := range map[string]struct {
		phase v1beta1.CanaryPhase
		edits []edit
		want  want
	}{
		"begins": {succeeded, []edit{deleted, noPods},
			want{rule: "terminating", phase: terminating, stage: stageReturning, actions: []Action{RestoreTarget{}}, says: []string{"Terminating canary podinfo.test"}}},
		"A-23: no rollout begins": {succeeded, []edit{deleted, noPods, targetRuns("2", 2)},
			want{rule: "terminating", phase: terminating, actions: []Action{RestoreTarget{}},
				says: []string{"Terminating canary podinfo.test", "podinfo.test is handed back with a revision that was not promoted"}}},
		"A-23: a run stops where it is": {progressing, []edit{running(10), deleted},
			want{rule: "terminating", phase: terminating, weight: 10, actions: []Action{RestoreTarget{}},
				says: []string{"Terminating canary podinfo.test", "podinfo.test is handed back with a revision that was not promoted"}}},
		"a status that was lost": {"", []edit{deleted},
			want{rule: "terminating", phase: terminating, stage: stageReturning, actions: []Action{RestoreTarget{}}, says: []string{"Terminating canary podinfo.test"}}},
		"a status that was lost, and a fault in the spec": {"", []edit{deleted, problem(Problem{Reason: ReasonInvalidSpec, Message: "x"})},
			want{rule: "terminating", phase: terminating, stage: stageReturning, actions: []Action{RestoreTarget{}}, says: []string{"Terminating canary podinfo.test"}}},
		"a fault in the spec from the beginning": {"", []edit{deleted, neverLed, problem(Problem{Reason: ReasonInvalidSpec, Message: "x"}), func(f *Facts) { f.Primary.Exists = false }},
			want{rule: "terminating", phase: terminated, says: []string{"Terminating canary podinfo.test", "Terminated canary podinfo.test"}}},
		"a primary that was lost during bootstrap": {v1beta1.CanaryPhaseInitializing, []edit{deleted, stage(stageCopying)},
			want{rule: "terminating", phase: terminating, stage: stageReturning, actions: []Action{RestoreTarget{}}, says: []string{"Terminating canary podinfo.test"}}},
		"a primary that was lost during bootstrap, and then a fault in the spec": {v1beta1.CanaryPhaseInitializing,
			[]edit{deleted, stage(stageCopying), problem(Problem{Reason: ReasonInvalidSpec, Message: "x"})},
			want{rule: "terminating", phase: terminating, stage: stageReturning, actions: []Action{RestoreTarget{}}, says: []string{"Terminating canary podinfo.test"}}},
		"a bootstrap after a status was lost, and then a fault in the spec": {v1beta1.CanaryPhaseInitializing,
			[]edit{deleted, neverLed, stage(stageCopying), problem(Problem{Reason: ReasonInvalidSpec, Message: "x"})},
			want{rule: "terminating", phase: terminating, stage: stageReturning, actions: []Action{RestoreTarget{}}, says: []string{"Terminating canary podinfo.test"}}},
		"a primary that is made for the first time": {v1beta1.CanaryPhaseInitializing, []edit{deleted, neverLed, stage(stageCopying), func(f *Facts) { f.Reverted = true }},
			want{rule: "terminating", phase: terminated, says: []string{"Terminating canary podinfo.test", "Terminated canary podinfo.test"}}},
		"nothing was taken over": {"", []edit{deleted, neverLed, func(f *Facts) { f.Reverted, f.Primary.Exists = true, false }},
			want{rule: "terminating", phase: terminated, says: []string{"Terminating canary podinfo.test", "Terminated canary podinfo.test"}}},
		"the target is that of another Canary": {succeeded, []edit{deleted, problem(Problem{Reason: ReasonDuplicateTarget, Message: "x"})},
			want{rule: "terminating", phase: terminated, says: []string{"Terminating canary podinfo.test", "Terminated canary podinfo.test"}}},
		"cluster unknown": {terminating, []edit{handingBack(stageReverting, time.Second), problem(Problem{Reason: ReasonReadFailed, Message: "x", Unknown: true})},
			want{rule: "terminating", phase: terminating, stage: stageReverting, says: []string{"x"}, reason: ReasonReadFailed}},
		"no pods yet": {terminating, []edit{handingBack(stageReturning, time.Second), noPods},
			want{rule: "terminating", stage: stageReturning, actions: []Action{RestoreTarget{}}, reason: ReasonCanaryNotReady, wake: now.Add(599 * time.Second),
				says: []string{"podinfo.test is to take its traffic back and is not ready: waiting for rollout to finish: scaled to zero"}}},
		"less pods than the primary": {terminating, []edit{handingBack(stageReturning, time.Second), func(f *Facts) { f.Primary.Replicas = 5 }},
			want{rule: "terminating", stage: stageReturning, actions: []Action{RestoreTarget{}}, reason: ReasonCanaryNotReady,
				says: []string{"podinfo.test is to take its traffic back and is not ready: "}}},
		"held by a former autoscaler": {terminating, []edit{handingBack(stageReturning, time.Second), func(f *Facts) { f.Scaler.PreviousPaused = true }},
			want{rule: "terminating", stage: stageReturning, actions: []Action{RestoreTarget{}}, reason: ReasonCanaryNotReady,
				says: []string{"podinfo.test is to take its traffic back and is not ready: "}}},
		"target on its way": {terminating, []edit{handingBack(stageReturning, time.Second), func(f *Facts) { unready(&f.Target, Waiting, 1) }},
			want{rule: "terminating", stage: stageReturning, says: []string{waiting}, reason: ReasonCanaryNotReady}},
		"target that does not come up": {terminating, []edit{handingBack(stageReturning, 11*time.Minute), func(f *Facts) { unready(&f.Target, Waiting, 1) }},
			want{rule: "terminating", stage: stageReturning, reason: ReasonCanaryNotReady, says: []string{"podinfo.test is to take its traffic back and does not " +
				"get ready: waiting for rollout to finish: 0 out of 2 new replicas have been updated: mend it, or set spec.revertOnDeletion of podinfo.test to " +
				"false to delete it as it is"}}},
		"dead target with a share of the traffic": {terminating, []edit{running(10), handingBack(stageReturning, time.Second), func(f *Facts) { unready(&f.Target, Waiting, 0) }},
			want{rule: "terminating", stage: stageReturning, weight: 0, actions: []Action{EnsureRoutes{}}, says: []string{waiting}, reason: ReasonCanaryNotReady}},
		"target ready": {terminating, []edit{handingBack(stageReturning, time.Second)},
			want{rule: "terminating", stage: stageReverting, actions: []Action{RevertRouting{}}}},
		"target gone": {terminating, []edit{handingBack(stageReturning, time.Second), func(f *Facts) { f.Target = Workload{Name: "podinfo"} }},
			want{rule: "terminating", stage: stageReverting, actions: []Action{RevertRouting{}},
				says: []string{"podinfo.test does not exist, podinfo.test ends with nothing to hand its traffic back to"}}},
		"target fell back before the traffic came": {terminating, []edit{handingBack(stageReverting, time.Second), func(f *Facts) { unready(&f.Target, Waiting, 1) }},
			want{rule: "terminating", stage: stageReturning, says: []string{waiting}, reason: ReasonCanaryNotReady}},
		"reverted just now": {terminating, []edit{handingBack(stageReverting, time.Minute), routingBack},
			want{rule: "terminating", phase: terminating, stage: stageDraining, wake: now.Add(30 * time.Second)}},
		"somebody undoes it": {terminating, []edit{handingBack(stageDraining, time.Second)},
			want{rule: "terminating", phase: terminating, stage: stageReverting, actions: []Action{RevertRouting{}}}},
		"not for long enough": {terminating, []edit{handingBack(stageDraining, time.Second), routingBack},
			want{rule: "terminating", phase: terminating, stage: stageDraining, wake: now.Add(29 * time.Second)}},
		"done": {terminating, []edit{handingBack(stageDraining, 30*time.Second), routingBack},
			want{rule: "terminating", phase: terminated, says: []string{"Terminated canary podinfo.test"}}},
		"last words not told": {terminated, []edit{deleted, status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.Outbox = []v1beta1.Notice{{Sequence: 7, Message: "Terminated canary podinfo.test"}}
		})}, want{rule: "terminating", phase: terminated, says: []string{"Terminated canary podinfo.test"}}},
		"last words told": {terminated, []edit{deleted, func(f *Facts) {
			f.Canary.Status.Rollout.Outbox = []v1beta1.Notice{{Sequence: 7, Message: "Terminated canary podinfo.test"}}
			f.Delivered = 7
		}}, want{rule: "terminating", phase: terminated, actions: []Action{RemoveFinalizer{}}}},
		"no longer asked for": {terminating, []edit{handingBack(stageReturning, time.Second), func(f *Facts) { f.Canary.Spec.RevertOnDeletion = false }},
			want{rule: "terminating", phase: terminating, actions: []Action{RemoveFinalizer{}}}},
		"routes that nobody else deletes": {succeeded, []edit{deleted, func(f *Facts) {
			f.Canary.Spec.RevertOnDeletion, f.Routes.Outlasting = false, true
		}}, want{rule: "terminating", phase: succeeded, actions: []Action{RevertRouting{}}}},
		"routes that can't be deleted": {succeeded, []edit{deleted, func(f *Facts) {
			f.Canary.Spec.RevertOnDeletion, f.Routes.Outlasting, f.ApplyError = false, true, "connection refused"
		}}, want{rule: "terminating", phase: succeeded, actions: []Action{RevertRouting{}}, reason: ReasonApplyFailed, says: []string{
			"connection refused: podinfo.test stays until that works; whoever removes its finalizer finalizer.flagger.app leaves behind what it made"}}},
		"routes that can't be read": {succeeded, []edit{deleted, func(f *Facts) {
			f.Canary.Spec.RevertOnDeletion, f.Routes.Outlasting = false, true
			f.Problem = &Problem{Reason: ReasonReadFailed, Message: "no route to host", Unknown: true}
		}}, want{rule: "terminating", phase: succeeded, reason: ReasonReadFailed, says: []string{
			"no route to host: podinfo.test stays until that works; whoever removes its finalizer finalizer.flagger.app leaves behind what it made"}}},
		"routes can't be given back": {terminating, []edit{handingBack(stageReverting, time.Second), func(f *Facts) { f.ApplyError = "connection refused" }},
			want{rule: "terminating", phase: terminating, stage: stageReverting, actions: []Action{RevertRouting{}}, reason: ReasonApplyFailed, says: []string{
				"connection refused: podinfo.test stays until that works; whoever removes its finalizer finalizer.flagger.app leaves behind what it made"}}},
		"routes are gone": {succeeded, []edit{deleted, func(f *Facts) { f.Canary.Spec.RevertOnDeletion = false }},
			want{rule: "terminating", phase: succeeded, actions: []Action{RemoveFinalizer{}}}},
		"held by others only": {terminating, []edit{handingBack(stageReturning, time.Second), func(f *Facts) { f.Canary.Finalizers = []string{"other"} }},
			want{rule: "terminating", phase: terminating}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(facts(c.phase, c.edits...)), c.want) })
	}
}

// B-15: the webhook of an event is told the phase that the event is about, and the condition says what goes on.
func TestB15_PhaseOfDeletion(t *testing.T) {
	d := Decide(facts(succeeded, deleted))
	if n := d.Status.Rollout.Outbox[0]; n.Phase != v1beta1.CanaryPhaseTerminating {
		t.Errorf("event %q is sent with phase %s", n.Message, n.Phase)
	}
	d = Decide(facts(v1beta1.CanaryPhaseTerminating, handingBack(stageDraining, time.Minute), routingBack))
	if n := d.Status.Rollout.Outbox[0]; n.Phase != v1beta1.CanaryPhaseTerminated {
		t.Errorf("event %q is sent with phase %s", n.Message, n.Phase)
	}
	promoted := condition(&d.Status, v1beta1.PromotedType)
	if promoted.Status != "Unknown" || promoted.Reason != "Terminated" || promoted.Message != "Deployment is being handed back." {
		t.Errorf("condition %+v", promoted)
	}
}

// An autoscaler may hold less pods than the primary has.
func TestDeletionWithAutoscaler(t *testing.T) {
	d := Decide(facts(v1beta1.CanaryPhaseTerminating, handingBack(stageReturning, time.Second), func(f *Facts) {
		f.Primary.Replicas = 5
		f.Canary.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: "HorizontalPodAutoscaler", Name: "podinfo"}
	}))
	if want := []Action{RevertRouting{}}; !reflect.DeepEqual(d.Actions, want) {
		t.Errorf("actions %#v, want %#v", d.Actions, want)
	}
}

// A target that does not get ready gets the pods that its autoscaler takes away once in an interval, and nobody is told of each.
func TestDeletionDoesNotFightAnAutoscaler(t *testing.T) {
	told := health(ReasonCanaryNotReady, "does not get ready", now.Add(-time.Hour))
	idle := func(f *Facts) { f.Scaler.AdmitsZero, f.Scaler.Pausable = true, true }
	late := []edit{handingBack(stageReturning, time.Hour), noPods, idle, told}
	d := Decide(facts(v1beta1.CanaryPhaseTerminating, late...))
	check(t, d, want{rule: "terminating", stage: stageReturning, actions: []Action{RestoreTarget{}}, reason: ReasonCanaryNotReady})
	next := d.Status.Rollout.NextCheckAt
	if next == nil || !next.After(now) {
		t.Fatalf("next try at %v", next)
	}
	f := facts(v1beta1.CanaryPhaseTerminating, append(late, status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = next }))...)
	check(t, Decide(f), want{rule: "terminating", stage: stageReturning, reason: ReasonCanaryNotReady, wake: next.Time})
	f.Now = next.Time
	check(t, Decide(f), want{rule: "terminating", stage: stageReturning, actions: []Action{RestoreTarget{}}, reason: ReasonCanaryNotReady})
}

// A deletion that another operator began has no record of ours.
func TestDeletionBegunByAnotherOperator(t *testing.T) {
	f := facts(v1beta1.CanaryPhaseTerminating, deleted, routingBack, status(func(s *v1beta1.CanaryStatus) { s.Rollout = nil }))
	d := Decide(f)
	check(t, d, want{rule: "terminating", phase: v1beta1.CanaryPhaseTerminating, stage: stageReturning, actions: []Action{RestoreTarget{}},
		says: []string{"Terminating canary podinfo.test"}})
	for range 4 {
		f.Canary = f.Canary.DeepCopy()
		f.Canary.Status, f.Now, f.Delivered = d.Status, f.Now.Add(time.Minute), d.Status.Rollout.Sequence
		d = Decide(f)
	}
	check(t, d, want{rule: "terminating", phase: v1beta1.CanaryPhaseTerminated, actions: []Action{RemoveFinalizer{}},
		says: []string{"Terminated canary podinfo.test"}})
}

// Healthy says what a deletion would do, in one write and without an event.
func TestHealthyTellsOfDeletion(t *testing.T) {
	reverts := spec(func(s *v1beta1.CanarySpec) { s.RevertOnDeletion = true })
	held := func(f *Facts) { f.Canary.Finalizers = []string{v1beta1.Finalizer} }
	by := func(provider string) edit { return func(f *Facts) { f.Provider.Name = provider } }
	ofKind := func(apiVersion string) edit {
		return func(f *Facts) {
			ref := v1beta1.LocalObjectReference{APIVersion: apiVersion, Kind: "Service", Name: "podinfo"}
			f.Canary.Spec.TargetRef, f.Canary.Status.Rollout.TargetRef = ref, &ref
			f.Target.Unscalable, f.Primary.Unscalable = true, true
		}
	}
	own := spec(func(s *v1beta1.CanarySpec) {
		s.PrimaryRef = &v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo-primary"}
	})
	const lost = "a deletion takes podinfo-primary.test away and gives podinfo.test no pods: requests are lost unless spec.revertOnDeletion is set"
	const back = "a deletion gives podinfo.test its pods and its traffic back before podinfo-primary.test goes"
	for name, c := range map[string]struct {
		facts Facts
		want  string
	}{
		"requests are lost":             {facts(initialized), lost},
		"by any provider":               {facts(succeeded, by(v1beta1.KubernetesProvider), func(f *Facts) { f.Provider.Routes = false }), lost},
		"also by an external one":       {facts(failed, by(v1beta1.ExternalProvider)), lost},
		"also while a run is under way": {facts(progressing, running(10)), lost},
		"they are not":                  {facts(initialized, reverts, held), back},
		"whoever leads them has to help": {facts(initialized, reverts, held, by(v1beta1.ExternalProvider)),
			"a deletion gives podinfo.test its pods and its Service back before podinfo-primary.test goes: lead the traffic there meanwhile"},
		"a Service serves as before": {facts(initialized, ofKind("v1")), ""},
		"and is led to again":        {facts(initialized, ofKind("v1"), reverts, held), "a deletion gives podinfo.test its traffic back first"},
		"a Knative Service stays where it is": {facts(initialized, ofKind(v1beta1.KnativeAPIVersion)),
			"a deletion leaves spec.traffic of podinfo.test at the promoted revision unless spec.revertOnDeletion is set"},
		"a primary of the user's own stays":     {facts(initialized, own), ""},
		"and hands back":                        {facts(initialized, own, reverts, held), "a deletion gives podinfo.test its pods and its traffic back first"},
		"along with what else there is to know": {facts(initialized, func(f *Facts) { f.Port.Undeclared = "port: nobody" }), "port: nobody; " + lost},
		"nothing leads to the primary yet":      {facts(v1beta1.CanaryPhaseInitializing, stage(stageCopying)), ""},
		"it is being deleted":                   {facts(initialized, func(f *Facts) { f.Canary.DeletionTimestamp = &metav1.Time{Time: now} }), ""},
		"something is wrong":                    {facts(initialized, health(ReasonPrimaryNotReady, "x", now), func(f *Facts) { unready(&f.Primary, Waiting, 0) }), "podinfo-primary.test has no ready pods: nobody answers the requests for podinfo.test"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			got, reason := "", ReasonHealthy
			if h := condition(&d.Status, v1beta1.HealthyType); h != nil {
				got, reason = h.Message, ProblemReason(h.Reason)
			}
			if got != c.want || strings.HasPrefix(got, "a deletion") && reason != ReasonHealthy {
				t.Errorf("Healthy says %s: %q, want %q", reason, got, c.want)
			}
			for _, n := range d.Status.Rollout.Outbox {
				if strings.HasPrefix(n.Message, "a deletion") {
					t.Errorf("an event tells of it: %s", n.Message)
				}
			}
			if c.facts.Canary.Status.Phase == progressing {
				return
			}
			again := c.facts
			again.Now, again.Delivered = now.Add(time.Second), d.Status.Rollout.Sequence
			again.Canary = again.Canary.DeepCopy()
			again.Canary.Status = d.Status
			again.Canary.Status.Rollout.Outbox = nil
			if next := Decide(again); !reflect.DeepEqual(next.Status, again.Canary.Status) && len(d.Actions) == 0 {
				t.Errorf("the next pass writes %+v, want %+v", next.Status, again.Canary.Status)
			}
		})
	}
}
