package simulate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// The tests in this file are named after the entries of the list of oddities of Flagger 1.44 (A, B) and of the list of
// production incidents (IncidentB) that they rule out.

const (
	initialized      = v1beta1.CanaryPhaseInitialized
	progressing      = v1beta1.CanaryPhaseProgressing
	waiting          = v1beta1.CanaryPhaseWaiting
	waitingPromotion = v1beta1.CanaryPhaseWaitingPromotion
	promoting        = v1beta1.CanaryPhasePromoting
	finalising       = v1beta1.CanaryPhaseFinalising
	succeeded        = v1beta1.CanaryPhaseSucceeded
	failed           = v1beta1.CanaryPhaseFailed
)

// world is a cluster with two pods of v1 on a mesh.
func world(canary *v1beta1.Canary, edits ...func(*Options)) *World {
	o := Options{Canary: canary, Provider: mesh(), Template: "v1", Replicas: 2, Behaviors: map[string]Behavior{}}
	for _, e := range edits {
		e(&o)
	}
	return New(o)
}

// ready is a world whose Canary was initialized.
func ready(t *testing.T, canary *v1beta1.Canary, edits ...func(*Options)) *World {
	t.Helper()
	w := world(canary, edits...)
	rest(t, w, initialized)
	return w
}

func provider(p rollout.ProviderFact) func(*Options) { return func(o *Options) { o.Provider = p } }

func withHook(types ...v1beta1.HookType) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) {
		for _, h := range types {
			s.Analysis.Webhooks = append(s.Analysis.Webhooks, v1beta1.CanaryWebhook{Name: string(h), Type: h, URL: "http://x"})
		}
	}
}

// until passes until done reports true. Done is called before each pass and may change the cluster.
func until(t *testing.T, w *World, what string, limit time.Duration, done func() bool) {
	t.Helper()
	end := w.now.Add(limit)
	for range 20000 {
		if done() {
			return
		}
		if w.Pass() && !w.spins() {
			continue
		}
		next := w.nextEvent()
		if w.spins() || next.IsZero() || next.After(end) {
			t.Fatalf("at %s: %s did not happen, phase %s stage %q weight %d\n%s", w.Now(), what, w.Status().Phase, w.Status().Rollout.Stage,
				w.Status().CanaryWeight, trace(w))
		}
		w.now = next
		w.settleCluster()
	}
	t.Fatalf("at %s: %s did not happen within 20000 passes, rule %s\n%s", w.Now(), what, w.lastRule, trace(w))
}

func untilPhase(t *testing.T, w *World, phase v1beta1.CanaryPhase) {
	t.Helper()
	until(t, w, "phase "+string(phase), 6*time.Hour, func() bool { return w.Status().Phase == phase })
}

func untilWeight(t *testing.T, w *World, weight int32) {
	t.Helper()
	until(t, w, "canary weight", 6*time.Hour, func() bool { return w.routed.CanaryWeight == weight && w.Status().Phase == progressing })
}

func trace(w *World) string {
	lines := w.Trace
	if len(lines) > 60 {
		lines = lines[len(lines)-60:]
	}
	return strings.Join(lines, "\n")
}

// sound fails the test with the trace if an invariant was broken.
func sound(t *testing.T, w *World) {
	t.Helper()
	for _, v := range w.Violations() {
		t.Error(v)
	}
	if t.Failed() {
		t.Log("\n" + trace(w))
	}
}

func serves(t *testing.T, w *World, template string) {
	t.Helper()
	if w.primary.template != template || w.primary.available(w.now) == 0 || w.routed.CanaryWeight != 0 {
		t.Errorf("primary runs %s with %d pods and canary weight %d, want %s to serve", w.primary.template, w.primary.available(w.now),
			w.routed.CanaryWeight, template)
	}
}

func TestA01_RevisionPushedAfterFailureIsAnalysed(t *testing.T) {
	for kill := range 4 {
		w := ready(t, podinfo(threshold(2)), func(o *Options) { o.Metrics = badSuccessRate("v2") })
		w.Ship("v2")
		rest(t, w, failed)
		w.primary.pods[0].readyAt = w.now.Add(5 * time.Minute)
		if kill > 0 {
			w.KillAfter(kill)
		}
		w.Ship("v3")
		rest(t, w, succeeded)
		serves(t, w, "v3")
		sound(t, w)
	}
}

func TestA02_BrokenPrimaryIsMendedByTheNextRevision(t *testing.T) {
	for _, p := range []rollout.ProviderFact{mesh(), noMesh()} {
		for _, wait := range []time.Duration{0, time.Minute, time.Hour} {
			w := ready(t, podinfo(blueGreen(2)), provider(p))
			w.Break("v1", true)
			w.Run(wait)
			w.Ship("v2")
			rest(t, w, succeeded)
			serves(t, w, "v2")
			sound(t, w)
		}
	}
}

func TestA03_FailedPromotionKeepsTheCanaryThroughABadRevision(t *testing.T) {
	w := ready(t, podinfo(threshold(2)), func(o *Options) { o.Metrics = badSuccessRate("v3") })
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.breakPrimary()
	rest(t, w, failed)
	w.Break("v1", true)
	w.Ship("v3")
	rest(t, w, failed)
	if w.routed.CanaryWeight != 100 || w.target.available(w.now) == 0 {
		t.Errorf("canary weight %d with %d pods, want the only side with pods to serve", w.routed.CanaryWeight, w.target.available(w.now))
	}
	w.mendPrimary()
	w.Ship("v4")
	rest(t, w, succeeded)
	serves(t, w, "v4")
	sound(t, w)
}

// A revision that was rejected while it was the only one to serve is taken back as soon as the primary can serve.
func TestA03_RejectedCanaryServesNoLongerThanItHasTo(t *testing.T) {
	w := ready(t, podinfo(threshold(2)), func(o *Options) { o.Metrics = badSuccessRate("v3") })
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.breakPrimary()
	rest(t, w, failed)
	w.Break("v1", true)
	w.Ship("v3")
	rest(t, w, failed)
	w.Run(time.Hour)
	if got := condition(w, v1beta1.HealthyType); got != "NoReadyCapacity" || w.routed.CanaryWeight != 100 {
		t.Errorf("weight %d, healthy: %s", w.routed.CanaryWeight, got)
	}
	ends := count(w.Events, "Canary failed!")
	w.mendPrimary()
	w.primary.recover(w.now)
	w.settleCluster()
	// Proxies find the primary first, and the canary stays for an interval after that.
	w.Run(2 * time.Minute)
	serves(t, w, "v2")
	if w.target.replicas != 0 || w.Status().Phase != failed || count(w.Events, "Canary failed!") != ends {
		t.Errorf("phase %s, the rejected revision has %d pods", w.Status().Phase, w.target.replicas)
	}
	if m := message(w, v1beta1.PromotedType); !strings.Contains(m, "scaled to zero") || condition(w, v1beta1.HealthyType) != "Healthy" {
		t.Errorf("the condition says %q, healthy: %s", m, condition(w, v1beta1.HealthyType))
	}
	sound(t, w)
}

// A primary that gets ready after its promotion has failed leaves the canary serving: it runs the same. The next revision is
// analyzed from the primary, step by step.
func TestA03_NextRevisionStartsFromAPrimaryThatGotReady(t *testing.T) {
	for name, bad := range map[string]bool{"good": false, "bad": true} {
		w := ready(t, podinfo(threshold(2)), func(o *Options) {
			if bad {
				o.Metrics = badSuccessRate("v3")
			}
		})
		w.Ship("v2")
		untilWeight(t, w, 50)
		w.breakPrimary()
		rest(t, w, failed)
		w.mendPrimary()
		w.primary.recover(w.now)
		w.settleCluster()
		w.Run(time.Hour)
		if w.routed.CanaryWeight != 100 || w.Status().Phase != failed {
			t.Errorf("%s: phase %s weight %d after the primary got ready", name, w.Status().Phase, w.routed.CanaryWeight)
		}
		if m := message(w, v1beta1.HealthyType); !strings.Contains(m, "keeps serving all requests") || !strings.Contains(m, "change the pod template") {
			t.Errorf("%s: the condition says %q", name, m)
		}
		w.Ship("v3")
		w.Run(0)
		if w.routed.CanaryWeight != 0 {
			t.Errorf("%s: v3 gets %d %% of the traffic without a check", name, w.routed.CanaryWeight)
		}
		if bad {
			rest(t, w, failed)
			serves(t, w, "v2")
			w.DeletePrimary()
			w.Run(time.Minute)
			serves(t, w, "v2")
		} else {
			rest(t, w, succeeded)
			serves(t, w, "v3")
		}
		sound(t, w)
	}
}

func TestA04_BootstrapLeavesTheTargetAloneUntilThePrimaryServes(t *testing.T) {
	for _, p := range []rollout.ProviderFact{mesh(), noMesh()} {
		w := world(podinfo(), provider(p))
		w.breakPrimary()
		w.Run(5 * time.Hour)
		if w.target.available(w.now) != 2 || w.apex {
			t.Errorf("%s: %d pods of the target left, apex taken over: %t", p.Name, w.target.available(w.now), w.apex)
		}
		w.mendPrimary()
		w.Break("v1", false)
		rest(t, w, initialized)
		serves(t, w, "v1")
		sound(t, w)
	}
}

func TestA05_RoutesThatCannotBeWrittenKeepTheTarget(t *testing.T) {
	w := world(podinfo())
	w.refuse = func(a rollout.Action) bool { _, routes := a.(rollout.EnsureRoutes); return routes }
	w.Run(time.Hour)
	if w.target.available(w.now) != 2 || w.Status().Phase != v1beta1.CanaryPhaseInitializing {
		t.Errorf("phase %s with %d pods of the target", w.Status().Phase, w.target.available(w.now))
	}
	w.refuse = nil
	rest(t, w, initialized)
	sound(t, w)
}

func TestA06_WhatArrivesDuringTheLastCheckIsAnalysedFirst(t *testing.T) {
	shipped := false
	w := ready(t, podinfo(), func(o *Options) {
		o.Metrics = func(w *World, template string) analysis.Verdict {
			if template == "v3" {
				return badSuccessRate("v3")(w, template)
			}
			if w.Status().CanaryWeight == 50 && !shipped {
				shipped = true
				w.target.setTemplate(w.now, "v3")
			}
			return analysis.Verdict{Outcome: analysis.Pass}
		}
	})
	w.Ship("v2")
	rest(t, w, failed)
	serves(t, w, "v1")
	sound(t, w)
}

func TestA07_ChangeDuringBootstrapIsDeployed(t *testing.T) {
	for _, at := range []time.Duration{0, time.Second / 2, time.Second, 2 * time.Second, 3 * time.Second} {
		w := world(podinfo())
		w.Run(at)
		w.Ship("v2")
		w.Run(2 * time.Hour)
		serves(t, w, "v2")
		if w.Status().LastPromotedSpec != flaggerHash("v2") {
			t.Errorf("changed after %s: status claims %s", at, w.Status().LastPromotedSpec)
		}
		sound(t, w)
	}
}

func TestA08_DeletedPrimaryComesBackWithThePromotedRevision(t *testing.T) {
	w := ready(t, podinfo(threshold(2)), func(o *Options) { o.Metrics = badSuccessRate("v2") })
	w.Ship("v2")
	untilWeight(t, w, 10)
	w.DeletePrimary()
	w.Run(30 * time.Second)
	serving := w.primary.template
	rest(t, w, failed)
	w.DeletePrimary()
	w.Run(time.Hour)
	serves(t, w, "v1")
	if serving != "v1" || w.primary.replicas != 2 {
		t.Errorf("rebuilt as %s during the run, with %d replicas in the end", serving, w.primary.replicas)
	}
	sound(t, w)
}

func TestA08_PrimaryThatHadNoPodsComesBack(t *testing.T) {
	w := ready(t, podinfo())
	w.primary.scale(w.now, 0)
	w.Ship("v2")
	untilPhase(t, w, failed)
	w.Ship("v1")
	w.Run(time.Hour)
	w.Ship("v2")
	w.DeletePrimary()
	w.Run(time.Minute)
	if w.primary.template != "v1" || w.primary.available(w.now) == 0 {
		t.Errorf("rebuilt as %q with %d pods", w.primary.template, w.primary.available(w.now))
	}
	sound(t, w)
}

// unrecoverable is a Canary whose canary serves and whose primary is gone, along with all that told what it ran.
func unrecoverable(t *testing.T) *World {
	w := world(podinfo())
	w.forbidden = true
	rest(t, w, initialized)
	w.primary.faulty = true
	w.Ship("v2")
	rest(t, w, failed)
	w.primary.faulty = false
	w.DeletePrimary()
	w.Run(5 * time.Minute)
	if w.primary.exists || w.routed.CanaryWeight != 100 || w.target.available(w.now) != 2 {
		t.Errorf("primary %+v, canary weight %d, %d pods of the target", w.primary, w.routed.CanaryWeight, w.target.available(w.now))
	}
	want := "podinfo-primary.default is missing and can't be made again: " + errLost.Error()
	if !slices.ContainsFunc(w.Status().Conditions, func(c v1beta1.CanaryCondition) bool { return c.Message == want }) {
		t.Errorf("no condition tells what keeps the primary from coming back: %+v", w.Status().Conditions)
	}
	sound(t, w)
	return w
}

func TestA08_LostRevisionHasWaysOut(t *testing.T) {
	for name, act := range map[string]func(w *World){
		"v1": func(w *World) { w.Ship("v1") },
		"v2": func(w *World) { w.Status().Phase = "" },
		"v3": func(w *World) { w.Status().Phase = ""; w.Ship("v3") },
	} {
		t.Run(name, func(t *testing.T) {
			w := unrecoverable(t)
			act(w)
			if !w.Run(2 * time.Hour) {
				t.Errorf("no rest in phase %s", w.Status().Phase)
			}
			serves(t, w, name)
			sound(t, w)
		})
	}
}

// What another operator promoted is not known when its primary is deleted. Everybody is told what to do then, and it helps.
func TestA08_UnknownRevisionHasAWayOut(t *testing.T) {
	for _, phase := range []v1beta1.CanaryPhase{succeeded, failed} {
		w := ready(t, podinfo())
		w.canary.Status = v1beta1.CanaryStatus{Phase: phase, CanaryWeight: 0}
		w.primary.copyOf = ""
		w.Run(time.Second)
		w.DeletePrimary()
		w.Run(time.Hour)
		if !w.told("set status.phase of podinfo.default to nothing") {
			t.Fatalf("%s: nobody was told what to do\n%s", phase, trace(w))
		}
		w.Ship("v3")
		w.Status().Phase = ""
		rest(t, w, initialized)
		serves(t, w, "v3")
		sound(t, w)
	}
}

// A newer revision leads out as well: it has nothing to be compared with, and nobody else answers.
func TestA08_UnknownRevisionGivesWayToANewerOne(t *testing.T) {
	for name, adopted := range map[string]v1beta1.CanaryStatus{
		"failed":         {Phase: failed},
		"canary serves":  {Phase: failed, CanaryWeight: 100},
		"under analysis": {Phase: progressing},
	} {
		for kill := range 6 {
			t.Run(fmt.Sprint(name, "/", kill), func(t *testing.T) {
				w := ready(t, podinfo())
				w.canary.Status = adopted
				w.target.setTemplate(w.now, "v2")
				if adopted.Phase == progressing || adopted.CanaryWeight > 0 {
					w.target.scale(w.now, 2)
					w.routed.CanaryWeight = adopted.CanaryWeight
				}
				w.trackZero()
				w.settleCluster()
				w.Run(15 * time.Second)
				w.DeletePrimary()
				w.Run(30 * time.Second)
				if w.primary.exists {
					t.Fatalf("the primary was made of %s, which was not promoted", w.primary.template)
				}
				w.KillAfter(kill)
				w.Ship("v3")
				rest(t, w, initialized)
				serves(t, w, "v3")
				sound(t, w)
			})
		}
	}
}

func TestA16_DeadlineCountsFromTheRevision(t *testing.T) {
	w := ready(t, podinfo())
	// Nothing happens in a settled cluster that would make its clock go on.
	w.now = w.now.Add(240 * time.Hour)
	w.primary.pods[0].readyAt = w.now.Add(2 * time.Minute)
	w.Ship("v2")
	rest(t, w, succeeded)
	sound(t, w)
}

// A controller that has accepted a route says nothing of the proxies, so only reports about those shorten the wait.
func TestA19_NothingIsScaledDownBeforeTheProxiesFollow(t *testing.T) {
	abort := false
	play := map[string]func(*World){
		"promotion": func(*World) {},
		"rollback":  func(*World) { abort = true },
		"skip":      func(w *World) { w.Edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }) },
		"cancel":    func(w *World) { w.Ship("v1") },
	}
	for reports, c := range map[string]struct {
		settled, dataPlane bool
		want               time.Duration
	}{
		"nothing": {false, false, time.Minute}, "that a controller has the route": {true, false, time.Minute}, "that the proxies have it": {true, true, 3 * time.Second},
	} {
		for name, act := range play {
			t.Run(name+", the provider reports "+reports, func(t *testing.T) {
				abort = false
				w := ready(t, podinfo(withHook(v1beta1.RollbackHook)), hooksPass(&abort), func(o *Options) {
					o.Provider.ReportsSettled, o.Provider.ReportsDataPlane = c.settled, c.dataPlane
				})
				w.Ship("v2")
				untilWeight(t, w, 30)
				act(w)
				until(t, w, "canary weight 0", time.Hour, func() bool { return w.routed.CanaryWeight == 0 })
				since := w.now
				until(t, w, "no pods", time.Hour, func() bool { return w.target.replicas == 0 })
				if grace := w.now.Sub(since); grace != c.want {
					t.Errorf("pods taken %s after the routes, want %s", grace, c.want)
				}
				sound(t, w)
			})
		}
	}
}

func TestA20_RevertIsACancelAndNoRollout(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilWeight(t, w, 30)
	w.Ship("v1")
	rest(t, w, succeeded)
	w.Run(time.Hour)
	if w.Status().Rollout.Run != 1 || w.Status().LastPromotedSpec != flaggerHash("v1") || count(w.Events, "Copying") != 0 {
		t.Errorf("run %d, promoted %s", w.Status().Rollout.Run, w.Status().LastPromotedSpec)
	}
	w.Ship("v2")
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}

// Nothing is taken back to the promoted revision while the primary runs another one.
func TestA20_RevertMendsAPrimaryThatIsNotThePromotedRevision(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *World){
		"changed by hand": func(t *testing.T, w *World) {
			w.EditPrimary("hotfix")
			w.Ship("v3")
			untilWeight(t, w, 20)
		},
		"promotion cut short": func(t *testing.T, w *World) {
			w.Ship("v4")
			untilPhase(t, w, promoting)
			until(t, w, "the copy", time.Minute, func() bool { return w.primary.template == "v4" })
			w.StripPrimary()
			w.Ship("v3")
			untilWeight(t, w, 20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo())
			change(t, w)
			w.Ship("v1")
			rest(t, w, succeeded)
			serves(t, w, "v1")
			sound(t, w)
		})
	}
}

// A record that is lost is no reason for a rollout: the primary can be compared with the target.
func TestA20_RevertWithoutARecordIsACancel(t *testing.T) {
	w := ready(t, podinfo())
	w.StripPrimary()
	w.Ship("v2")
	untilWeight(t, w, 30)
	w.Ship("v1")
	rest(t, w, succeeded)
	if run, copied := w.Status().Rollout.Run, count(w.Events, "Copying"); run != 1 || copied != 0 {
		t.Errorf("run %d, %d copies", run, copied)
	}
	sound(t, w)
}

func TestA21_RevertAfterAFailedPromotionRestoresTheOldRevision(t *testing.T) {
	for _, p := range []rollout.ProviderFact{mesh(), noMesh()} {
		w := ready(t, podinfo(blueGreen(2)), provider(p))
		w.Ship("v2")
		untilPhase(t, w, progressing)
		w.breakPrimary()
		rest(t, w, failed)
		w.mendPrimary()
		w.Ship("v1")
		rest(t, w, succeeded)
		serves(t, w, "v1")
		sound(t, w)
	}
}

func TestA22_EditedStepsNeitherJumpNorStall(t *testing.T) {
	for name, c := range map[string]struct {
		steps []int32
		next  int32
	}{
		"not in the list": {[]int32{10, 25, 70}, 25},
		"equal":           {[]int32{20, 20, 40}, 40},
		"descending":      {[]int32{60, 30, 40}, 30},
	} {
		w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight, s.Analysis.StepWeights = 0, []int32{20, 50} }))
		w.Ship("v2")
		untilWeight(t, w, 20)
		w.Edit(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeights = c.steps })
		until(t, w, name, time.Hour, func() bool { return w.Status().CanaryWeight != 20 })
		if got := w.Status().CanaryWeight; got != c.next {
			t.Errorf("%s: from 20 to %d, want %d", name, got, c.next)
		}
		rest(t, w, succeeded)
		sound(t, w)
	}
}

// Iterations that are lowered during a run end the analysis earlier, as if there had been so few from the start: the promotion
// is confirmed, and the canary gets the traffic before the primary is changed.
func TestA22_LoweredIterationsLeaveNothingOut(t *testing.T) {
	mirror := func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }
	for name, c := range map[string]struct {
		provider rollout.ProviderFact
		edit     func(*v1beta1.CanarySpec)
	}{
		"mesh": {mesh(), func(*v1beta1.CanarySpec) {}}, "mesh, mirrored": {mesh(), mirror}, "kubernetes": {noMesh(), mirror},
	} {
		t.Run(name, func(t *testing.T) {
			open := false
			w := ready(t, podinfo(blueGreen(10), c.edit, withHook(v1beta1.ConfirmPromotionHook)), provider(c.provider),
				closedGate(v1beta1.ConfirmPromotionHook, &open))
			w.Ship("v2")
			until(t, w, "iteration 5", time.Hour, func() bool { return w.Status().Iterations == 5 })
			w.Edit(func(s *v1beta1.CanarySpec) { s.Analysis.Iterations = 3 })
			w.Run(20 * time.Minute)
			if s := w.Status(); s.Phase != waitingPromotion || s.CanaryWeight != 0 || w.primary.template != "v1" {
				t.Errorf("phase %s weight %d before a closed gate, the primary runs %s", s.Phase, s.CanaryWeight, w.primary.template)
			}
			open = true
			untilPhase(t, w, promoting)
			if c.provider.Routes && (w.routed != rollout.TrafficState{CanaryWeight: 100}) {
				t.Errorf("promoted with routes %+v", w.routed)
			}
			if got := count(w.Events, "Confirm-promotion check"); got != 1 {
				t.Errorf("the gate was passed %d times", got)
			}
			rest(t, w, succeeded)
			serves(t, w, "v2")
			sound(t, w)
		})
	}
}

func TestA23_NothingHappensDuringDeletion(t *testing.T) {
	for _, phase := range []v1beta1.CanaryPhase{v1beta1.CanaryPhaseInitializing, initialized, progressing, promoting, finalising, succeeded} {
		w := world(podinfo())
		if phase != v1beta1.CanaryPhaseInitializing {
			rest(t, w, initialized)
		}
		if phase != initialized && phase != v1beta1.CanaryPhaseInitializing {
			w.Ship("v2")
		}
		untilPhase(t, w, phase)
		w.Run(0)
		w.canary.DeletionTimestamp = &metav1.Time{Time: w.now}
		w.apex, w.backends = false, false
		before := w.Writes()
		w.DriftRoutes(100)
		w.Ship("v3")
		w.Run(time.Hour)
		if w.Writes() != before {
			t.Errorf("%s: %d writes while the Canary is deleted", phase, w.Writes()-before)
		}
	}
}

func TestA24_PromotionStepsWithoutCanaryTrafficFinish(t *testing.T) {
	for _, p := range []rollout.ProviderFact{mesh(), noMesh()} {
		w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true; s.Analysis.StepWeightPromotion = 20 }), provider(p))
		w.Ship("v2")
		rest(t, w, succeeded)
		w.Edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = false })
		w.Ship("v3")
		untilPhase(t, w, promoting)
		// Somebody takes the traffic away by hand, in the status as well.
		w.canary.Status.CanaryWeight = 0
		rest(t, w, succeeded)
		serves(t, w, "v3")
		sound(t, w)
	}
}

// closed is a gate that stays closed as long as *open is false.
func closedGate(gate v1beta1.HookType, open *bool) func(*Options) {
	return func(o *Options) {
		o.Hooks = func(_ *World, h v1beta1.HookType, _ string) rollout.HookResult {
			if h == v1beta1.RollbackHook {
				return rollout.HookResult{}
			}
			return rollout.HookResult{Passed: h != gate || *open, Text: "no"}
		}
	}
}

// badWhile fails every check as long as *bad is true.
func badWhile(bad *bool) func(*Options) {
	return func(o *Options) {
		o.Metrics = func(w *World, template string) analysis.Verdict {
			if *bad {
				return badSuccessRate(template)(w, template)
			}
			return analysis.Verdict{Outcome: analysis.Pass}
		}
	}
}

// A rollback over a deadline, and what keeps a rollout from its first step, have an event and an alert of their own.
func TestB01_DeadlinesAndPreRolloutFailuresAreTold(t *testing.T) {
	const overdue = "deployment \"podinfo\" exceeded its progress deadline"
	for name, c := range map[string]struct {
		edit   func(*Options)
		events []string
		alerts []string
	}{
		"deadline": {
			func(o *Options) { o.Behaviors["v2"] = Behavior{Broken: true} },
			[]string{"canary deployment podinfo.default not ready: " + overdue, "Rolling back podinfo.default progress deadline exceeded " + overdue,
				"Canary failed! Scaling down podinfo.default"},
			[]string{"error: Progress deadline exceeded " + overdue},
		},
		"pre-rollout": {
			func(o *Options) {
				withHook(v1beta1.PreRolloutHook)(&o.Canary.Spec)
				o.Hooks = func(*World, v1beta1.HookType, string) rollout.HookResult { return rollout.HookResult{Text: "no"} }
			},
			[]string{"Halt podinfo.default advancement pre-rollout check pre-rollout failed no", "Rolling back podinfo.default failed checks threshold reached 3",
				"Canary failed! Scaling down podinfo.default"},
			[]string{"warn: Canary pre-rollout check pre-rollout failed no", "error: Failed checks threshold reached 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo(threshold(3)), c.edit)
			w.Ship("v2")
			untilPhase(t, w, progressing)
			w.Pass()
			seen := len(w.Events)
			rest(t, w, failed)
			var alerts []string
			for _, e := range w.Events[seen:] {
				if e.Alert != "" && !strings.Contains(e.Alert, "New revision") {
					alerts = append(alerts, e.Alert)
				}
			}
			for _, text := range c.events {
				if count(w.Events, text) == 0 {
					t.Errorf("no event %q\n%s", text, trace(w))
				}
			}
			if !slices.Equal(alerts, c.alerts) {
				t.Errorf("alerts %q, want %q", alerts, c.alerts)
			}
			sound(t, w)
		})
	}
}

func TestB03_RollbackHookRefusesAWaitingRevision(t *testing.T) {
	abort := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook, v1beta1.RollbackHook)), func(o *Options) {
		o.Hooks = func(_ *World, h v1beta1.HookType, _ string) rollout.HookResult {
			return rollout.HookResult{Passed: h == v1beta1.RollbackHook && abort, Text: "no"}
		}
	})
	w.Ship("v2")
	untilPhase(t, w, waiting)
	w.Run(3 * time.Minute)
	abort = true
	rest(t, w, failed)
	serves(t, w, "v1")
	sound(t, w)
	// The refused revision is not asked about again, the next one is.
	abort = false
	w.Run(time.Hour)
	if w.Status().Phase != failed {
		t.Errorf("phase %s after the refusal", w.Status().Phase)
	}
	w.Ship("v3")
	untilPhase(t, w, waiting)
}

// asked records the questions of the hooks of a type.
func asked(w *World, h v1beta1.HookType) []rollout.NeedHooks {
	var out []rollout.NeedHooks
	for _, n := range w.asked {
		if n.Type == h {
			out = append(out, n)
		}
	}
	return out
}

func TestB05_TrafficIncreaseAlertsOncePerWait(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmTrafficIncreaseHook)), closedGate(v1beta1.ConfirmTrafficIncreaseHook, &open))
	w.Ship("v2")
	w.Run(30 * time.Minute)
	if got := count(w.Events, "waiting for traffic increase approval"); got != 1 {
		t.Errorf("told %d times in half an hour", got)
	}
	if polls := len(asked(w, v1beta1.ConfirmTrafficIncreaseHook)); polls > 31 {
		t.Errorf("asked %d times in 30 intervals", polls)
	}
	open = true
	rest(t, w, succeeded)
	if got := count(w.Events, "Confirm-traffic-increase check"); got != 5 {
		t.Errorf("asked before %d of 5 increases", got)
	}
	sound(t, w)
}

// The gate is asked before requests are copied to the canary, and again before the first of them is answered by it.
func TestB05_TrafficIncreaseIsAskedAfterTheMirrorStepAsWell(t *testing.T) {
	open := false
	w := ready(t, podinfo(func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }, withHook(v1beta1.ConfirmTrafficIncreaseHook)),
		closedGate(v1beta1.ConfirmTrafficIncreaseHook, &open))
	w.Ship("v2")
	w.Run(10 * time.Minute)
	if w.routed.SendsToCanary() {
		t.Errorf("routes %+v before the gate was opened", w.routed)
	}
	open = true
	until(t, w, "mirror step", time.Hour, func() bool { return w.routed.Mirror })
	open = false
	w.Run(10 * time.Minute)
	if (w.routed != rollout.TrafficState{Mirror: true}) {
		t.Errorf("routes %+v after the gate was closed", w.routed)
	}
	open = true
	rest(t, w, succeeded)
	if got := count(w.Events, "Confirm-traffic-increase check"); got != 6 {
		t.Errorf("the gate was passed %d times on the way to the mirror step and five weights", got)
	}
	if got := count(w.Events, "waiting for traffic increase approval"); got != 2 {
		t.Errorf("told %d times during two waits", got)
	}
	sound(t, w)
}

// Other troubles during a wait, and crashes, make no second wait of it; the next closed gate is one.
func TestB05_TrafficIncreaseAlertsOncePerWaitWhateverElseHappens(t *testing.T) {
	open, bad := false, false
	w := ready(t, podinfo(threshold(100), withHook(v1beta1.ConfirmTrafficIncreaseHook)), closedGate(v1beta1.ConfirmTrafficIncreaseHook, &open),
		badWhile(&bad))
	open = true
	w.Ship("v2")
	untilWeight(t, w, 10)
	open, w.target.patient = false, true
	told := func() int { return count(w.Events, "waiting for traffic increase approval") }
	for range 10 {
		w.Run(2 * time.Minute)
		bad = !bad
		w.target.pods[0].readyAt = w.now.Add(5 * time.Second)
		w.KillAfter(1)
	}
	bad = false
	if told() != 1 {
		t.Errorf("told %d times during one wait\n%s", told(), trace(w))
	}
	open = true
	until(t, w, "next step", time.Hour, func() bool { return w.routed.CanaryWeight == 20 })
	open = false
	w.Run(10 * time.Minute)
	if told() != 2 {
		t.Errorf("told %d times during two waits\n%s", told(), trace(w))
	}
	sound(t, w)
}

func TestB06_WaitingForPromotionShowsTrueNumbers(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){"weights": func(*v1beta1.CanarySpec) {}, "blue/green": blueGreen(2)} {
		open := false
		w := ready(t, podinfo(edit, withHook(v1beta1.ConfirmPromotionHook)), closedGate(v1beta1.ConfirmPromotionHook, &open))
		w.Ship("v2")
		untilPhase(t, w, waitingPromotion)
		weight, iterations := w.Status().CanaryWeight, w.Status().Iterations
		w.Run(20 * time.Minute)
		if s := w.Status(); s.CanaryWeight != weight || s.Iterations != iterations || iterations < 0 || weight != w.routed.CanaryWeight {
			t.Errorf("%s: weight %d iterations %d, want %d and %d", name, s.CanaryWeight, s.Iterations, weight, iterations)
		}
		if polls := len(asked(w, v1beta1.ConfirmPromotionHook)); polls < 19 || polls > 22 {
			t.Errorf("%s: asked %d times in 20 intervals", name, polls)
		}
		if got := count(w.Events, "waiting for promotion approval"); got != 1 {
			t.Errorf("%s: told %d times", name, got)
		}
		open = true
		rest(t, w, succeeded)
		sound(t, w)
	}
}

func TestB08_FailedCanaryCostsNothing(t *testing.T) {
	w := ready(t, podinfo(threshold(1)), func(o *Options) { o.Metrics = badSuccessRate("v2") })
	w.Ship("v2")
	rest(t, w, failed)
	w.Pass()
	before, at := w.Writes(), w.Status().LastTransitionTime
	for range 1000 {
		w.now = w.now.Add(time.Minute)
		w.Pass()
	}
	if w.Writes() != before || !w.wake.IsZero() || w.Status().LastTransitionTime != at {
		t.Errorf("%d writes, wake at %s", w.Writes()-before, w.wake)
	}
}

func TestB18_EndIsToldAfterACrash(t *testing.T) {
	w := ready(t, podinfo(withHook(v1beta1.PostRolloutHook)))
	w.Ship("v2")
	untilPhase(t, w, finalising)
	until(t, w, "last write", time.Hour, func() bool { return w.target.replicas == 0 })
	w.KillAfter(1)
	rest(t, w, succeeded)
	if got := count(w.Events, "Promotion completed!"); got != 1 {
		t.Errorf("told %d times", got)
	}
	if w.posted != 1 {
		t.Errorf("post-rollout hooks published %d times", w.posted)
	}
}

// What a pre-rollout hook set up is taken down by a post-rollout hook, whichever way the run ends.
func TestB18_CanceledRunCallsItsPostRolloutHooks(t *testing.T) {
	w := ready(t, podinfo(withHook(v1beta1.PreRolloutHook, v1beta1.PostRolloutHook)))
	w.Ship("v2")
	untilWeight(t, w, 30)
	w.Ship("v1")
	rest(t, w, succeeded)
	if got := len(asked(w, v1beta1.PreRolloutHook)); got != 1 || w.posted != 1 {
		t.Errorf("pre-rollout hook called %d times, post-rollout hook %d times", got, w.posted)
	}
	sound(t, w)
}

// A promotion that fails is an end as well, although the canary goes on serving.
func TestB18_FailedPromotionCallsPostRolloutHooks(t *testing.T) {
	w := ready(t, podinfo(withHook(v1beta1.PostRolloutHook)))
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.breakPrimary()
	rest(t, w, failed)
	if w.posted != 1 {
		t.Errorf("post-rollout hooks published %d times", w.posted)
	}
	sound(t, w)
}

// condition is the reason of a condition.
func condition(w *World, conditionType v1beta1.CanaryConditionType) string {
	for _, c := range w.Status().Conditions {
		if c.Type == conditionType {
			return c.Reason
		}
	}
	return ""
}

func message(w *World, conditionType v1beta1.CanaryConditionType) string {
	for _, c := range w.Status().Conditions {
		if c.Type == conditionType {
			return c.Message
		}
	}
	return ""
}

func TestB20_PrimaryCookieIsRenewedWithEachStep(t *testing.T) {
	n := 0
	w := ready(t, podinfo(func(s *v1beta1.CanarySpec) {
		s.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "c", PrimaryCookieName: "p"}
	}))
	w.nonces = func() [2]string { n++; return [2]string{strings.Repeat("a", n), strings.Repeat("b", n)} }
	canary, primary := map[string]bool{}, map[string]bool{}
	w.Ship("v2")
	until(t, w, "end", time.Hour, func() bool {
		if w.Status().CanaryWeight > 0 && w.Status().Phase == progressing {
			canary[w.Status().SessionAffinityCookie], primary[w.Status().PrimarySessionAffinityCookie] = true, true
		}
		return w.Status().Phase == succeeded
	})
	w.Run(time.Minute)
	if len(canary) != 1 || len(primary) != 5 {
		t.Errorf("%d canary and %d primary cookies in five steps", len(canary), len(primary))
	}
	if s := w.Status(); s.SessionAffinityCookie != "" || s.PrimarySessionAffinityCookie != "" || s.PreviousSessionAffinityCookie == "" {
		t.Errorf("in the end %q %q %q", s.SessionAffinityCookie, s.PrimarySessionAffinityCookie, s.PreviousSessionAffinityCookie)
	}
	sound(t, w)
}

func TestB22_WarnsOncePerRun(t *testing.T) {
	w := ready(t, podinfo(), provider(noMesh()))
	w.Ship("v2")
	rest(t, w, succeeded)
	if got := count(w.Events, "Progressive traffic is not supported"); got != 1 {
		t.Errorf("warned %d times", got)
	}
}

// What a provider can't do and Flagger ignored is ignored, told once in a run, and stays in sight.
func TestIgnoredFieldsStopNothing(t *testing.T) {
	w := ready(t, podinfo(blueGreen(2), func(s *v1beta1.CanarySpec) {
		s.Analysis.Mirror, s.Analysis.SessionAffinity = true, &v1beta1.SessionAffinity{CookieName: "a"}
	}), provider(noMesh()))
	for run, template := range []string{"v2", "v3"} {
		w.Ship(template)
		untilPhase(t, w, progressing)
		rest(t, w, succeeded)
		for _, field := range []string{"mirror", "sessionAffinity"} {
			if got := count(w.Events, "spec.analysis."+field+" is ignored"); got != run+1 {
				t.Errorf("%s: warned %d times in %d runs", field, got, run+1)
			}
		}
	}
	healthy := func() (c v1beta1.CanaryCondition) {
		for _, c = range w.Status().Conditions {
			if c.Type == v1beta1.HealthyType {
				break
			}
		}
		return c
	}
	if c := healthy(); c.Status != "True" || c.Reason != "UnsupportedFields" || !strings.Contains(c.Message, "; spec.analysis.sessionAffinity is ignored") {
		t.Errorf("condition %+v", c)
	}
	w.Edit(func(s *v1beta1.CanarySpec) { s.Analysis.Mirror, s.Analysis.SessionAffinity = false, nil })
	w.Run(time.Second)
	if c := healthy(); c.Status != "True" || c.Reason != "Healthy" || strings.Contains(c.Message, "ignored") {
		t.Errorf("condition %+v once nothing is ignored", c)
	}
	sound(t, w)
}

func TestB23_WeightIsTheRoutedOne(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){
		"blue/green": blueGreen(2),
		"A/B":        func(s *v1beta1.CanarySpec) { blueGreen(2)(s); s.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
	} {
		w := ready(t, podinfo(edit))
		w.Ship("v2")
		untilWeight(t, w, 100)
		if w.Status().CanaryWeight != 100 {
			t.Errorf("%s: status says %d", name, w.Status().CanaryWeight)
		}
	}
}

// everyPhase plays to each phase of a rollout of v2 in turn.
func everyPhase(t *testing.T, edits []func(*v1beta1.CanarySpec), play func(t *testing.T, w *World, phase v1beta1.CanaryPhase)) {
	t.Helper()
	for _, phase := range []v1beta1.CanaryPhase{waiting, progressing, waitingPromotion, promoting, finalising} {
		t.Run(string(phase), func(t *testing.T) {
			var gates []v1beta1.HookType
			switch phase {
			case waiting:
				gates = append(gates, v1beta1.ConfirmRolloutHook)
			case waitingPromotion:
				gates = append(gates, v1beta1.ConfirmPromotionHook)
			}
			w := ready(t, podinfo(append(edits, withHook(gates...))...), func(o *Options) {
				o.Hooks = func(w *World, _ v1beta1.HookType, _ string) rollout.HookResult {
					return rollout.HookResult{Passed: w.target.template != "v2", Text: "no"}
				}
			})
			w.Ship("v2")
			untilPhase(t, w, phase)
			play(t, w, phase)
			sound(t, w)
		})
	}
}

func TestIncidentB1_TrafficStaysWithTheSideThatServes(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){
		"weights":    func(*v1beta1.CanarySpec) {},
		"in steps":   func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 20 },
		"blue/green": blueGreen(2),
	} {
		w := ready(t, podinfo(edit))
		w.Ship("v2")
		untilPhase(t, w, progressing)
		w.breakPrimary()
		rest(t, w, failed)
		if w.routed.CanaryWeight != 100 || w.target.available(w.now) != 2 {
			t.Errorf("%s: weight %d on a canary with %d pods", name, w.routed.CanaryWeight, w.target.available(w.now))
		}
		sound(t, w)
	}
}

func TestIncidentB2_DrainStartsAnewWhenRoutesDrift(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilPhase(t, w, finalising)
	for range 5 {
		w.Run(2 * time.Second)
		w.DriftRoutes(30)
	}
	rest(t, w, succeeded)
	sound(t, w)
}

func TestIncidentB4_NewestRevisionStartsAtZero(t *testing.T) {
	for _, at := range []int32{10, 30, 50} {
		w := ready(t, podinfo())
		w.Ship("v2")
		untilWeight(t, w, at)
		w.Ship("v3")
		w.Run(0)
		if w.routed.CanaryWeight != 0 {
			t.Errorf("v3 starts with weight %d", w.routed.CanaryWeight)
		}
		w.Ship("v4")
		rest(t, w, succeeded)
		serves(t, w, "v4")
		if w.judged["v4"] < 5 {
			t.Errorf("v4 was judged %d times", w.judged["v4"])
		}
		sound(t, w)
	}
}

func TestIncidentB5_RollbackWaitsForAPrimaryWithPods(t *testing.T) {
	w := ready(t, podinfo(threshold(1)), func(o *Options) {
		o.Metrics = func(w *World, template string) analysis.Verdict {
			if w.Status().CanaryWeight == 50 {
				return badSuccessRate(template)(w, template)
			}
			return analysis.Verdict{Outcome: analysis.Pass}
		}
	})
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.Break("v1", true)
	w.Run(30 * time.Minute)
	if w.routed.CanaryWeight != 50 || w.target.replicas == 0 {
		t.Errorf("weight %d, %d replicas of the target, and the primary has no pod", w.routed.CanaryWeight, w.target.replicas)
	}
	w.Break("v1", false)
	rest(t, w, failed)
	serves(t, w, "v1")
	sound(t, w)
}

// To stay on a bad version until the primary has grown would serve errors for longer.
func TestIncidentB5_BadCanaryIsLeftWhateverIsLeftOfThePrimary(t *testing.T) {
	bad := false
	w := ready(t, podinfo(threshold(1), func(s *v1beta1.CanarySpec) { s.Analysis.MaxWeight = 90 }),
		func(o *Options) { o.Replicas = 10 }, badWhile(&bad))
	w.Ship("v2")
	untilWeight(t, w, 80)
	w.primary.scale(w.now, 1)
	bad = true
	until(t, w, "all traffic on the primary", 70*time.Second, func() bool { return w.routed.CanaryWeight == 0 })
	rest(t, w, failed)
	serves(t, w, "v1")
	sound(t, w)
}

func TestIncidentB6_TargetKeepsItsPodsUntilTrafficIsElsewhere(t *testing.T) {
	for n := 1; n < 10; n++ {
		w := world(podinfo())
		w.FailAt(n)
		w.KillAfter(n + 1)
		rest(t, w, initialized)
		sound(t, w)
	}
}

func TestIncidentB10_SucceededMeansServing(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){
		"maxWeight no multiple of stepWeight": func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight, s.Analysis.MaxWeight = 20, 50 },
		"step beyond 100":                     func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight, s.Analysis.MaxWeight = 70, 100 },
		"no maxWeight":                        func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight, s.Analysis.MaxWeight = 30, 0 },
	} {
		w := ready(t, podinfo(edit))
		w.Ship("v2")
		rest(t, w, succeeded)
		serves(t, w, "v2")
		if t.Failed() {
			t.Log(name)
		}
		sound(t, w)
	}
	w := ready(t, podinfo())
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.primary.scale(w.now, 0)
	w.Run(5 * time.Minute)
	if w.Status().Phase != promoting || w.routed.CanaryWeight == 0 {
		t.Errorf("phase %s weight %d with no primary pod wanted", w.Status().Phase, w.routed.CanaryWeight)
	}
}

func TestIncidentB11_NewerRevisionLeadsOutOfEveryPhase(t *testing.T) {
	everyPhase(t, nil, func(t *testing.T, w *World, _ v1beta1.CanaryPhase) {
		w.Ship("v3")
		rest(t, w, succeeded)
		serves(t, w, "v3")
	})
}

func TestIncidentB12_DeadlineIsThatOfTheRevision(t *testing.T) {
	bad := Behavior{Broken: true}
	w := ready(t, podinfo(), func(o *Options) { o.Behaviors["v2"], o.Behaviors["v3"] = bad, bad })
	w.Ship("v2")
	w.Run(9 * time.Minute)
	w.Ship("v3")
	w.Run(5 * time.Minute)
	if w.Status().Phase != progressing {
		t.Errorf("phase %s: v3 was judged by the clock of v2", w.Status().Phase)
	}
	rest(t, w, failed)
	if w.Now() > 21*time.Minute {
		t.Errorf("the second bad revision ended at %s", w.Now())
	}
	sound(t, w)
}

func TestIncidentB13_DriftIsRepairedToTheStep(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	for _, step := range []int32{10, 20, 30, 40, 50} {
		untilWeight(t, w, step)
		w.Run(0)
		for _, wrong := range []int32{0, 100} {
			w.DriftRoutes(wrong)
			w.Run(0)
			if w.routed.CanaryWeight != step || w.Status().CanaryWeight != step {
				t.Errorf("step %d: routed %d after somebody set %d", step, w.routed.CanaryWeight, wrong)
			}
		}
	}
	rest(t, w, succeeded)
	if got := count(w.Events, "Advance"); got != 5 {
		t.Errorf("%d steps", got)
	}
	sound(t, w)
}

// Another controller undoes every write of the routes: the status must not grow, move or be written for that.
func TestIncidentB14_FightOverRoutesWritesNoStatus(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilWeight(t, w, 20)
	w.Run(0)
	version := w.statuses
	for range 200 {
		w.routed.CanaryWeight = 0
		w.Pass()
	}
	if w.statuses-version > 1 {
		t.Errorf("%d status writes in 200 rounds", w.statuses-version)
	}
}

func TestIncidentB18_HooksRunOncePerCheck(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.PreRolloutHook, v1beta1.RolloutHook, v1beta1.ConfirmTrafficIncreaseHook)),
		closedGate(v1beta1.ConfirmTrafficIncreaseHook, &open))
	w.Ship("v2")
	w.Run(30 * time.Minute)
	if got := len(asked(w, v1beta1.PreRolloutHook)); got != 1 {
		t.Errorf("pre-rollout hook called %d times while a gate waits", got)
	}
	open = true
	rest(t, w, succeeded)
	keys := map[string]int{}
	for _, n := range asked(w, v1beta1.RolloutHook) {
		keys[n.Key]++
	}
	for key, n := range keys {
		if n > 1 {
			t.Errorf("%d checks share the key %s", n, key)
		}
	}
}

func TestIncidentB19_CommandsAreObeyed(t *testing.T) {
	for _, at := range []int32{10, 40} {
		w := ready(t, podinfo(withHook(v1beta1.ConfirmPromotionHook)), func(o *Options) {
			o.Metrics = badSuccessRate("v2")
			o.Hooks = func(*World, v1beta1.HookType, string) rollout.HookResult { return rollout.HookResult{} }
		})
		w.opts.Metrics = nil
		w.Ship("v2")
		untilWeight(t, w, at)
		w.Edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })
		skipped := w.now
		untilPhase(t, w, finalising)
		if took := w.now.Sub(skipped); took > 10*time.Second {
			t.Errorf("skipped only after %s", took)
		}
		rest(t, w, succeeded)
		serves(t, w, "v2")
		sound(t, w)
	}
}

func TestIncidentB20_EveryEndIsAlertedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Options)
		want v1beta1.CanaryPhase
	}{
		"succeeded": {func(*Options) {}, succeeded},
		"threshold": {func(o *Options) { o.Metrics = badSuccessRate("v2") }, failed},
		"deadline":  {func(o *Options) { o.Behaviors["v2"] = Behavior{Broken: true} }, failed},
	} {
		w := ready(t, podinfo(threshold(2)), c.edit)
		w.Ship("v2")
		untilPhase(t, w, progressing)
		w.Pass()
		seen := len(w.Events)
		rest(t, w, c.want)
		alerts := 0
		for _, e := range w.Events[seen:] {
			if e.Alert != "" && !strings.Contains(e.Alert, "New revision") {
				alerts++
			}
		}
		if alerts != 1 {
			t.Errorf("%s: %d alerts\n%s", name, alerts, trace(w))
		}
	}
}

// A run that its author takes back ends as well, and so does the wait for an approval.
func TestIncidentB20_CancelIsAlertedOnce(t *testing.T) {
	ends := func(w *World, text string) (n int) {
		for _, e := range w.Events {
			if strings.Contains(e.Alert, text) {
				n++
			}
		}
		return n
	}
	w := ready(t, podinfo())
	w.Ship("v2")
	untilWeight(t, w, 20)
	w.Ship("v1")
	w.KillAfter(4)
	rest(t, w, succeeded)
	if n := ends(w, "info: Canary analysis was canceled, podinfo.default is back at the promoted revision."); n != 1 {
		t.Errorf("alerted %d times\n%s", n, trace(w))
	}
	open := false
	w = ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook)), closedGate(v1beta1.ConfirmRolloutHook, &open))
	w.Ship("v2")
	untilPhase(t, w, waiting)
	w.Ship("v1")
	rest(t, w, succeeded)
	if n := ends(w, "info: Change of podinfo.default was taken back, no approval is needed."); n != 1 {
		t.Errorf("alerted %d times\n%s", n, trace(w))
	}
	sound(t, w)
}

// A Canary at rest whose primary dies says so once, costs nothing while that lasts, and says when it is over.
func TestIncidentB20_PrimaryThatDiesAtRestIsTold(t *testing.T) {
	w := ready(t, podinfo())
	w.Run(time.Hour)
	healthy := func() bool { return condition(w, v1beta1.HealthyType) == "Healthy" }
	before := w.statuses
	w.primary.patient = true
	w.Break("v1", true)
	w.Run(time.Minute)
	if got := condition(w, v1beta1.HealthyType); got != "PrimaryNotReady" {
		t.Fatalf("healthy: %s", got)
	}
	for range 100 {
		w.now = w.now.Add(time.Minute)
		w.Pass()
	}
	if n := w.statuses - before; n > 2 || !w.wake.IsZero() {
		t.Errorf("%d writes, wake at %s", n, w.wake)
	}
	w.Break("v1", false)
	w.Run(2 * time.Second)
	if !healthy() {
		t.Errorf("healthy: %s", condition(w, v1beta1.HealthyType))
	}
	before, told := w.statuses, len(w.Events)
	for range 100 {
		w.primary.lose(w.now.Add(2 * time.Second))
		w.Run(4 * time.Second)
	}
	w.Run(time.Hour)
	if n := w.statuses - before; n > 30 || !healthy() || !w.wake.IsZero() {
		t.Errorf("%d writes for pods that came and went for 7 intervals, healthy %t, wake at %s", n, healthy(), w.wake)
	}
	if n := len(w.Events) - told; n > 8 {
		t.Errorf("told %d times in 7 intervals", n)
	}
	sound(t, w)
}

// A primary that somebody changed at rest is told once, and all is well again when that is undone or something is promoted.
func TestIncidentB20_ChangedPrimaryIsTold(t *testing.T) {
	for name, mend := range map[string]func(t *testing.T, w *World){
		"undone": func(t *testing.T, w *World) { w.EditPrimary("v2"); rest(t, w, succeeded) },
		"next revision": func(t *testing.T, w *World) {
			w.Ship("v3")
			rest(t, w, succeeded)
			serves(t, w, "v3")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo())
			w.Ship("v2")
			rest(t, w, succeeded)
			w.EditPrimary("hotfix")
			w.Run(24 * time.Hour)
			if got := condition(w, v1beta1.HealthyType); got != string(rollout.ReasonPrimaryChanged) {
				t.Errorf("healthy: %s", got)
			}
			if n := count(w.Events, "podinfo-primary.default is not what was promoted"); n != 1 {
				t.Errorf("told %d times", n)
			}
			mend(t, w)
			if got := condition(w, v1beta1.HealthyType); got != "Healthy" {
				t.Errorf("healthy: %s", got)
			}
			sound(t, w)
		})
	}
}

// Without its record nobody knows whether a primary was changed. That is no reason to say so.
func TestIncidentB20_PrimaryWithoutARecordIsNotCalledChanged(t *testing.T) {
	w := ready(t, podinfo(threshold(1)), func(o *Options) { o.Metrics = badSuccessRate("v2") })
	w.StripPrimary()
	w.Ship("v2")
	rest(t, w, failed)
	w.Run(time.Hour)
	if got := condition(w, v1beta1.HealthyType); got != "Healthy" {
		t.Errorf("healthy: %s", got)
	}
	sound(t, w)
}

// With the target at the promoted revision it is known all the same.
func TestIncidentB20_ChangedPrimaryWithoutARecordIsTold(t *testing.T) {
	w := ready(t, podinfo())
	w.StripPrimary()
	w.EditPrimary("hotfix")
	w.Run(time.Hour)
	if got := condition(w, v1beta1.HealthyType); got != string(rollout.ReasonPrimaryChanged) || w.primary.template != "hotfix" {
		t.Errorf("primary runs %s, healthy: %s", w.primary.template, got)
	}
	w.Ship("v2")
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}

// recover makes all pods of a workload ready.
func (d *deployment) recover(now time.Time) {
	for i := range d.pods {
		d.pods[i].never, d.pods[i].readyAt = false, now
	}
}

// lose takes all pods of a workload away until a time.
func (d *deployment) lose(until time.Time) {
	for i := range d.pods {
		d.pods[i].readyAt = until
	}
}

func TestIncidentB24_UnprovenRevisionNeverBecomesTheBase(t *testing.T) {
	everyPhase(t, nil, func(t *testing.T, w *World, phase v1beta1.CanaryPhase) {
		if phase == promoting || phase == finalising {
			// v2 has passed its analysis.
			return
		}
		w.DeletePrimary()
		w.Run(10 * time.Second)
		if w.primary.template != "v1" || w.primary.available(w.now) != 2 {
			t.Errorf("rebuilt as %s with %d pods", w.primary.template, w.primary.available(w.now))
		}
	})
}

func TestB04_ChecksumNamesTheRevisionThatAsks(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook)), closedGate(v1beta1.ConfirmRolloutHook, &open))
	w.Ship("v2")
	untilPhase(t, w, waiting)
	w.Run(90 * time.Second)
	w.Ship("v3")
	w.Run(90 * time.Second)
	keys := map[string]string{}
	for _, n := range asked(w, v1beta1.ConfirmRolloutHook) {
		keys[n.Revision] = n.Key
	}
	if len(keys) != 2 || keys["v2"] == "" || keys["v3"] == "" {
		t.Fatalf("asked about %v", keys)
	}
	if keys["v2"] == keys["v3"] {
		t.Errorf("an answer for v2 can be taken for one for v3: both have the key %s", keys["v2"])
	}
}

// Each check of a rollout that waits for its promotion is a check of its own; only a repetition after a crash is the same.
func TestIncidentB18_ChecksOfAWaitingRolloutHaveTheirOwnKeys(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.RolloutHook, v1beta1.ConfirmPromotionHook)), closedGate(v1beta1.ConfirmPromotionHook, &open))
	w.Ship("v2")
	untilPhase(t, w, waitingPromotion)
	before := len(asked(w, v1beta1.RolloutHook))
	w.Run(10 * time.Minute)
	keys := map[string]bool{}
	calls := asked(w, v1beta1.RolloutHook)[before:]
	for _, n := range calls {
		keys[n.Key] = true
	}
	if len(calls) < 9 || len(keys) != len(calls) {
		t.Errorf("%d checks with %d keys", len(calls), len(keys))
	}
}

func TestIncidentB18_RepetitionAfterACrashHasTheSameKey(t *testing.T) {
	w := ready(t, podinfo(withHook(v1beta1.RolloutHook)))
	w.Ship("v2")
	untilWeight(t, w, 20)
	until(t, w, "check", time.Hour, func() bool {
		due := w.Status().Rollout.NextCheckAt
		return due != nil && !w.now.Before(due.Time)
	})
	w.Pass()
	w.Kill()
	w.Pass()
	calls := asked(w, v1beta1.RolloutHook)
	if n := len(calls); n < 2 || calls[n-1].Key != calls[n-2].Key {
		t.Errorf("calls %v", calls)
	}
}

// A receiver that repeats its answer to a key it knows must not repeat what it said before the change was withdrawn.
func TestIncidentB18_ChangeThatComesAgainIsANewQuestion(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook)), closedGate(v1beta1.ConfirmRolloutHook, &open))
	for _, v := range []string{"v2", "v1", "v2"} {
		w.Ship(v)
		w.Run(10 * time.Second)
	}
	calls := asked(w, v1beta1.ConfirmRolloutHook)
	if len(calls) != 2 || calls[0].Key == calls[1].Key {
		t.Errorf("calls %v", calls)
	}
}

func TestIncidentB18_GateIsAskedAgainWithTheSameKeyAfterACrash(t *testing.T) {
	open := false
	w := ready(t, podinfo(withHook(v1beta1.ConfirmRolloutHook)), closedGate(v1beta1.ConfirmRolloutHook, &open))
	w.Ship("v2")
	w.Pass()
	w.Kill()
	w.Pass()
	calls := asked(w, v1beta1.ConfirmRolloutHook)
	if len(calls) != 2 || calls[0].Key != calls[1].Key {
		t.Errorf("calls %v", calls)
	}
}

func TestIncidentB3_DeadCanaryGetsNoTraffic(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){
		"weights":  func(*v1beta1.CanarySpec) {},
		"in steps": func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 20 },
		"A/B":      func(s *v1beta1.CanarySpec) { blueGreen(3)(s); s.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
	} {
		for _, phase := range []v1beta1.CanaryPhase{progressing, promoting} {
			w := ready(t, podinfo(edit), func(o *Options) { o.Behaviors["v2"] = Behavior{Startup: 20 * time.Second} })
			w.Ship("v2")
			until(t, w, "traffic", time.Hour, func() bool { return w.routed.CanaryWeight > 0 && w.Status().Phase == phase })
			w.Run(time.Second)
			for i := range w.target.pods {
				w.target.pods[i].never = true
			}
			w.Run(time.Second)
			if w.routed.CanaryWeight != 0 && w.primary.available(w.now) > 0 {
				t.Errorf("%s, %s: weight %d on a canary without pods", name, w.Status().Phase, w.routed.CanaryWeight)
			}
			sound(t, w)
		}
	}
}

// Somebody moves the traffic to the canary, and the primary is gone when it is to be moved back.
func TestIncidentB3_DriftIsRepairedOnceThePrimaryHasPods(t *testing.T) {
	for name, play := range map[string]struct {
		before func(t *testing.T, w *World)
		step   int32
		end    v1beta1.CanaryPhase
	}{
		"at rest": {func(_ *testing.T, w *World) {
			w.target.scale(w.now, 2)
			w.settleCluster()
			w.Run(10 * time.Second)
		}, 0, initialized},
		"under way": {func(t *testing.T, w *World) {
			w.Ship("v2")
			untilWeight(t, w, 20)
		}, 20, succeeded},
	} {
		w := ready(t, podinfo())
		play.before(t, w)
		w.DriftRoutes(80)
		w.DeletePrimary()
		w.Run(time.Second / 2)
		if w.routed.CanaryWeight != 80 || w.primary.available(w.now) != 0 {
			t.Errorf("%s: canary weight %d while the primary has %d pods", name, w.routed.CanaryWeight, w.primary.available(w.now))
		}
		w.Run(time.Second)
		if w.routed.CanaryWeight != play.step || w.primary.available(w.now) == 0 {
			t.Errorf("%s: canary weight %d while the primary has %d pods", name, w.routed.CanaryWeight, w.primary.available(w.now))
		}
		rest(t, w, play.end)
		sound(t, w)
	}
}

// A revision that arrives while its predecessor is promoted has passed no check yet.
func TestIncidentB4_RevisionDuringPromotionGetsNoTraffic(t *testing.T) {
	w := ready(t, podinfo(), func(o *Options) { o.Behaviors["v2"] = Behavior{Startup: 2 * time.Minute} })
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.Run(time.Second)
	w.Ship("v3")
	w.Run(10 * time.Second)
	if w.routed.CanaryWeight != 0 && w.primary.available(w.now) > 0 {
		t.Errorf("phase %s: v3 gets %d %% of the traffic without a check", w.Status().Phase, w.routed.CanaryWeight)
	}
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}

// The side that serves after a failed promotion loses its pods while the primary has got some.
func TestIncidentB1_ServingCanaryThatDiesHandsOver(t *testing.T) {
	for _, phase := range []v1beta1.CanaryPhase{failed, progressing} {
		w := ready(t, podinfo())
		w.Ship("v2")
		untilPhase(t, w, progressing)
		w.breakPrimary()
		rest(t, w, failed)
		w.mendPrimary()
		w.primary.recover(w.now)
		w.settleCluster()
		w.Run(time.Minute)
		if phase == progressing {
			w.Ship("v3")
			w.Run(time.Millisecond)
		}
		for i := range w.target.pods {
			w.target.pods[i].never = true
		}
		w.Run(time.Minute)
		if w.routed.CanaryWeight != 0 {
			t.Errorf("%s: weight %d on a canary with %d pods while the primary has %d", w.Status().Phase, w.routed.CanaryWeight,
				w.target.available(w.now), w.primary.available(w.now))
		}
		sound(t, w)
	}
}

// A canary that dies whenever it gets traffic comes to an end.
func TestIncidentB12_CanaryThatDiesUnderTrafficIsRolledBack(t *testing.T) {
	w := ready(t, podinfo(threshold(5)))
	w.Ship("v2")
	until(t, w, "end", 2*time.Hour, func() bool {
		if w.routed.CanaryWeight > 0 {
			for i := range w.target.pods {
				w.target.pods[i].readyAt = w.now.Add(20 * time.Second)
			}
		}
		return w.Status().Phase == failed
	})
	sound(t, w)
}

// The primary comes up, gets the traffic and dies of it, while the canary still has its pods.
func TestIncidentB1_PrimaryThatDiesOfTheTrafficHandsBack(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilPhase(t, w, finalising)
	w.Run(time.Second)
	for i := range w.primary.pods {
		w.primary.pods[i].never = true
	}
	w.Run(time.Second)
	if w.routed.CanaryWeight != 100 || w.target.available(w.now) == 0 {
		t.Errorf("phase %s: weight %d, the canary has %d pods and the primary none", w.Status().Phase, w.routed.CanaryWeight,
			w.target.available(w.now))
	}
	w.Ship("v3")
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}

// The same, with a primary that cannot be mended but by the newer revision.
func TestIncidentB11_NewerRevisionMendsABrokenPrimaryInEveryPhase(t *testing.T) {
	everyPhase(t, nil, func(t *testing.T, w *World, _ v1beta1.CanaryPhase) {
		for i := range w.primary.pods {
			w.primary.pods[i].never = true
		}
		w.Break("v1", true)
		for i := range w.primary.pods {
			w.primary.pods[i].never = true
		}
		w.Ship("v3")
		rest(t, w, succeeded)
		serves(t, w, "v3")
	})
}

// A canary that gets traffic is judged even when its analysis was edited to have no next step.
func TestA22_CanaryWithoutANextStepIsStillJudged(t *testing.T) {
	bad := false
	w := ready(t, podinfo(threshold(2)), badWhile(&bad))
	w.Ship("v2")
	untilWeight(t, w, 20)
	w.Edit(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight = 0 })
	before := w.judged["v2"]
	w.Run(10 * time.Minute)
	if got := w.judged["v2"] - before; got != 10 {
		t.Errorf("judged %d times in 10 intervals", got)
	}
	bad = true
	rest(t, w, failed)
	sound(t, w)
}

func TestB19_ConditionSaysWhetherTheTargetRuns(t *testing.T) {
	for _, p := range []rollout.ProviderFact{mesh(), noMesh()} {
		w := ready(t, podinfo(blueGreen(2)), provider(p))
		w.Ship("v2")
		untilPhase(t, w, progressing)
		w.breakPrimary()
		rest(t, w, failed)
		if m := message(w, v1beta1.PromotedType); w.target.replicas > 0 && strings.Contains(m, "scaled to zero") {
			t.Errorf("%s: %d pods run and the condition says %q", p.Name, w.target.replicas, m)
		}
	}
}

func TestB33_LostStatusTakesNothingAwayFromUsers(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	rest(t, w, succeeded)
	w.Ship("v3")
	untilWeight(t, w, 20)
	w.canary.Status = v1beta1.CanaryStatus{}
	untilPhase(t, w, initialized)
	if w.primary.template != "v2" || w.Status().Rollout.Promoted.Fingerprint != "v2" {
		t.Errorf("primary runs %s, status claims %s", w.primary.template, w.Status().Rollout.Promoted.Fingerprint)
	}
	rest(t, w, succeeded)
	serves(t, w, "v3")
	if got := count(w.Events, "Promotion completed!"); got != 2 {
		t.Errorf("%d promotions were told, want 2: one before and one after the loss", got)
	}
	sound(t, w)
}

// The status was lost after a failed promotion: the canary serves, and the primary never gets ready by itself.
func TestB33_LostStatusWithABrokenPrimaryHasAnExit(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilWeight(t, w, 50)
	w.breakPrimary()
	w.Break("v1", true)
	rest(t, w, failed)
	w.canary.Status = v1beta1.CanaryStatus{}
	w.Run(time.Hour)
	w.mendPrimary()
	w.Ship("v3")
	w.Run(2 * time.Hour)
	serves(t, w, "v3")
	sound(t, w)
}

// An operator that was away for longer than the deadline fails nothing that it has not begun.
func TestIncidentB12_AbsenceOfTheOperatorFailsNothing(t *testing.T) {
	for name, phase := range map[string]v1beta1.CanaryPhase{"scale up": progressing, "copy": promoting} {
		w := ready(t, podinfo())
		w.Ship("v2")
		until(t, w, name, time.Hour, func() bool {
			w.refuse = func(rollout.Action) bool { return w.Status().Phase == phase }
			return w.Status().Phase == phase
		})
		w.refuse = nil
		w.now = w.now.Add(time.Hour)
		w.settleCluster()
		rest(t, w, succeeded)
		serves(t, w, "v2")
		sound(t, w)
	}
}

// A primary that is a pod short, but never reported stuck, holds the analysis no longer than its deadline.
func TestIncidentB11_PrimaryThatIsOnePodShortHoldsNothingForEver(t *testing.T) {
	w := ready(t, podinfo())
	w.primary.replicas = 3
	w.primary.pods = append(w.primary.pods, pod{template: "v1", readyAt: w.now.Add(1000 * time.Hour)})
	w.primary.patient = true
	w.Ship("v2")
	w.Run(2 * time.Hour)
	if w.Status().CanaryWeight == 0 && w.Status().Phase == progressing {
		t.Errorf("after two hours the analysis has not begun: %s", message(w, v1beta1.HealthyType))
	}
}

func TestIncidentB12_FailedReadDoesNotRestartTheDeadline(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilWeight(t, w, 20)
	w.target.pods[0].never = true
	w.target.patient = true
	for range 4 {
		w.Run(4 * time.Minute)
		w.SetProblem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true})
		w.Run(time.Second)
		w.SetProblem(nil)
	}
	if w.Status().Phase != failed {
		t.Errorf("phase %s: not ready for 16 minutes with a deadline of 10", w.Status().Phase)
	}
}
