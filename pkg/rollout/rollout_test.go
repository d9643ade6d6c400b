package rollout

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func rev(name string, generation int64) Revision {
	return Revision{Fingerprint: "v2:" + name, UID: "uid", Generation: generation, Counter: name, FlaggerHash: "flagger" + name}
}

type edit func(*Facts)

// facts describe a Canary at rest in phase, whose target and primary are ready with revision 1.
func facts(phase v1beta1.CanaryPhase, edits ...edit) Facts {
	c := &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test", UID: "canary"},
		Spec: v1beta1.CanarySpec{
			TargetRef: v1beta1.LocalObjectReference{Kind: "Deployment", Name: "podinfo"},
			Analysis:  &v1beta1.CanaryAnalysis{Interval: "30s", Threshold: 2, StepWeight: 10, MaxWeight: 30},
		},
		Status: v1beta1.CanaryStatus{Phase: phase, Rollout: &v1beta1.RolloutStatus{
			TargetRef: &v1beta1.LocalObjectReference{Kind: "Deployment", Name: "podinfo"},
			Target:    refTo(rev("1", 1)), Promoted: refTo(rev("1", 1)), StageStartedAt: micro(now.Add(-time.Minute)),
			Routing: []v1beta1.RoutingRef{{Service: "podinfo", Provider: "istio"}},
		}},
	}
	f := Facts{
		Now: now, Canary: c,
		Settings: Settings{MinInterval: 10 * time.Second, PropagationDelay: 3 * time.Second},
		Provider: ProviderFact{Name: "istio", Weights: true, Routes: true, Mirror: true, MirrorWeight: true, Match: true, SessionAffinity: true,
			PrimaryCookie: true},
		Target: Workload{Exists: true, Name: "podinfo", Kind: "Deployment", Revision: rev("1", 1), Replicas: 2, Available: 2,
			Health: Health{State: Ready}},
		Primary: Workload{Exists: true, Name: "podinfo-primary", Kind: "Deployment", Replicas: 2, Available: 2, Copy: "v2:1",
			Health: Health{State: Ready}},
		Services: ServicesFact{BackendsInPlace: true, ApexInPlace: true},
		Routes:   RoutesFact{Known: true, InPlace: true, Settled: true},
		Checks:   Checks{Hooks: map[v1beta1.HookType][]HookResult{}},
	}
	for _, e := range edits {
		e(&f)
	}
	if r := c.Status.Rollout; r != nil && r.Target != nil && r.Promoted != nil {
		c.Status.LastAppliedSpec, c.Status.LastPromotedSpec = r.Target.FlaggerHash, r.Promoted.FlaggerHash
	}
	return f
}

func spec(change func(*v1beta1.CanarySpec)) edit { return func(f *Facts) { change(&f.Canary.Spec) } }
func status(change func(*v1beta1.CanaryStatus)) edit {
	return func(f *Facts) { change(&f.Canary.Status) }
}
func stage(s string) edit { return func(f *Facts) { f.Canary.Status.Rollout.Stage = s } }

// running is a run of revision 2 in its analysis at the given weight.
func running(weight int32) edit {
	return func(f *Facts) {
		f.Canary.Status.CanaryWeight = weight
		f.Canary.Status.Rollout.Target = refTo(rev("2", 2))
		f.Canary.Status.Rollout.Stage, f.Canary.Status.Rollout.Audience = stageAnalysis, v1beta1.AudienceAll
		f.Target.Revision = rev("2", 2)
		f.Routes.CanaryWeight = weight
	}
}

func targetRuns(name string, generation int64) edit {
	return func(f *Facts) { f.Target.Revision = rev(name, generation) }
}

func health(reason ProblemReason, message string, since time.Time) edit {
	return status(func(s *v1beta1.CanaryStatus) {
		s.Conditions = append(s.Conditions, v1beta1.CanaryCondition{Type: v1beta1.HealthyType, Status: corev1.ConditionFalse,
			Reason: string(reason), Message: message, LastTransitionTime: metav1.NewTime(since)})
	})
}

// refusedFor is a change that the rollout needs and that has been refused for some time.
func refusedFor(d time.Duration) edit {
	return func(f *Facts) {
		f.ApplyError = "denied"
		stage := clockAnalysis
		if f.Canary.Status.Phase == promotingTo {
			stage = clockPromotion
		}
		clocks(v1beta1.UnreadySince{Stage: stage, Change: micro(now.Add(-d))})(f)
	}
}

func clocks(c v1beta1.UnreadySince) edit {
	return func(f *Facts) { f.Canary.Status.Rollout.UnreadySince = &c }
}

// stopsSince is a target without pods, of which some are still counted, in a stage that began some time ago.
func stopsSince(d time.Duration) edit {
	return func(f *Facts) {
		unready(&f.Target, Waiting, 0)
		f.Target.Replicas, f.Target.Stopping = 0, true
		f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-d))
	}
}

// found is a primary that was first seen ready so many seconds ago, while that is waited for.
func found(ago int) edit {
	return func(f *Facts) {
		f.Canary.Status.Rollout.PrimaryReadySince = micro(now.Add(-time.Duration(ago) * time.Second))
	}
}

func unready(w *Workload, state HealthState, available int32) {
	w.Health = Health{State: state, Reason: "waiting for rollout to finish: 0 out of 2 new replicas have been updated"}
	w.Available = available
}

func hook(t v1beta1.HookType) edit {
	return spec(func(s *v1beta1.CanarySpec) {
		s.Analysis.Webhooks = append(s.Analysis.Webhooks, v1beta1.CanaryWebhook{Name: "hook", Type: t, URL: "http://hook"})
	})
}

// rejected is a canary that failed its analysis while it was the only side to serve.
func rejected(f *Facts) {
	f.Canary.Status.Rollout.Stage, f.Canary.Status.Rollout.ServingSide, f.Canary.Status.CanaryWeight = stageRollback, v1beta1.ServingCanary, 100
	f.Routes.CanaryWeight = 100
	health(ReasonNoReadyCapacity, "x", now)(f)
}

func drainedLong(f *Facts) { f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute)) }

func answer(t v1beta1.HookType, passed bool) edit {
	return func(f *Facts) { f.Checks.Hooks[t] = []HookResult{{Name: "hook", Passed: passed, Text: "no"}} }
}

// want is what a decision must come to. Empty fields are not compared, but for actions.
type want struct {
	rule    string
	phase   v1beta1.CanaryPhase
	stage   string
	weight  int32
	actions []Action
	says    []string
	reason  ProblemReason
	needs   int
	wake    time.Time
}

// troubleIn is the reason why a Canary is not healthy, empty if it is.
func troubleIn(d Decision) ProblemReason {
	if h := condition(&d.Status, v1beta1.HealthyType); h != nil && h.Status != corev1.ConditionTrue {
		return ProblemReason(h.Reason)
	}
	return ""
}

func check(t *testing.T, d Decision, w want) {
	t.Helper()
	if d.Rule != w.rule {
		t.Errorf("rule %q, want %q", d.Rule, w.rule)
	}
	if len(d.Needs) != w.needs {
		t.Fatalf("needs %v, want %d", d.Needs, w.needs)
	}
	if w.needs > 0 {
		return
	}
	if w.phase != "" && d.Status.Phase != w.phase {
		t.Errorf("phase %q, want %q", d.Status.Phase, w.phase)
	}
	if r := d.Status.Rollout; w.stage != "" && (r == nil || r.Stage != w.stage) {
		t.Errorf("stage %+v, want %q", r, w.stage)
	}
	if d.Status.CanaryWeight != w.weight {
		t.Errorf("weight %d, want %d", d.Status.CanaryWeight, w.weight)
	}
	if !reflect.DeepEqual(d.Actions, w.actions) {
		t.Errorf("actions %#v, want %#v", d.Actions, w.actions)
	}
	var said []string
	if d.Status.Rollout != nil {
		for _, n := range d.Status.Rollout.Outbox {
			said = append(said, n.Message)
		}
	}
	if len(said) != len(w.says) {
		t.Errorf("said %q, want %q", said, w.says)
	}
	for i := range min(len(said), len(w.says)) {
		if !strings.Contains(said[i], w.says[i]) {
			t.Errorf("said %q, want %q", said[i], w.says[i])
		}
	}
	c := condition(&d.Status, v1beta1.HealthyType)
	if w.reason != "" && (c == nil || c.Reason != string(w.reason)) {
		t.Errorf("healthy %+v, want %s", c, w.reason)
	}
	if !w.wake.IsZero() && !d.Wake.Equal(w.wake) {
		t.Errorf("wake %s, want %s", d.Wake, w.wake)
	}
}

const (
	initialized = v1beta1.CanaryPhaseInitialized
	progressing = v1beta1.CanaryPhaseProgressing
	promotingTo = v1beta1.CanaryPhasePromoting
	finalisingP = v1beta1.CanaryPhaseFinalising
	succeeded   = v1beta1.CanaryPhaseSucceeded
	failed      = v1beta1.CanaryPhaseFailed
	waiting     = v1beta1.CanaryPhaseWaiting
)

func TestDecide(t *testing.T) {
	read := &Problem{Reason: ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true}
	invalid := &Problem{Reason: ReasonInvalidSpec, Message: "spec.analysis: set stepWeight"}
	gone := &Problem{Reason: ReasonTargetNotFound, Message: "spec.targetRef: no Deployment podinfo"}
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"a new Canary that is suspended is seen": {facts("", spec(func(s *v1beta1.CanarySpec) { s.Suspend = true }), status(func(s *v1beta1.CanaryStatus) { s.Rollout = nil })),
			want{rule: "suspended", phase: v1beta1.CanaryPhaseInitializing, reason: ReasonSuspended, says: []string{"skipping canary run as object is suspended"}}},
		"deletion stops the loop (A-23)": {
			facts(progressing, running(10), func(f *Facts) { f.Canary.DeletionTimestamp = &metav1.Time{Time: now} }),
			want{rule: "terminating", phase: progressing, weight: 10}},
		"a failed read of a new Canary starts nothing": {
			facts("", func(f *Facts) { f.Canary.Status = v1beta1.CanaryStatus{}; f.Problem = read }),
			want{rule: "blocked", says: []string{"leader changed"}, reason: ReasonReadFailed}},
		"a bad spec is told at once": {
			facts("", func(f *Facts) { f.Canary.Status = v1beta1.CanaryStatus{}; f.Problem = gone }),
			want{rule: "blocked", phase: v1beta1.CanaryPhaseInitializing, says: []string{"spec.targetRef"}, reason: ReasonTargetNotFound}},
		"a target that vanishes under way gets no traffic": {
			facts(progressing, running(10), func(f *Facts) { f.Problem = gone; f.Target = Workload{} }),
			want{rule: "target-gone", actions: []Action{EnsureRoutes{}}, says: []string{"spec.targetRef"}}},
		"nor does it get copies of requests": {
			facts(progressing, running(0), func(f *Facts) { f.Problem, f.Target, f.Canary.Status.Rollout.Mirror = gone, Workload{}, true }),
			want{rule: "target-gone", actions: []Action{EnsureRoutes{}}, says: []string{"spec.targetRef"}}},
		"nor what a cookie binds to it": {
			facts(progressing, running(0), func(f *Facts) { f.Problem, f.Target, f.Canary.Status.SessionAffinityCookie = gone, Workload{}, "c=1" }),
			want{rule: "target-gone", actions: []Action{EnsureRoutes{}}, says: []string{"spec.targetRef"}}},
		"routes that were not written are written again": {
			facts(progressing, running(0), func(f *Facts) { f.Problem, f.Target, f.Routes.CanaryWeight = gone, Workload{}, 10 }),
			want{rule: "target-gone", actions: []Action{EnsureRoutes{}}, says: []string{"spec.targetRef"}}},
		"once nothing leads to it nothing is done": {
			facts(progressing, running(0), func(f *Facts) { f.Problem, f.Target = gone, Workload{} }),
			want{rule: "blocked", says: []string{"spec.targetRef"}}},
		"a fault in the spec keeps traffic on a canary that serves": {
			facts(progressing, running(10), func(f *Facts) { f.Problem = invalid }),
			want{rule: "blocked", weight: 10, says: []string{"spec.analysis"}, reason: ReasonInvalidSpec}},
		"but not on one without pods": {
			facts(progressing, running(10), func(f *Facts) { f.Problem = invalid; unready(&f.Target, Waiting, 0) }),
			want{rule: "blocked", actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary", "spec.analysis"}, reason: ReasonInvalidSpec}},
		"nor copies of requests": {
			facts(progressing, running(0), func(f *Facts) {
				f.Problem, f.Canary.Status.Rollout.Mirror, f.Routes.Mirror = invalid, true, true
				unready(&f.Target, Waiting, 0)
			}),
			want{rule: "blocked", actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary", "spec.analysis"}}},
		"and is written until it is so": {
			facts(progressing, running(0), func(f *Facts) { f.Problem, f.Routes.CanaryWeight = invalid, 10; unready(&f.Target, Waiting, 0) }),
			want{rule: "blocked", actions: []Action{EnsureRoutes{}}, says: []string{"spec.analysis"}}},
		"nor is written when the primary Service leads to other pods": {
			facts(progressing, running(0), func(f *Facts) { f.Problem, f.Routes.CanaryWeight, f.Services.PrimaryUnfound = invalid, 10, true }),
			want{rule: "blocked", says: []string{"spec.analysis"}}},
		"and a canary that its Service does not find gets nothing": {
			facts(progressing, running(10), func(f *Facts) { f.Problem, f.Services.CanaryUnfound = invalid, true }),
			want{rule: "blocked", actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary", "spec.analysis"}, reason: ReasonInvalidSpec}},
		"whose pods stay for what they were sent before": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) {
				f.Problem, f.Services.CanaryUnfound = invalid, true
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-10 * time.Second))
			}),
			want{rule: "blocked", stage: stageRollback, wake: now.Add(20 * time.Second), says: []string{"spec.analysis"}, reason: ReasonInvalidSpec}},
		"a primary without pods gets nothing for a fault in the spec": {
			facts(progressing, running(10), func(f *Facts) {
				f.Problem = invalid
				unready(&f.Target, Waiting, 0)
				unready(&f.Primary, Waiting, 0)
			}),
			want{rule: "blocked", weight: 10, says: []string{"spec.analysis"}}},
		"routes that can't be read are not claimed to have changed": {
			facts(progressing, running(10), func(f *Facts) { f.Problem, f.Routes = invalid, RoutesFact{}; unready(&f.Target, Waiting, 0) }),
			want{rule: "blocked", weight: 10, says: []string{"spec.analysis"}}},
		"a target that was not looked at is not dead": {
			facts(progressing, running(10), func(f *Facts) { f.Problem, f.Target = invalid, Workload{} }),
			want{rule: "blocked", weight: 10, says: []string{"spec.analysis"}}},
		"another Canary's routes are left alone": {
			facts(progressing, running(10), func(f *Facts) {
				f.Problem = &Problem{Reason: ReasonDuplicateTarget, Message: "spec.targetRef: taken"}
				unready(&f.Target, Waiting, 0)
			}),
			want{rule: "blocked", weight: 10, says: []string{"spec.targetRef"}}},
		"B3 copies of requests leave a canary without pods": {
			facts(progressing, running(0), func(f *Facts) { f.Canary.Status.Rollout.Mirror = true; unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary", "not ready"}}},
		"a settled Canary does nothing": {facts(succeeded), want{rule: "settled", phase: succeeded}},
		"drift is repaired to the current step": {
			facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(time.Second)) }),
				func(f *Facts) { f.Routes.InPlace, f.Routes.CanaryWeight = false, 0; f.Services = ServicesFact{} }),
			want{rule: "routes-not-settled", weight: 10, actions: []Action{EnsureBackendServices{}, EnsureApexService{}, EnsureRoutes{}}}},
		"drift is not repaired towards a side without pods": {
			facts(succeeded, func(f *Facts) {
				f.Routes.InPlace, f.Routes.CanaryWeight = false, 60
				unready(&f.Primary, Waiting, 0)
			}),
			want{rule: "settled", reason: ReasonNoReadyCapacity, says: []string{"no ready pods"}}},
		"B20 a primary without pods is told": {
			facts(succeeded, func(f *Facts) { unready(&f.Primary, Waiting, 0) }),
			want{rule: "settled", reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test has no ready pods"}}},
		"once": {
			facts(succeeded, health(ReasonPrimaryNotReady, "podinfo-primary.test has no ready pods: nobody answers the requests for podinfo.test", now),
				func(f *Facts) { unready(&f.Primary, Stuck, 0) }),
			want{rule: "settled", reason: ReasonPrimaryNotReady}},
		"one that lacks a pod is its own business": {
			facts(succeeded, health(ReasonHealthy, "", now), func(f *Facts) { unready(&f.Primary, Waiting, 1) }), want{rule: "settled", reason: ReasonHealthy}},
		"one that its autoscaler took to zero as well": {
			facts(succeeded, health(ReasonHealthy, "", now), spec(func(s *v1beta1.CanarySpec) { s.AutoscalerRef = &v1beta1.AutoscalerReference{} }),
				func(f *Facts) {
					unready(&f.Primary, Waiting, 0)
					f.Primary.Replicas, f.Scaler = 0, ScalerFact{Wanted: true, InPlace: true, AdmitsZero: true}
				}),
			want{rule: "settled", reason: ReasonHealthy}},
		"but not one whose autoscaler always wants pods": {
			facts(succeeded, health(ReasonHealthy, "", now), func(f *Facts) {
				unready(&f.Primary, Waiting, 0)
				f.Primary.Replicas, f.Scaler = 0, ScalerFact{Wanted: true, InPlace: true}
			}),
			want{rule: "settled", reason: ReasonPrimaryNotReady, says: []string{"has no ready pods"}}},
		"one that is back is healthy": {
			facts(succeeded, health(ReasonPrimaryNotReady, "x", now.Add(-time.Minute)),
				func(f *Facts) {
					condition(&f.Canary.Status, v1beta1.HealthyType).LastUpdateTime = metav1.NewTime(now.Add(-time.Minute))
				}),
			want{rule: "settled", reason: ReasonHealthy}},
		"one that comes and goes not before an interval has passed": {
			facts(succeeded, health(ReasonPrimaryNotReady, "x", now), func(f *Facts) {
				condition(&f.Canary.Status, v1beta1.HealthyType).LastUpdateTime = metav1.NewTime(now.Add(-10 * time.Second))
			}),
			want{rule: "settled", reason: ReasonPrimaryNotReady, wake: now.Add(20 * time.Second)}},
		"a Service is not led to a primary without pods": {
			facts(succeeded, func(f *Facts) { f.Services.ApexInPlace = false; unready(&f.Primary, Waiting, 0) }),
			want{rule: "settled", reason: ReasonNoReadyCapacity, says: []string{"the Service of podinfo.test stays as it is"}}},
		"unless the target has none either": {
			facts(succeeded, func(f *Facts) {
				f.Services.ApexInPlace = false
				unready(&f.Primary, Waiting, 0)
				unready(&f.Target, Waiting, 0)
			}),
			want{rule: "settled", actions: []Action{EnsureApexService{}}}},
		"a generation that did not change is no change": {
			facts(succeeded, func(f *Facts) {
				f.Target.Revision = Revision{Fingerprint: "v3:1", UID: "uid", Generation: 1, Counter: "9"}
			}),
			want{rule: "settled"}},
		"a counter that did not change is no change": {
			facts(succeeded, func(f *Facts) {
				f.Target.Revision = Revision{Fingerprint: "v3:1", UID: "uid", Generation: 9, Counter: "1"}
			}),
			want{rule: "settled"}},
		"an unread template is no change (B9)": {
			facts(succeeded, func(f *Facts) { f.Target.Revision = Revision{UID: "uid", Generation: 9} }), want{rule: "settled"}},
		"another workload of the same name is a change": {
			facts(succeeded, func(f *Facts) {
				f.Target.Revision = Revision{Fingerprint: "v2:2", UID: "other", Generation: 1, Counter: "1"}
			}),
			want{rule: "start", phase: progressing, says: []string{"New revision detected! Scaling up podinfo.test"}}},
		"a changed config is a change": {
			facts(initialized, func(f *Facts) { f.Target.Revision.Configs = map[string]string{"configmap/a": "1"} }),
			want{rule: "start", phase: progressing, says: []string{"New revision detected!"}}},
		"a target at zero is scaled up": {
			facts(succeeded, targetRuns("2", 2), func(f *Facts) { f.Target.Replicas = 0 }),
			want{rule: "start", phase: progressing, actions: []Action{ScaleTargetUp{}}, says: []string{"New revision detected!"}}},
		"C-09 but not while pods of before are counted, whose readiness would be taken for its own": {
			facts(succeeded, targetRuns("2", 2), func(f *Facts) { f.Target.Replicas, f.Target.Stopping = 0, true }),
			want{rule: "start", phase: progressing, says: []string{"New revision detected!"}}},
		"A-02 a broken primary does not stop its own fix": {
			facts(failed, targetRuns("2", 2), func(f *Facts) { unready(&f.Primary, Stuck, 0) }),
			want{rule: "start", phase: progressing, says: []string{"New revision detected!"}}},
		"back at the promoted revision nothing starts": {
			facts(failed, targetRuns("1", 3), status(func(s *v1beta1.CanaryStatus) { s.Rollout.Target = refTo(rev("2", 2)) })),
			want{rule: "reverted", phase: failed}},
		"A-21 after a failed promotion the old revision is a change": {
			facts(failed, targetRuns("1", 3), status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.Target, s.Rollout.ServingSide, s.CanaryWeight = refTo(rev("2", 2)), v1beta1.ServingCanary, 100
			}), func(f *Facts) { f.Primary.Copy = "v2:2"; f.Routes.CanaryWeight = 100; unready(&f.Primary, Stuck, 0) }),
			want{rule: "start", phase: progressing, weight: 100, says: []string{"New revision detected!"}}},
		"A-03 a primary that got ready takes the traffic back before the next revision starts": {
			facts(failed, targetRuns("3", 3), status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.Target, s.Rollout.ServingSide, s.CanaryWeight = refTo(rev("2", 2)), v1beta1.ServingCanary, 100
			}), func(f *Facts) { f.Primary.Copy = "v2:2"; f.Routes.CanaryWeight = 100 }),
			want{rule: "start", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"New revision detected!"}}},
		"but not one that runs nobody knows what": {
			facts(failed, targetRuns("3", 3), status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.Target, s.Rollout.ServingSide, s.CanaryWeight = refTo(rev("2", 2)), v1beta1.ServingCanary, 100
			}), func(f *Facts) { f.Primary.Copy = ""; f.Routes.CanaryWeight = 100 }),
			want{rule: "start", phase: progressing, weight: 100, says: []string{"New revision detected!"}}},
		"A-03 a rejected canary goes on serving": {
			facts(failed, rejected, func(f *Facts) { unready(&f.Primary, Stuck, 0) }),
			want{rule: "settled", phase: failed, weight: 100, reason: ReasonNoReadyCapacity}},
		"A-03 and is not healthy after a suspension, as long as the primary is not ready": {
			facts(failed, rejected, func(f *Facts) {
				condition(&f.Canary.Status, v1beta1.HealthyType).Reason = string(ReasonSuspended)
				unready(&f.Primary, Waiting, 0)
			}),
			want{rule: "settled", phase: failed, weight: 100, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready: "}}},
		"until the primary is ready": {
			facts(failed, rejected, found(3)),
			want{rule: "settled", phase: failed, actions: []Action{EnsureRoutes{}}, says: []string{"is ready again, routing all traffic to primary"}}},
		"B3 and the proxies have found it": {
			facts(failed, rejected), want{rule: "settled", phase: failed, stage: stageRollback, weight: 100, wake: now.Add(3 * time.Second)}},
		"then it is drained": {
			facts(failed, stage(stageRollback)), want{rule: "settled", phase: failed, stage: stageRollback, wake: now.Add(30 * time.Second)}},
		"and loses its pods": {
			facts(failed, stage(stageRollback), drainedLong), want{rule: "settled", phase: failed, stage: stageRollback, actions: []Action{ScaleTargetToZero{}}}},
		"a canary that serves after a failed promotion keeps its condition": {
			facts(failed, health(ReasonPromotionFailed, "x", now), status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.ServingSide, s.CanaryWeight = v1beta1.ServingCanary, 100
			}), func(f *Facts) { f.Routes.CanaryWeight = 100 }),
			want{rule: "settled", weight: 100, reason: ReasonPromotionFailed}},
		"a primary that is gone is made again from what it ran": {
			facts(succeeded, func(f *Facts) { f.Primary = Workload{Name: "podinfo-primary"} }),
			want{rule: "primary-missing", actions: []Action{EnsurePrimary{Revision: rev("1", 1)}}, reason: ReasonPrimaryNotReady, says: []string{"making it again"}}},
		"A-08 a primary that is gone is not made from another revision": {
			facts(failed, targetRuns("2", 2), func(f *Facts) { f.Primary = Workload{Name: "podinfo-primary"} }),
			want{rule: "primary-missing", actions: []Action{EnsurePrimary{Revision: rev("1", 1)}}, reason: ReasonPrimaryNotReady, says: []string{"making it again"}}},
		"a primary of a Canary that is gone is owned before all else": {
			facts(succeeded, func(f *Facts) { f.Primary.Orphaned, f.Services.ApexInPlace = true, false }),
			want{rule: "settled", actions: []Action{OwnPrimary{}, EnsureApexService{}}}},
		"a suspended Canary owns nothing anew": {
			facts(succeeded, func(f *Facts) { f.Primary.Orphaned = true }, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })),
			want{rule: "suspended", says: []string{"suspended"}}},
		"A-08 a primary that can't be made again says why": {
			facts(failed, func(f *Facts) { f.Primary, f.ApplyError = Workload{Name: "podinfo-primary"}, "the revision is lost" }),
			want{rule: "primary-missing", actions: []Action{EnsurePrimary{Revision: rev("1", 1)}}, reason: ReasonPrimaryNotReady,
				says: []string{"podinfo-primary.test is missing and can't be made again: the revision is lost"}}},
		"a bootstrap that is asked for again knows nothing of before": {
			facts("", targetRuns("2", 2), status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.ServingSide, s.CanaryWeight = v1beta1.ServingCanary, 100
			}), func(f *Facts) { f.Primary, f.Routes.CanaryWeight = Workload{Name: "podinfo-primary"}, 100 }),
			want{rule: "bootstrap", phase: v1beta1.CanaryPhaseInitializing, stage: stageCopying, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}}}},
		"a primary that is gone and was never known": {
			facts(failed, func(f *Facts) {
				f.Primary = Workload{Name: "podinfo-primary"}
				f.Canary.Status.Rollout.Promoted = &v1beta1.RevisionRef{Fingerprint: unknownRevision}
			}),
			want{rule: "primary-missing", reason: ReasonPrimaryNotReady, says: []string{"what it ran is not known"}}},
		"missing metric providers are asked for again": {
			facts(initialized, health(ReasonMetrics, "x", now)), want{rule: "settled", needs: 1}},
		"providers that are back clear the condition": {
			facts(initialized, health(ReasonMetrics, "x", now), func(f *Facts) { f.Checks.Providers = &ProvidersCheck{} }),
			want{rule: "settled", reason: ReasonHealthy, says: []string{"all the metrics providers are available!"}}},
		"providers that stay away are asked again": {
			facts(initialized, noPods, health(ReasonMetrics, "x", now), func(f *Facts) { f.Checks.Providers = &ProvidersCheck{Error: "down"} }),
			want{rule: "settled", reason: ReasonMetrics, says: []string{"Error checking metric providers: down"}, wake: now.Add(time.Minute)}},
		"in between they are left alone": {
			facts(initialized, health(ReasonMetrics, "x", now), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(time.Second)) })),
			want{rule: "settled", reason: ReasonMetrics, wake: now.Add(time.Second)}},
		"an action that failed is told": {
			facts(succeeded, func(f *Facts) { f.ApplyError = "services is forbidden" }),
			want{rule: "settled", reason: ReasonApplyFailed, says: []string{"services is forbidden"}}},

		"a gate asks before a start": {
			facts(succeeded, targetRuns("2", 2), hook(v1beta1.ConfirmRolloutHook)), want{rule: "confirm-rollout", needs: 1}},
		"a closed gate waits": {
			facts(succeeded, targetRuns("2", 2), hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, false)),
			want{rule: "confirm-rollout", phase: waiting, says: []string{"Halt podinfo.test advancement waiting for approval hook"},
				reason: ReasonWaitingForGate, wake: now.Add(30 * time.Second)}},
		"a gate is not asked again before its time": {
			facts(waiting, targetRuns("2", 2), hook(v1beta1.ConfirmRolloutHook), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(time.Second)) })),
			want{rule: "confirm-rollout", phase: waiting, wake: now.Add(time.Second)}},
		"B3 a canary that serves and dies during the wait loses its traffic": {
			facts(waiting, targetRuns("2", 2), hook(v1beta1.ConfirmRolloutHook), rejected, stage(""), func(f *Facts) {
				unready(&f.Target, Waiting, 0)
				f.Canary.Status.Rollout.NextCheckAt = micro(now.Add(time.Second))
			}),
			want{rule: "confirm-rollout", phase: waiting, actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary"}, wake: now.Add(time.Second)}},
		"and when it is found dead at a refusal": {
			facts(waiting, targetRuns("2", 2), hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, false), rejected, stage(""),
				func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "confirm-rollout", phase: waiting, actions: []Action{EnsureRoutes{}}, reason: ReasonWaitingForGate,
				says: []string{"routing all traffic to primary"}, wake: now.Add(30 * time.Second)}},
		"a waiting change that is withdrawn needs no approval": {
			facts(waiting, hook(v1beta1.ConfirmRolloutHook)),
			want{rule: "change-withdrawn", phase: succeeded, says: []string{"taken back"}}},
		"back to a revision that failed before": {
			facts(waiting, targetRuns("2", 2), status(func(s *v1beta1.CanaryStatus) { s.Rollout.Target = refTo(rev("2", 2)) })),
			want{rule: "change-withdrawn", phase: failed, says: []string{"taken back"}}},
		"B-03 a rollback hook is asked while waiting": {
			facts(waiting, targetRuns("2", 2), hook(v1beta1.RollbackHook)), want{rule: "waiting-rollback", needs: 1}},
		"B-03 a rollback hook ends the wait": {
			facts(waiting, targetRuns("2", 2), hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, true)),
			want{rule: "waiting-rollback", phase: failed, says: []string{"Rollback check hook passed", "manual webhook invoked", "Canary failed!"}}},
		"a rollback hook that does not fire leaves the gate to decide": {
			facts(waiting, targetRuns("2", 2), hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, false)),
			want{rule: "start", phase: progressing, says: []string{"not signaling a rollback", "New revision detected!"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

func TestDecideRunning(t *testing.T) {
	unheard := func(f *Facts) {
		f.Checks.Metrics = &analysis.Verdict{Outcome: analysis.Fail, Message: "Halt because", NoRequests: true}
		f.Canary.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: v1beta1.MetricRequestSuccessRate}}
	}
	verdict := func(o analysis.Outcome) edit {
		return func(f *Facts) {
			f.Canary.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}}
			f.Checks.Metrics = &analysis.Verdict{Outcome: o, Message: "Halt because"}
		}
	}
	later := now.Add(30 * time.Second)
	foundNow := func(f *Facts) {
		f.Sight = Sight{Run: f.Canary.Status.Rollout.Run, Phase: progressing, NextCheckAt: micro(now)}
	}
	begunSince := func(d time.Duration) edit {
		return status(func(s *v1beta1.CanaryStatus) { s.Rollout.StageStartedAt = micro(now.Add(-d)) })
	}
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"B20 the end of a canceled run is told": {
			facts(progressing, running(0), stage(stageCancel), func(f *Facts) {
				f.Target.Replicas = 0
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
			}),
			want{rule: "retreat", phase: succeeded, says: []string{"Canary canceled! Scaling down podinfo.test"}}},
		"the canary is waited for until its deadline": {
			facts(progressing, running(0), stage(""), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, wake: now.Add(9 * time.Minute),
				says: []string{"canary deployment podinfo.test not ready: waiting for rollout to finish"}}},
		"a target that lost its scaling up gets it again": {
			facts(progressing, running(0), stage(""), func(f *Facts) { unready(&f.Target, Waiting, 0); f.Target.Replicas = 0 }),
			want{rule: "canary-not-ready", actions: []Action{ScaleTargetUp{}}, wake: now.Add(10 * time.Second)}},
		"C-09 when the pods of before are seen to be gone": {
			facts(progressing, running(0), stage(""), stopsSince(59*time.Second)),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}, wake: now.Add(time.Second)}},
		"C-09 or after a tenth of the deadline": {
			facts(progressing, running(0), stage(""), stopsSince(time.Minute)),
			want{rule: "canary-not-ready", actions: []Action{ScaleTargetUp{}}, wake: now.Add(10 * time.Second)}},
		"the deadline counts from the start of the revision": {
			facts(progressing, running(0), stage(""), func(f *Facts) {
				unready(&f.Target, Waiting, 0)
				f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-601 * time.Second))
			}),
			want{rule: "canary-not-ready", stage: stageRollback, says: []string{"exceeded its progress deadline",
				"Rolling back podinfo.test progress deadline exceeded"}}},
		"an old report of a stuck workload is about another revision": {
			facts(progressing, running(0), stage(""), func(f *Facts) {
				unready(&f.Target, Stuck, 0)
				f.Target.Health.Since = now.Add(-time.Hour)
			}),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}}},
		"B12 once it was ready, the deadline counts from when it was seen not to be": {
			facts(progressing, running(10), clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Canary: micro(now.Add(-601 * time.Second))}),
				func(f *Facts) { unready(&f.Target, Waiting, 1) }),
			want{rule: "canary-not-ready", stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"exceeded its progress deadline", "Rolling back"}}},
		"B3 traffic leaves a canary without pods": {
			facts(progressing, running(10), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", actions: []Action{EnsureRoutes{}}, says: []string{"routing all traffic to primary", "not ready"}}},
		"B19 a rollback hook is asked while the canary is not ready": {
			facts(progressing, running(0), stage(""), hook(v1beta1.RollbackHook), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", needs: 1}},
		"B19 and obeyed": {
			facts(progressing, running(0), stage(""), hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, true),
				func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "rollback-hook", stage: stageRollback, says: []string{"Rollback check hook passed", "manual webhook invoked"}}},
		"B19 one that does not fire is asked again after an interval": {
			facts(progressing, running(0), stage(""), hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, false),
				func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, wake: later, says: []string{"not signaling a rollback", "not ready"}}},
		"B19 and not before": {
			facts(progressing, running(0), stage(""), hook(v1beta1.RollbackHook), func(f *Facts) {
				unready(&f.Target, Waiting, 0)
				f.Canary.Status.Rollout.NextRollbackCheckAt = micro(now.Add(time.Second))
			}),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, wake: now.Add(time.Second), says: []string{"not ready"}}},
		"B19 a rollback hook is asked while routes are not in force": {
			facts(progressing, running(10), hook(v1beta1.RollbackHook), func(f *Facts) { f.Provider.ReportsSettled, f.Routes.Settled = true, false }),
			want{rule: "routes-not-settled", needs: 1}},
		"B19 a rollback hook is asked while the primary is not ready": {
			facts(progressing, running(10), hook(v1beta1.RollbackHook), func(f *Facts) { unready(&f.Primary, Waiting, 1) }),
			want{rule: "primary-not-ready", needs: 1}},
		"B19 a rollback hook is asked right before a promotion": {
			facts(progressing, running(30), hook(v1beta1.RollbackHook), func(f *Facts) {
				f.Canary.Status.Rollout.NextRollbackCheckAt = micro(now.Add(time.Second))
			}),
			want{rule: "advance", needs: 1}},
		"B19 and can still prevent it": {
			facts(progressing, running(30), hook(v1beta1.RollbackHook), answer(v1beta1.RollbackHook, true), func(f *Facts) {
				f.Canary.Status.Rollout.NextRollbackCheckAt = micro(now.Add(time.Second))
			}),
			want{rule: "advance", stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"Rollback check hook passed", "manual webhook invoked"}}},
		"a rollback hook is not asked when the analysis is skipped": {
			facts(progressing, running(0), hook(v1beta1.RollbackHook), spec(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }),
				func(f *Facts) { unready(&f.Target, Waiting, 1) }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}}},
		"a rollback hook that was removed is forgotten": {
			facts(progressing, running(0), func(f *Facts) {
				f.Canary.Status.Rollout.NextRollbackCheckAt = micro(now.Add(time.Second))
			}),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, says: []string{"Advance"}, wake: later}},
		"B19 the threshold counts while the canary is not ready": {
			facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 }), func(f *Facts) { unready(&f.Target, Waiting, 1) }),
			want{rule: "threshold", stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"failed checks threshold reached 2"}}},
		"B19 a canary that died once too often is taken back at once": {
			facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 1 }), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", actions: []Action{EnsureRoutes{}}, wake: now, says: []string{"routing all traffic to primary", "not ready"}}},
		"a skip comes before the threshold": {
			facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 }),
				spec(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })),
			want{rule: "skip", phase: promotingTo, weight: 10, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}}, says: []string{"Copying"}}},
		"threshold": {
			facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 })),
			want{rule: "threshold", stage: stageRollback, actions: []Action{EnsureRoutes{}}, says: []string{"Rolling back podinfo.test failed checks threshold reached 2"}}},
		"a rollback waits for a primary that can take the traffic": {
			facts(progressing, running(10), stage(stageRollback), func(f *Facts) { unready(&f.Primary, Stuck, 0) }),
			want{rule: "retreat", stage: stageRollback, weight: 10, reason: ReasonNoReadyCapacity, says: []string{"has no ready pods to take the traffic"}}},
		"A-03 a serving canary is not taken down for a broken primary": {
			facts(progressing, running(100), stage(stageRollback), func(f *Facts) {
				unready(&f.Primary, Stuck, 1)
				f.Canary.Status.Rollout.ServingSide = v1beta1.ServingCanary
			}),
			want{rule: "retreat", phase: failed, weight: 100, reason: ReasonNoReadyCapacity, says: []string{"Canary failed!", "has no ready pods"}}},
		"a retreat waits for the routes": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { f.Routes.CanaryWeight, f.Routes.InPlace = 10, false }),
			want{rule: "retreat", stage: stageRollback, actions: []Action{EnsureRoutes{}}}},
		"A-19 a retreat drains": {
			facts(progressing, running(0), stage(stageRollback)), want{rule: "retreat", stage: stageRollback, wake: now.Add(30 * time.Second)}},
		"pods that got no request go after the delay": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { f.Canary.Status.Rollout.CanaryIdle = true }),
			want{rule: "retreat", stage: stageRollback, wake: now.Add(3 * time.Second)}},
		"and so do pods that answer nobody": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "retreat", stage: stageRollback, wake: now.Add(3 * time.Second)}},
		"and those of a provider that looks at its proxies": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { f.Provider.ReportsSettled, f.Provider.ReportsDataPlane = true, true }),
			want{rule: "retreat", stage: stageRollback, wake: now.Add(3 * time.Second)}},
		"a route that was accepted is not in force": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { f.Provider.ReportsSettled = true }),
			want{rule: "retreat", stage: stageRollback, wake: now.Add(30 * time.Second)}},
		"a delay that is longer than the interval": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { f.Settings.PropagationDelay = time.Minute }),
			want{rule: "retreat", stage: stageRollback, wake: now.Add(time.Minute)}},
		"a retreat does not depend on a report": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Reason = true, false, "not accepted"
			}),
			want{rule: "retreat", stage: stageRollback, reason: ReasonRoutesNotSettled, wake: now.Add(30 * time.Second), says: []string{"not accepted"}}},
		"nobody reports on the routes": {
			facts(progressing, running(10), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Silent, f.Routes.Reason = true, false, true, "no report"
			}),
			want{rule: "advance", weight: 20, wake: later, actions: []Action{EnsureRoutes{}}, says: []string{"Advance", "nobody reports"}}},
		"drained long enough": {
			facts(progressing, running(0), stage(stageRollback), func(f *Facts) { f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-30 * time.Second)) }),
			want{rule: "retreat", stage: stageRollback, actions: []Action{ScaleTargetToZero{}}}},
		"the step has to be in force before it is judged": {
			facts(progressing, running(10), func(f *Facts) { f.Routes.InPlace = false }),
			want{rule: "routes-not-settled", weight: 10, actions: []Action{EnsureRoutes{}}}},
		"and be reported so where that is known": {
			facts(progressing, running(10), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Reason = true, false, "not accepted"
			}),
			want{rule: "routes-not-settled", weight: 10, reason: ReasonRoutesNotSettled, says: []string{"not accepted"}}},
		"B11 a route that never comes into force ends the run": {
			facts(progressing, running(10), clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Routes: micro(now.Add(-601 * time.Second))}), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Reason = true, false, "not accepted"
			}),
			want{rule: "routes-not-settled", stage: stageRollback, actions: []Action{EnsureRoutes{}}, reason: ReasonRoutesNotSettled,
				says: []string{"Rolling back podinfo.test progress deadline exceeded", "not accepted"}}},
		"pods that start one by one are told of once in an interval": {
			facts(progressing, running(0), stage(""), health(ReasonCanaryNotReady, "0 of 2", now), func(f *Facts) {
				unready(&f.Target, Waiting, 1)
				condition(&f.Canary.Status, v1beta1.HealthyType).LastUpdateTime = metav1.NewTime(now.Add(-10 * time.Second))
			}),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, wake: now.Add(20 * time.Second)}},
		"a suspension stops the clock": {
			facts(progressing, running(0), stage(""), health(ReasonSuspended, "x", now.Add(-time.Hour)), func(f *Facts) {
				unready(&f.Target, Waiting, 0)
				f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-time.Hour))
			}),
			want{rule: "canary-not-ready", wake: now.Add(10 * time.Second)}},
		"pods that were asked for a moment ago are nothing to tell of": {
			facts(progressing, running(0), stage(""), begunSince(9*time.Second), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", wake: now.Add(time.Second)}},
		"those that are late are": {
			facts(progressing, running(0), stage(""), begunSince(10*time.Second), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}}},
		"what was told of them is not taken back": {
			facts(progressing, running(0), stage(""), begunSince(time.Second), health(ReasonCanaryNotReady, "x", now), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}}},
		"nor is it kept that they can't be asked for": {
			facts(progressing, running(0), stage(""), begunSince(time.Second), func(f *Facts) { unready(&f.Target, Waiting, 0); f.ApplyError = "denied" }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}}},
		"not due": {
			facts(progressing, running(10), health(ReasonCheckFailed, "x", now), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(later) })),
			want{rule: "not-due", weight: 10, reason: ReasonCheckFailed, wake: later}},
		"a primary on its way is waited for": {
			facts(progressing, running(10), func(f *Facts) { unready(&f.Primary, Waiting, 1) }),
			want{rule: "primary-not-ready", weight: 10, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready"}}},
		"metrics are asked for": {
			facts(progressing, running(10), func(f *Facts) { f.Canary.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} }),
			want{rule: "analysis", needs: 1}},
		"rollout hooks come before metrics": {
			facts(progressing, running(10), hook(""), verdict(analysis.Pass)), want{rule: "analysis", needs: 1}},
		"a missing step is told until it is there": {
			facts(progressing, running(10), spec(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight = 0 }), health(ReasonInvalidSpec, "x", now),
				status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(later) })),
			want{rule: "not-due", weight: 10, reason: ReasonInvalidSpec}},
		"and no longer": {
			facts(progressing, running(10), health(ReasonInvalidSpec, "x", now),
				status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(later) })),
			want{rule: "not-due", weight: 10, reason: ReasonHealthy}},
		"a rollout hook that fails is a failed check": {
			facts(progressing, running(10), hook(""), answer(v1beta1.RolloutHook, false)),
			want{rule: "analysis", weight: 10, reason: ReasonCheckFailed, says: []string{"external check hook failed no"}, wake: later}},
		"a failed metric is a failed check": {
			facts(progressing, running(10), verdict(analysis.Fail)),
			want{rule: "analysis", weight: 10, reason: ReasonCheckFailed, says: []string{"Halt because"}, wake: later}},
		"requests that don't come where routes lead them are no bad version": {
			facts(progressing, running(10), unheard), want{rule: "analysis", weight: 10, reason: ReasonNoCanaryTraffic, says: []string{"Halt because"}, wake: later}},
		"it is told for as long as the step lasts": {
			facts(progressing, running(10), health(ReasonNoCanaryTraffic, "x", now), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(later) })),
			want{rule: "not-due", weight: 10, reason: ReasonNoCanaryTraffic, wake: later}},
		"a Service without routes leads no requests to a canary": {
			facts(progressing, running(0), unheard, func(f *Facts) {
				f.Provider, f.Canary.Status.Iterations = ProviderFact{Name: "kubernetes"}, 1
				f.Canary.Spec.Analysis.StepWeight, f.Canary.Spec.Analysis.MaxWeight, f.Canary.Spec.Analysis.Iterations = 0, 0, 5
				f.Canary.Status.Rollout.Routing = []v1beta1.RoutingRef{{Service: "podinfo", Provider: "kubernetes"}}
			}),
			want{rule: "analysis", reason: ReasonCheckFailed, says: []string{"Halt because"}, wake: later}},
		"an A/B test may have no users yet": {
			facts(progressing, running(100), unheard, func(f *Facts) {
				a := f.Canary.Spec.Analysis
				a.StepWeight, a.MaxWeight, a.Iterations, a.Match = 0, 0, 5, []v1beta1.AnalysisMatch{{}}
				f.Canary.Status.Iterations, f.Canary.Status.Rollout.Audience, f.Routes.Matched = 1, v1beta1.AudienceMatched, true
			}),
			want{rule: "analysis", weight: 100, reason: ReasonCheckFailed, says: []string{"Halt because"}, wake: later}},
		"the last failed check rolls back at once": {
			facts(progressing, running(10), verdict(analysis.Error), status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 1 })),
			want{rule: "analysis", weight: 10, says: []string{"Halt because"}, wake: now}},
		"a verdict may hold": {
			facts(progressing, running(10), verdict(analysis.Hold)),
			want{rule: "analysis", weight: 10, reason: ReasonWaitingForMetrics, says: []string{"Halt because"}, wake: later}},
		"a step whose requests are divided otherwise is held": {
			facts(progressing, running(10), verdict(analysis.Hold), func(f *Facts) { f.Checks.Metrics.Divided = true }),
			want{rule: "analysis", weight: 10, reason: ReasonUnexpectedSplit, says: []string{"Halt because"}, wake: later}},
		"it is told of for as long as the step lasts": {
			facts(progressing, running(10), health(ReasonUnexpectedSplit, "x", now), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(later) })),
			want{rule: "not-due", weight: 10, reason: ReasonUnexpectedSplit, wake: later}},
		"a split alone is asked about": {
			facts(progressing, running(10), func(f *Facts) { f.Canary.Spec.Analysis.Split = &v1beta1.SplitPolicy{Mode: v1beta1.SplitEnforce} }),
			want{rule: "analysis", needs: 1}},
		"a split that is ignored is not": {
			facts(progressing, running(10), func(f *Facts) { f.Canary.Spec.Analysis.Split = &v1beta1.SplitPolicy{Mode: v1beta1.SplitIgnore} }),
			want{rule: "advance", weight: 20, actions: []Action{EnsureRoutes{}}, says: []string{"Advance podinfo.test canary weight 20"}, wake: later}},
		"an observed split that is off is a warning": {
			facts(progressing, running(10), verdict(analysis.Pass), func(f *Facts) {
				f.Checks.Metrics.Warned = []string{"Observed split would say: Halt"}
				f.Checks.Metrics.Record = &v1beta1.ChecksStatus{Run: f.Canary.Status.Rollout.Run, Check: 1}
			}),
			want{rule: "advance", weight: 20, actions: []Action{EnsureRoutes{}}, says: []string{"Observed split would say: Halt", "Advance podinfo.test canary weight 20"}, wake: later}},
		"a critical metric takes the canary back at its first failure": {
			facts(progressing, running(10), verdict(analysis.Fail), func(f *Facts) {
				f.Checks.Metrics.Critical, f.Checks.Metrics.Metric = true, "m"
			}),
			want{rule: "analysis", stage: stageRollback, actions: []Action{EnsureRoutes{}}, reason: ReasonCheckFailed,
				says: []string{"Halt because", "Rolling back podinfo.test critical metric m failed"}, wake: later}},
		"what an observed metric says is told and decides nothing": {
			facts(progressing, running(10), verdict(analysis.Pass), func(f *Facts) {
				f.Checks.Metrics.Observed = []string{"Observed metric m would say: Halt"}
				f.Checks.Metrics.Record = &v1beta1.ChecksStatus{Run: f.Canary.Status.Rollout.Run, Check: 1}
			}),
			want{rule: "advance", weight: 20, actions: []Action{EnsureRoutes{}}, says: []string{"Observed metric m would say: Halt", "Advance podinfo.test canary weight 20"}, wake: later}},
		"it is told once": {
			facts(progressing, running(10), verdict(analysis.Hold), func(f *Facts) {
				f.Checks.Metrics.Observed = []string{"Observed metric m would say: Halt"}
				f.Checks.Metrics.Record = &v1beta1.ChecksStatus{Run: f.Canary.Status.Rollout.Run, Check: 1}
				f.Canary.Status.Rollout.Checks = f.Checks.Metrics.Record
			}),
			want{rule: "analysis", weight: 10, reason: ReasonWaitingForMetrics, says: []string{"Halt because"}, wake: later}},
		"a passed check takes the next step": {
			facts(progressing, running(10), verdict(analysis.Pass)),
			want{rule: "advance", weight: 20, actions: []Action{EnsureRoutes{}}, says: []string{"Advance podinfo.test canary weight 20"}, wake: later}},
		"at the maximum the analyzed revision is promoted": {
			facts(progressing, running(30)),
			want{rule: "advance", phase: promotingTo, weight: 30, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}},
				says: []string{"Copying podinfo.test template spec to podinfo-primary.test"}}},
		"A-22 no step leads on": {
			facts(progressing, running(10), spec(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeight = 0 })),
			want{rule: "advance", weight: 10, reason: ReasonInvalidSpec, says: []string{"spec.analysis: no step leads on"}}},
		"A-11 mirroring is left out where it can't be done": {
			facts(progressing, running(0), spec(func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }), func(f *Facts) { f.Provider.Mirror = false }),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, says: []string{"Advance podinfo.test canary weight 10"}}},
		"A-11 and so it is in front of a blue/green run": {
			facts(progressing, running(0), spec(func(s *v1beta1.CanarySpec) {
				s.Analysis.StepWeight, s.Analysis.MaxWeight, s.Analysis.Iterations, s.Analysis.Mirror = 0, 0, 2, true
			}), func(f *Facts) { f.Provider.Mirror = false }),
			want{rule: "advance", says: []string{"Advance podinfo.test canary iteration 1/2"}, wake: later}},
		"A-11 what is left out is told at the start of a run": {
			facts(progressing, running(0), stage(""), foundNow, spec(func(s *v1beta1.CanarySpec) {
				s.Analysis.Mirror, s.Analysis.SessionAffinity = true, &v1beta1.SessionAffinity{CookieName: "a"}
			}), func(f *Facts) { f.Provider = ProviderFact{Name: "traefik", Weights: true, Routes: true} }),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, reason: ReasonUnsupportedFields, says: []string{"Starting canary analysis",
				"spec.analysis.mirror is ignored, because provider traefik can't mirror traffic: set it to false, or set another spec.provider",
				"spec.analysis.sessionAffinity is ignored, because provider traefik has no session affinity: remove it, or set another spec.provider", "Advance podinfo.test canary weight 10"}}},
		"A-11 what is left out of what can be done is told as well": {
			facts(progressing, running(0), stage(""), foundNow, spec(func(s *v1beta1.CanarySpec) {
				s.Analysis.Mirror, s.Analysis.MirrorWeight = true, 10
				s.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a", PrimaryCookieName: "b"}
			}), func(f *Facts) { f.Provider.MirrorWeight, f.Provider.PrimaryCookie = false, false }),
			want{rule: "advance", actions: []Action{EnsureRoutes{}}, reason: ReasonUnsupportedFields, says: []string{"Starting canary analysis",
				"spec.analysis.mirrorWeight is ignored", "spec.analysis.sessionAffinity.primaryCookieName is ignored", "Advance podinfo.test canary weight 0"}}},
		"B-11 a metric that passes with any value is told once in a run": {
			facts(progressing, running(0), stage(""), foundNow, spec(func(s *v1beta1.CanarySpec) {
				s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: v1beta1.MetricRequestSuccessRate}}
			})),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, says: []string{"Starting canary analysis",
				"spec.analysis.metrics[0] (request-success-rate) has no thresholdRange", "Advance podinfo.test canary weight 10"}}},
		"a webhook that leads to a chat service is told once in a run": {
			facts(progressing, running(0), stage(""), foundNow, spec(func(s *v1beta1.CanarySpec) {
				s.Analysis.Webhooks = []v1beta1.CanaryWebhook{
					{Name: "sink", Type: v1beta1.EventHook, URL: "http://sink"},
					{Name: "chat", Type: v1beta1.EventHook, URL: "https://acme.webhook.office.com/webhookb2/1"},
				}
			})),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, says: []string{"Starting canary analysis",
				"webhook 1 (chat) of the analysis leads to a chat service, which refuses the payload of webhooks: make an AlertProvider of type msteams", "Advance podinfo.test canary weight 10"}}},
		"B3 no request goes to pods that proxies may not know yet": {
			facts(progressing, running(0), stage("")),
			want{rule: "pre-rollout", wake: now.Add(3 * time.Second)}},
		"B3 nobody is asked before either": {
			facts(progressing, running(0), stage(""), hook(v1beta1.ConfirmTrafficIncreaseHook)),
			want{rule: "pre-rollout", says: []string{"Starting canary analysis"}, wake: now.Add(3 * time.Second)}},
		"B3 the start is told with the first request": {
			facts(progressing, running(0), stage(""), foundNow),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, says: []string{"Starting canary analysis", "Advance podinfo.test canary weight 10"}}},
		"B3 pods that are lost meanwhile are found anew": {
			facts(progressing, running(0), stage(""), foundNow, begunSince(time.Minute), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"not ready"}}},
		"B3 nor before the proxies have had the time": {
			facts(progressing, running(0), stage(stagePreRollout), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(time.Second)) })),
			want{rule: "not-due", wake: now.Add(time.Second)}},
		"B3 and then the first do": {
			facts(progressing, running(0), stage(stagePreRollout), status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now) })),
			want{rule: "advance", weight: 10, actions: []Action{EnsureRoutes{}}, says: []string{"Advance podinfo.test canary weight 10"}}},
		"B-05 a closed traffic gate is told once": {
			facts(progressing, running(10), hook(v1beta1.ConfirmTrafficIncreaseHook), answer(v1beta1.ConfirmTrafficIncreaseHook, false),
				health(ReasonWaitingForGate, "Halt podinfo.test advancement waiting for traffic increase approval hook", now)),
			want{rule: "advance", weight: 10, reason: ReasonWaitingForGate, wake: later}},
		"B-05 even if something else was wrong in between": {
			facts(progressing, running(10), hook(v1beta1.ConfirmTrafficIncreaseHook), answer(v1beta1.ConfirmTrafficIncreaseHook, false),
				health(ReasonCheckFailed, "x", now), status(func(s *v1beta1.CanaryStatus) { s.Rollout.ToldHook = v1beta1.ConfirmTrafficIncreaseHook })),
			want{rule: "advance", weight: 10, reason: ReasonWaitingForGate, wake: later}},
		"B-05 the next wait is told": {
			facts(progressing, running(10), hook(v1beta1.ConfirmTrafficIncreaseHook), answer(v1beta1.ConfirmTrafficIncreaseHook, false)),
			want{rule: "advance", weight: 10, reason: ReasonWaitingForGate, says: []string{"waiting for traffic increase approval hook"}, wake: later}},
		"B-06 waiting for a promotion keeps the numbers": {
			facts(progressing, running(30), hook(v1beta1.ConfirmPromotionHook), answer(v1beta1.ConfirmPromotionHook, false)),
			want{rule: "advance", phase: v1beta1.CanaryPhaseWaitingPromotion, weight: 30, reason: ReasonWaitingForGate,
				says: []string{"waiting for promotion approval hook"}, wake: later}},
		"A-06 a revision that moved on before the copy is analyzed anew": {
			facts(promotingTo, running(30), targetRuns("3", 3)),
			want{rule: "promoting", phase: progressing, actions: []Action{EnsureRoutes{}}, says: []string{"Restarting analysis"}}},
		"a copy that was lost is made again": {
			facts(promotingTo, running(30)), want{rule: "promoting", phase: promotingTo, weight: 30, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}}}},
		"the primary is waited for until its deadline": {
			facts(promotingTo, running(30), func(f *Facts) { f.Primary.Copy = "v2:2"; unready(&f.Primary, Waiting, 1) }),
			want{rule: "promoting", phase: promotingTo, weight: 30, reason: ReasonPrimaryNotReady, says: []string{"not ready"}, wake: now.Add(9 * time.Minute)}},
		"B3 a primary that got no request waits for the proxies to find its pods": {
			facts(promotingTo, running(100), func(f *Facts) { f.Primary.Copy = "v2:2" }),
			want{rule: "promoting", phase: promotingTo, weight: 100, wake: now.Add(3 * time.Second)}},
		"B3 and gets them all after that": {
			facts(promotingTo, running(100), found(3), func(f *Facts) { f.Primary.Copy = "v2:2" }),
			want{rule: "promoting", phase: finalisingP, actions: []Action{EnsureRoutes{}}, says: []string{"Routing all traffic to primary"}}},
		"B3 whatever else was waited for before": {
			facts(promotingTo, running(100), func(f *Facts) { f.Primary.Copy = "v2:2" },
				status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(-time.Minute)) })),
			want{rule: "promoting", phase: promotingTo, weight: 100, wake: now.Add(3 * time.Second)}},
		"A-24 a stepwise promotion without weight ends": {
			facts(promotingTo, running(0), func(f *Facts) { f.Primary.Copy = "v2:2" }, spec(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 10 })),
			want{rule: "promoting", phase: finalisingP, says: []string{"Routing all traffic to primary"}}},
		"a copy that is refused is tried again until its deadline": {
			facts(promotingTo, running(30), func(f *Facts) { f.ApplyError = "admission webhook denied the request" }),
			want{rule: "promoting", phase: promotingTo, weight: 30, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}}, reason: ReasonApplyFailed,
				says: []string{"denied"}, wake: now.Add(10 * time.Minute)}},
		"after that the primary, which was not changed, takes the traffic back": {
			facts(promotingTo, running(30), refusedFor(601*time.Second)),
			want{rule: "promoting", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}}, reason: ReasonApplyFailed,
				says: []string{"Promotion of podinfo.test failed, primary can't be updated: denied", "denied"}}},
		"one that runs an unknown revision as well": {
			facts(promotingTo, running(30), refusedFor(601*time.Second), func(f *Facts) {
				f.Canary.Status.Rollout.Promoted, f.Primary.Copy = &v1beta1.RevisionRef{Fingerprint: unknownRevision}, ""
			}),
			want{rule: "promoting", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}},
				says: []string{"Promotion of podinfo.test failed, primary can't be updated: denied", "denied"}}},
		"one that was changed does not": {
			facts(promotingTo, running(30), refusedFor(601*time.Second), func(f *Facts) { f.Primary.Copy = "v2:other" }),
			want{rule: "promoting", phase: failed, weight: 100, actions: []Action{EnsureRoutes{}}, reason: ReasonPromotionFailed,
				says: []string{"Promotion of podinfo.test failed, primary can't be updated: denied"}}},
		"a copy that nobody has refused since is tried first": {
			facts(promotingTo, running(30), refusedFor(601*time.Second), func(f *Facts) { f.ApplyError = "" }),
			want{rule: "promoting", phase: promotingTo, weight: 30, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}}}},
		"traffic leaves a canary that dies while its copy is refused": {
			facts(promotingTo, running(30), refusedFor(time.Second), func(f *Facts) { unready(&f.Target, Waiting, 0) }),
			want{rule: "promoting", phase: promotingTo, actions: []Action{EnsureRoutes{}, EnsurePrimary{Revision: rev("2", 2)}},
				says: []string{"routing all traffic to primary", "denied"}}},
		"a scaling up that is refused ends as well": {
			facts(progressing, running(0), stage(""), refusedFor(601*time.Second), func(f *Facts) {
				unready(&f.Target, Waiting, 0)
				f.Target.Replicas = 0
				f.Canary.Status.Rollout.StageStartedAt = micro(now)
			}),
			want{rule: "canary-not-ready", stage: stageRollback, says: []string{"exceeded its progress deadline: denied", "Rolling back", "denied"}}},
		"routes that are refused are told": {
			facts(progressing, running(10), refusedFor(time.Second), func(f *Facts) { f.Routes.InPlace = false }),
			want{rule: "routes-not-settled", weight: 10, actions: []Action{EnsureRoutes{}}, reason: ReasonApplyFailed, says: []string{"denied"}}},
		"routes that are refused end the run": {
			facts(progressing, running(10), refusedFor(601*time.Second), func(f *Facts) { f.Routes.InPlace = false }),
			want{rule: "routes-not-settled", stage: stageRollback, actions: []Action{EnsureRoutes{}},
				says: []string{"Rolling back podinfo.test progress deadline exceeded denied", "denied"}}},
		"B11 a newer revision leads out of routes that never come into force": {
			facts(finalisingP, running(0), targetRuns("3", 3), func(f *Facts) {
				f.Primary.Copy = "v2:2"
				f.Provider.ReportsSettled, f.Routes.Settled = true, false
				f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-601 * time.Second))
			}),
			want{rule: "finalising", phase: progressing, says: []string{"Restarting analysis"}}},
		"a failed promotion where nothing routes leaves all as it is": {
			facts(promotingTo, running(0), func(f *Facts) {
				f.Primary.Copy = "v2:2"
				unready(&f.Primary, Stuck, 0)
				f.Provider = ProviderFact{}
			}),
			want{rule: "promoting", phase: failed, reason: ReasonPromotionFailed, says: []string{"Promotion of podinfo.test failed"}}},
		"finalising drains": {
			facts(finalisingP, running(0), func(f *Facts) { f.Primary.Copy = "v2:2" }),
			want{rule: "finalising", phase: finalisingP, wake: now.Add(30 * time.Second)}},
		"a newer revision does not wait for pods that stay": {
			facts(finalisingP, running(0), targetRuns("3", 3), func(f *Facts) { f.Primary.Copy = "v2:2" }),
			want{rule: "finalising", phase: finalisingP, wake: now.Add(3 * time.Second)}},
		"a primary that falls back stops the clean-up": {
			facts(finalisingP, running(0), func(f *Facts) { f.Primary.Copy = "v2:2"; unready(&f.Primary, Waiting, 1) }),
			want{rule: "finalising", phase: finalisingP, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready"}}},
		"a primary that is stuck hands back to the canary": {
			facts(finalisingP, running(0), func(f *Facts) { f.Primary.Copy = "v2:2"; unready(&f.Primary, Stuck, 0) }),
			want{rule: "finalising", phase: failed, weight: 100, actions: []Action{EnsureRoutes{}}, says: []string{"Promotion of podinfo.test failed"}}},
		"a target that moved on keeps its pods": {
			facts(finalisingP, running(0), targetRuns("3", 3), func(f *Facts) {
				f.Primary.Copy = "v2:2"
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
			}),
			want{rule: "finalising", phase: succeeded, says: []string{"Promotion completed!"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

func TestBootstrap(t *testing.T) {
	fresh := func(f *Facts) {
		f.Canary.Status = v1beta1.CanaryStatus{}
		f.Primary = Workload{Name: "podinfo-primary"}
		f.Services, f.Routes = ServicesFact{}, RoutesFact{}
	}
	underway := func(s string) edit {
		return status(func(st *v1beta1.CanaryStatus) { st.Rollout.Stage = s; st.Rollout.Promoted = nil })
	}
	named := func(state PortState) edit {
		return func(f *Facts) {
			f.Port = PortFact{Undeclared: "port: nobody", Name: "web", Declared: "it has http=9898", State: state}
		}
	}
	unmoved := func(f *Facts) { f.Services.ApexInPlace = false; f.Routes = RoutesFact{} }
	const initializing = v1beta1.CanaryPhaseInitializing
	cases := map[string]struct {
		facts Facts
		want  want
	}{
		"a new Canary": {facts("", fresh), want{rule: "bootstrap", phase: initializing, stage: stageCopying,
			actions: []Action{EnsureBackendServices{}, EnsurePrimary{Revision: rev("1", 1)}}}},
		"B-33 a lost status takes the primary as it is": {
			facts("", fresh, targetRuns("2", 2), func(f *Facts) {
				f.Primary = Workload{Exists: true, Name: "podinfo-primary", Copy: "v2:1", Available: 1, Replicas: 1, Health: Health{State: Ready}}
			}),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureBackendServices{}}}},
		"A-07 a change before the primary serves is followed": {
			facts(initializing, underway(stageCopying), targetRuns("2", 2)),
			want{rule: "bootstrap", phase: initializing, stage: stageCopying, actions: []Action{EnsurePrimary{Revision: rev("2", 2)}}}},
		"A-04 the target stays while the primary is not ready": {
			facts(initializing, underway(stageCopying), func(f *Facts) { unready(&f.Primary, Stuck, 0) }),
			want{rule: "bootstrap", phase: initializing, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready"}}},
		"A-05 traffic moves before pods go": {
			facts(initializing, underway(stageRouting), found(3), unmoved),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureApexService{}, EnsureRoutes{}}}},
		"B3 no request goes to a primary that proxies may not know yet": {
			facts(initializing, underway(stageCopying), unmoved),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureApexService{}}, wake: now.Add(3 * time.Second)}},
		"B3 nor before the proxies have had the time": {
			facts(initializing, underway(stageRouting), found(2), unmoved),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureApexService{}}, wake: now.Add(time.Second)}},
		"B3 nor by a clock that was set back": {
			facts(initializing, underway(stageRouting), found(-60), unmoved),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureApexService{}}, wake: now.Add(3 * time.Second)}},
		"B3 pods that come back are found anew": {
			facts(initializing, underway(stageRouting), found(3), unmoved, func(f *Facts) { unready(&f.Primary, Waiting, 0) }),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, reason: ReasonPrimaryNotReady, says: []string{"not ready"}}},
		"B3 routes that lead there already wait for nothing": {
			facts(initializing, underway(stageRouting), func(f *Facts) { f.Services.ApexInPlace = false }),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureApexService{}}}},
		"B3 nor does a Service that has no routes": {
			facts(initializing, underway(stageCopying), unmoved, func(f *Facts) { f.Provider = ProviderFact{Name: "kubernetes"} }),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{EnsureApexService{}}}},
		"drained": {
			facts(initializing, underway(stageRouting), status(func(s *v1beta1.CanaryStatus) { s.Rollout.CanaryDrainedAt = micro(now.Add(-30 * time.Second)) })),
			want{rule: "bootstrap", phase: initializing, actions: []Action{ScaleTargetToZero{}}}},
		"a port that nobody declares is told once": {
			facts("", fresh, func(f *Facts) { f.Port.Undeclared = "port: nobody" }),
			want{rule: "bootstrap", phase: initializing, stage: stageCopying, reason: ReasonPortNotDeclared, says: []string{"port: nobody"},
				actions: []Action{EnsureBackendServices{}, EnsurePrimary{Revision: rev("1", 1)}}}},
		"a name that a ready primary has not leads nobody there": {
			facts(initializing, underway(stageRouting), named(PortMissing), unmoved),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, reason: ReasonInvalidSpec,
				says: []string{`spec.service.targetPort: no ready pod of podinfo-primary.test has a TCP port named "web" (of what podinfo.test declares, it has http=9898)`}}},
		"a name that nobody has seen yet is waited for": {
			facts(initializing, underway(stageRouting), named(PortUnknown), unmoved, health(ReasonPrimaryNotReady, "x", now)),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, reason: ReasonPrimaryNotReady}},
		"a name that the primary turns out to have": {
			facts(initializing, underway(stageRouting), named(PortServed), found(3), unmoved, health(ReasonPrimaryNotReady, "x", now)),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, reason: ReasonPortNotDeclared,
				actions: []Action{EnsureApexService{}, EnsureRoutes{}}}},
		"a name that is lost meanwhile keeps the target": {
			facts(initializing, underway(stageRouting), named(PortMissing), status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.CanaryDrainedAt = micro(now.Add(-30 * time.Second))
			})),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, reason: ReasonInvalidSpec, says: []string{`named "web"`}}},
		"a report that says no keeps the target": {
			facts(initializing, underway(stageRouting), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Reason = true, false, "not accepted"
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
			}),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, reason: ReasonRoutesNotSettled, wake: now.Add(600 * time.Second),
				says: []string{"not accepted"}}},
		"and not for ever": {
			facts(initializing, underway(stageRouting), clocks(v1beta1.UnreadySince{Routes: micro(now.Add(-601 * time.Second))}), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Reason = true, false, "not accepted"
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-30 * time.Second))
			}),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{ScaleTargetToZero{}}, reason: ReasonRoutesNotSettled,
				says: []string{"not accepted"}}},
		"a report that never comes keeps nothing": {
			facts(initializing, underway(stageRouting), func(f *Facts) {
				f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Silent = true, false, true
				f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-30 * time.Second))
			}),
			want{rule: "bootstrap", phase: initializing, stage: stageRouting, actions: []Action{ScaleTargetToZero{}}}},
		"a primary that is deleted meanwhile is made again": {
			facts(initializing, underway(stageRouting), func(f *Facts) { f.Primary = Workload{Name: "podinfo-primary"} }),
			want{rule: "bootstrap", phase: initializing, stage: stageCopying, actions: []Action{EnsurePrimary{Revision: rev("1", 1)}}}},
		"metric providers are asked": {
			facts("", fresh, spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} })), want{rule: "bootstrap", needs: 1}},
		"they are asked once": {
			facts(initializing, underway(stageCopying), spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} }),
				func(f *Facts) { unready(&f.Primary, Waiting, 0) }),
			want{rule: "bootstrap", phase: initializing, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready"}}},
		"missing ones are asked again after an interval": {
			facts(initializing, underway(stageCopying), spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} }),
				status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now) })),
			want{rule: "bootstrap", needs: 1}},
		"and not before": {
			facts(initializing, underway(stageCopying), spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} }),
				health(ReasonMetrics, "x", now), func(f *Facts) { f.Primary.Copy = "" },
				status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(time.Second)) })),
			want{rule: "bootstrap", phase: initializing, reason: ReasonMetrics, actions: []Action{EnsurePrimary{Revision: rev("1", 1)}}, wake: now.Add(time.Second)}},
		"missing ones stop nothing": {
			facts("", fresh, spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} }),
				func(f *Facts) { f.Checks.Providers = &ProvidersCheck{Error: "down"} }),
			want{rule: "bootstrap", phase: initializing, reason: ReasonMetrics, says: []string{"Error checking metric providers: down"},
				actions: []Action{EnsureBackendServices{}, EnsurePrimary{Revision: rev("1", 1)}}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

// TestAdopt takes over statuses that another operator wrote: one status write, no action, no rollout.
func TestAdopt(t *testing.T) {
	foreign := func(phase v1beta1.CanaryPhase, edits ...edit) Facts {
		return facts(phase, append([]edit{func(f *Facts) {
			f.Canary.Status = v1beta1.CanaryStatus{Phase: phase, LastAppliedSpec: "5d5f4b8c7", LastPromotedSpec: "5d5f4b8c7"}
		}}, edits...)...)
	}
	cases := map[string]struct {
		facts            Facts
		target, promoted string
		weight           int32
		then             string
	}{
		"settled and unchanged":      {foreign(succeeded), "v2:1", "v2:1", 0, "settled"},
		"settled, changed meanwhile": {foreign(initialized, targetRuns("2", 2)), unknownRevision, unknownRevision, 0, "start"},
		"failed":                     {foreign(failed, targetRuns("2", 2)), "v2:2", unknownRevision, 0, "settled"},
		"running":                    {foreign(progressing, targetRuns("2", 2), func(f *Facts) { f.Routes.CanaryWeight = 20 }), "v2:2", unknownRevision, 20, "advance"},
		"waiting for promotion":      {foreign(v1beta1.CanaryPhaseWaitingPromotion, targetRuns("2", 2), func(f *Facts) { f.Routes.CanaryWeight = 30 }), "v2:2", unknownRevision, 30, "advance"},
		"finalising, but the traffic is not back yet": {foreign(finalisingP, targetRuns("2", 2), func(f *Facts) {
			f.Routes.CanaryWeight, f.Primary.Copy = 30, "v2:2"
		}), "v2:2", unknownRevision, 30, "promoting"},
		"running, but nothing is read": {foreign(progressing, func(f *Facts) { f.Target.Revision.Fingerprint = "" }), "", "", 0, "adopt"},
		"failed promotion": {foreign(failed, targetRuns("2", 2), status(func(s *v1beta1.CanaryStatus) { s.CanaryWeight = 100 }),
			func(f *Facts) { f.Routes.CanaryWeight = 100 }), "v2:2", unknownRevision, 100, "settled"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			if d.Rule != "adopt" || len(d.Actions) > 0 {
				t.Fatalf("rule %s with actions %v", d.Rule, d.Actions)
			}
			if r := d.Status.Rollout; r != nil {
				if len(r.Outbox) > 0 {
					t.Errorf("says %v", r.Outbox)
				}
				if r.Target.Fingerprint != c.target || r.Promoted.Fingerprint != c.promoted || d.Status.CanaryWeight != c.weight {
					t.Errorf("target %s promoted %s weight %d", r.Target.Fingerprint, r.Promoted.Fingerprint, d.Status.CanaryWeight)
				}
			}
			c.facts.Canary.Status = d.Status
			if next := Decide(c.facts); next.Rule != c.then {
				t.Errorf("then rule %s, want %s", next.Rule, c.then)
			}
		})
	}
}

// A notice is about the revision that the pass was about, which need not be the one that the status has when it is told.
func TestNoticesNameTheirRevision(t *testing.T) {
	for name, c := range map[string]struct {
		facts Facts
		rule  string
		want  string
	}{
		"change that has to wait": {facts(succeeded, targetRuns("2", 2), hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, false)),
			"confirm-rollout", "flagger2"},
		"start":   {facts(succeeded, targetRuns("2", 2)), "start", "flagger2"},
		"restart": {facts(progressing, running(10), targetRuns("3", 3)), "restart", "flagger3"},
		"step":    {facts(progressing, running(10)), "advance", "flagger2"},
		"cancel":  {facts(progressing, running(10), targetRuns("1", 3)), "cancel", "flagger1"},
		"target that can't be read": {facts(progressing, running(10), func(f *Facts) {
			f.Target.Revision, f.Problem = Revision{}, &Problem{Reason: ReasonReadFailed, Message: "x", Unknown: true}
		}), "blocked", "flagger2"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			if d.Rule != c.rule || len(d.Status.Rollout.Outbox) == 0 {
				t.Fatalf("rule %s says %v", d.Rule, d.Status.Rollout.Outbox)
			}
			for _, n := range d.Status.Rollout.Outbox {
				if want := fingerprint.FlaggerChecksum(nil, c.want); n.Revision != want {
					t.Errorf("%q is about %s, want %s", n.Message, n.Revision, want)
				}
			}
		})
	}
}

func TestOutbox(t *testing.T) {
	f := facts(succeeded, status(func(s *v1beta1.CanaryStatus) {
		s.Rollout.Sequence = 3
		s.Rollout.Outbox = []v1beta1.Notice{{Sequence: 2, Message: "a"}, {Sequence: 3, Message: "b"}}
	}))
	if d := Decide(f); len(d.Status.Rollout.Outbox) != 2 {
		t.Errorf("undelivered notices were dropped: %v", d.Status.Rollout.Outbox)
	}
	f.Delivered = 2
	if d := Decide(f); len(d.Status.Rollout.Outbox) != 1 {
		t.Errorf("at rest the delivered one stays: %v", d.Status.Rollout.Outbox)
	}
	run := facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) {
		s.Rollout.NextCheckAt = micro(now.Add(time.Second))
		s.Rollout.Outbox = []v1beta1.Notice{{Sequence: 2}}
		s.Conditions = []v1beta1.CanaryCondition{{Type: v1beta1.PromotedType, Status: corev1.ConditionUnknown, Reason: string(progressing)}}
	}))
	run.Canary.Status.Conditions = Decide(run).Status.Conditions
	run.Delivered = 2
	if d := Decide(run); len(d.Status.Rollout.Outbox) != 1 {
		t.Error("under way, delivery alone cost a write")
	}
	full := facts(succeeded, targetRuns("2", 2))
	for i := range 40 {
		full.Canary.Status.Rollout.Outbox = append(full.Canary.Status.Rollout.Outbox, v1beta1.Notice{Sequence: int64(i)})
	}
	full.Delivered = -1
	if d := Decide(full); len(d.Status.Rollout.Outbox) != maxOutbox {
		t.Errorf("outbox has %d entries", len(d.Status.Rollout.Outbox))
	}
}

func TestWeights(t *testing.T) {
	for name, c := range map[string]struct {
		a       v1beta1.CanaryAnalysis
		weights []int32
	}{
		"steps over the maximum":  {v1beta1.CanaryAnalysis{MaxWeight: 50, StepWeight: 20}, []int32{20, 40, 60}},
		"to the end":              {v1beta1.CanaryAnalysis{StepWeight: 40}, []int32{40, 80, 100}},
		"a list":                  {v1beta1.CanaryAnalysis{StepWeights: []int32{1, 2, 10, 80}}, []int32{1, 2, 10, 80}},
		"a list in any order":     {v1beta1.CanaryAnalysis{StepWeights: []int32{10, 5, 80}}, []int32{5, 10, 80}},
		"a list without traffic":  {v1beta1.CanaryAnalysis{StepWeights: []int32{0}}, nil},
		"a list over one hundred": {v1beta1.CanaryAnalysis{StepWeights: []int32{50, 200}}, []int32{50}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int32
			for w := int32(0); w < MaxWeight(&c.a); {
				next, ok := NextWeight(&c.a, w)
				if !ok {
					break
				}
				w = next
				got = append(got, w)
			}
			if !reflect.DeepEqual(got, c.weights) {
				t.Errorf("weights %v, want %v", got, c.weights)
			}
		})
	}
}

func TestPromotedCondition(t *testing.T) {
	for phase, want := range map[v1beta1.CanaryPhase]string{
		v1beta1.CanaryPhaseInitializing: "New Deployment detected, starting initialization.",
		v1beta1.CanaryPhaseTerminating:  "Deployment is being handed back.",
		v1beta1.CanaryPhaseFailed:       "Canary analysis failed, Deployment scaled to zero.",
	} {
		if _, got := promoted(phase, "Deployment", false); got != want {
			t.Errorf("%s: %q", phase, got)
		}
	}
}

func TestRulesAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r] {
			t.Errorf("rule %s twice", r)
		}
		seen[r] = true
	}
	if n := Decide(facts(initialized, health(ReasonMetrics, "x", now))).Needs; len(n) != 1 {
		t.Errorf("needs %v", n)
	}
}
