package simulate

import (
	"fmt"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func scalerGone() *rollout.Problem {
	return &rollout.Problem{Reason: rollout.ReasonScalerNotFound, Message: "horizontalpodautoscaler podinfo.default not found"}
}

// What was shipped while nobody can look at it gets neither requests nor copies of requests.
func TestIncidentB4_RevisionOfABlockedCanaryGetsNoTraffic(t *testing.T) {
	for name, strategy := range map[string]func(*v1beta1.CanarySpec){
		"weights": func(*v1beta1.CanarySpec) {},
		"mirror":  func(s *v1beta1.CanarySpec) { blueGreen(3)(s); s.Analysis.Mirror = true },
		"A/B":     abTest,
	} {
		for _, kill := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s/%d", name, kill), func(t *testing.T) {
				w := ready(t, podinfo(strategy))
				w.Ship("v2")
				until(t, w, "request", time.Hour, func() bool { return w.routed.CanaryWeight > 0 || w.routed.Mirror })
				w.SetProblem(scalerGone())
				w.Ship("v3")
				if kill > 0 {
					w.KillAfter(kill)
				}
				w.Run(30 * time.Second)
				if w.routed.SendsToCanary() {
					t.Errorf("routed %+v", w.routed)
				}
				before := w.Writes()
				w.Run(5 * time.Minute)
				if w.Writes() != before {
					t.Errorf("%d writes while nothing changes", w.Writes()-before)
				}
				w.SetProblem(nil)
				rest(t, w, succeeded)
				serves(t, w, "v3")
				sound(t, w)
			})
		}
	}
}

// A canary that serves after a failed promotion leaves its traffic to a primary that got ready before it becomes another revision.
func TestIncidentB4_RevisionOfABlockedCanaryReplacesNoServingOne(t *testing.T) {
	w := ready(t, podinfo())
	w.breakPrimary()
	w.Ship("v2")
	rest(t, w, failed)
	if w.routed.CanaryWeight != 100 {
		t.Fatalf("weight %d after a failed promotion", w.routed.CanaryWeight)
	}
	w.mendPrimary()
	w.primary.recover(w.now)
	w.settleCluster()
	w.Run(time.Minute)
	w.SetProblem(scalerGone())
	w.Ship("v3")
	w.Run(time.Minute)
	if w.routed.CanaryWeight != 0 {
		t.Errorf("weight %d", w.routed.CanaryWeight)
	}
	w.SetProblem(nil)
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}

// A run that is blocked for as long as the progress deadline is taken back, whatever strategy it has, and gives others their turn.
func TestIncidentB11_BlockedRunEnds(t *testing.T) {
	for name, c := range map[string]struct {
		strategy func(*v1beta1.CanarySpec)
		provider rollout.ProviderFact
	}{
		"weights":               {func(*v1beta1.CanarySpec) {}, mesh()},
		"A/B":                   {func(s *v1beta1.CanarySpec) { abTest(s); s.Analysis.Iterations = 20 }, mesh()},
		"blue/green, no routes": {blueGreen(20), noMesh()},
		"skip":                  {func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }, mesh()},
	} {
		for _, kill := range []int{0, 1, 2, 3, 4, 5} {
			t.Run(fmt.Sprintf("%s/%d", name, kill), func(t *testing.T) {
				w := ready(t, podinfo(c.strategy), provider(c.provider))
				w.Ship("v2")
				untilPhase(t, w, progressing)
				if !w.canary.Spec.SkipAnalysis {
					w.Run(90 * time.Second)
				}
				w.SetProblem(scalerGone())
				w.Run(9 * time.Minute)
				if w.Status().Phase != progressing {
					t.Fatalf("phase %s before the deadline", w.Status().Phase)
				}
				if kill > 0 {
					w.KillAfter(kill)
				}
				w.Run(2 * time.Minute)
				if w.Status().Phase != failed || w.target.replicas != 0 || w.routed.SendsToCanary() {
					t.Errorf("phase %s, %d pods, routed %+v", w.Status().Phase, w.target.replicas, w.routed)
				}
				if n := count(w.Events, "Rolling back podinfo.default progress deadline exceeded horizontalpodautoscaler"); n != 1 {
					t.Errorf("told %d times", n)
				}
				w.Run(24 * time.Hour)
				w.SetProblem(nil)
				w.Ship("v3")
				rest(t, w, succeeded)
				serves(t, w, "v3")
				sound(t, w)
			})
		}
	}
}

// What can't be taken back as long as the Canary is blocked ends all the same, and is taken back later.
func TestIncidentB11_BlockedRunEndsWithoutItsRoutes(t *testing.T) {
	for name, problem := range map[string]*rollout.Problem{
		"another Canary has the name": {Reason: rollout.ReasonDuplicateTarget, Message: "spec.service.name: canary other.default has the same"},
		"the routes are gone":         {Reason: rollout.ReasonInvalidSpec, Message: "virtualservices are not served by the cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo())
			w.Ship("v2")
			untilWeight(t, w, 50)
			w.SetProblem(problem)
			w.opts.Adapt = func(f *rollout.Facts) {
				if problem.Reason == rollout.ReasonInvalidSpec {
					f.Routes = rollout.RoutesFact{}
				}
			}
			before := w.routed
			w.Run(30 * time.Minute)
			if w.Status().Phase != failed || w.target.replicas == 0 || w.routed != before {
				t.Errorf("phase %s, %d pods, routed %+v", w.Status().Phase, w.target.replicas, w.routed)
			}
			w.opts.Adapt = nil
			w.SetProblem(nil)
			rest(t, w, failed)
			if w.routed.SendsToCanary() || w.target.replicas != 0 {
				t.Errorf("%d pods, routed %+v", w.target.replicas, w.routed)
			}
			serves(t, w, "v1")
			sound(t, w)
		})
	}
}

// A problem that goes away in time, or that is nothing but reads that fail, takes nothing back.
func TestIncidentB11_BlockedRunGoesOn(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilWeight(t, w, 20)
	w.SetProblem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true})
	w.Run(24 * time.Hour)
	for range 4 {
		w.SetProblem(scalerGone())
		w.Run(9 * time.Minute)
		w.SetProblem(nil)
		w.Run(time.Second)
	}
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}

// A rollback hook calls a run off that is blocked.
func TestIncidentB19_RollbackHookIsHonouredWhileBlocked(t *testing.T) {
	abort := false
	w := ready(t, podinfo(withHook(v1beta1.RollbackHook)), hooksPass(&abort))
	w.canary.Spec.ProgressDeadlineSeconds = new(int32(7200))
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.SetProblem(scalerGone())
	calls := len(asked(w, v1beta1.RollbackHook))
	w.Run(20 * time.Minute)
	if n := len(asked(w, v1beta1.RollbackHook)) - calls; n < 19 || n > 21 {
		t.Errorf("asked %d times in 20 intervals", n)
	}
	abort = true
	w.Run(2 * time.Minute)
	if w.Status().Phase != failed || w.routed.CanaryWeight != 0 || w.target.replicas != 0 {
		t.Errorf("phase %s, weight %d, %d pods", w.Status().Phase, w.routed.CanaryWeight, w.target.replicas)
	}
	serves(t, w, "v1")
	sound(t, w)
}

// a primary that is deleted while something else is wrong with the Canary comes back.
func TestA08_DeletedPrimaryOfABlockedCanaryComesBack(t *testing.T) {
	for _, phase := range []v1beta1.CanaryPhase{succeeded, progressing} {
		w := ready(t, podinfo())
		w.Ship("v2")
		rest(t, w, succeeded)
		if phase == progressing {
			w.Ship("v3")
			untilWeight(t, w, 20)
		}
		w.SetProblem(scalerGone())
		w.Run(time.Second)
		w.DeletePrimary()
		w.Run(time.Minute)
		if w.primary.template != "v2" || w.primary.available(w.now) == 0 {
			t.Errorf("%s: the primary runs %q with %d pods", phase, w.primary.template, w.primary.available(w.now))
		}
		if got := condition(w, v1beta1.HealthyType); got != string(rollout.ReasonScalerNotFound) {
			t.Errorf("%s: condition %s", phase, got)
		}
		w.SetProblem(nil)
		rest(t, w, succeeded)
		sound(t, w)
	}
}

// A promotion that is blocked for as long as the progress deadline ends as well, and gives others their turn. Whoever serves goes on.
func TestIncidentB11_BlockedPromotionEnds(t *testing.T) {
	copies := func(a rollout.Action) bool { _, is := a.(rollout.EnsurePrimary); return is }
	for name, c := range map[string]struct {
		phase  v1beta1.CanaryPhase
		refuse func(rollout.Action) bool
		end    v1beta1.CanaryPhase
		serves string
	}{
		"before the copy": {promoting, copies, failed, "v1"},
		"after the copy":  {promoting, nil, failed, "v2"},
		"finalising":      {finalising, nil, succeeded, "v2"},
	} {
		for _, kill := range []int{0, 1, 2, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, kill), func(t *testing.T) {
				w := ready(t, podinfo())
				w.refuse = c.refuse
				w.Ship("v2")
				untilPhase(t, w, c.phase)
				w.SetProblem(scalerGone())
				w.refuse = nil
				w.Run(9 * time.Minute)
				if w.Status().Phase != c.phase {
					t.Fatalf("phase %s before the deadline", w.Status().Phase)
				}
				if kill > 0 {
					w.KillAfter(kill)
				}
				w.Run(3 * time.Minute)
				if w.Status().Phase != c.end || w.primary.template != c.serves {
					t.Errorf("phase %s with %s on the primary", w.Status().Phase, w.primary.template)
				}
				w.Run(24 * time.Hour)
				w.SetProblem(nil)
				w.Run(time.Hour)
				if c.end == succeeded && w.target.replicas != 0 {
					t.Errorf("%d pods of the target are left", w.target.replicas)
				}
				w.Ship("v3")
				rest(t, w, succeeded)
				serves(t, w, "v3")
				sound(t, w)
			})
		}
	}
}
