package rollout

import (
	"maps"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// settings are tracked configs with one ConfigMap of this content.
func settings(content string) map[string]string {
	return map[string]string{"configmap/settings": content}
}

// reads makes target, primary and record agree on the content of a ConfigMap.
func reads(content string) edit {
	return func(f *Facts) {
		f.Target.Revision.Configs, f.Primary.CopyConfigs = settings(content), settings(content)
		f.Canary.Status.Rollout.Target.Configs, f.Canary.Status.Rollout.Promoted.Configs = settings(content), settings(content)
	}
}

func targetReads(content string) edit {
	return func(f *Facts) {
		f.Target.Revision.Configs, f.Target.Revision.FlaggerConfigs = settings(content), settings("flagger"+content)
	}
}

func scalers(s ScalerFact) edit { return func(f *Facts) { f.Scaler = s } }

func TestConfigsBelongToTheRevision(t *testing.T) {
	analyzed := status(func(s *v1beta1.CanaryStatus) {
		s.Rollout.Target.Configs = settings("two")
		s.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
	})
	copies := []Action{EnsurePrimary{Revision: Revision{
		Fingerprint: "v2:1", UID: "uid", Generation: 1, Counter: "1", Configs: settings("two"), FlaggerHash: "flagger1",
	}}}
	const (
		succeeded, failed     = v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed
		promoting, finalising = v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising
	)
	for name, c := range map[string]struct {
		facts Facts
		want  want
	}{
		"the same content is no change": {facts(succeeded, reads("one")), want{rule: "settled"}},
		"another content is a change": {facts(succeeded, reads("one"), targetReads("two")),
			want{rule: "start", phase: v1beta1.CanaryPhaseProgressing, says: []string{"New revision detected!"}}},
		"a config that is no longer tracked is no change": {
			facts(succeeded, reads("one"), func(f *Facts) { f.Target.Revision.Configs, f.Primary.CopyConfigs = nil, nil }),
			want{rule: "settled"}},
		"another content restarts the analysis": {facts(v1beta1.CanaryPhaseProgressing, running(10), targetReads("two")),
			want{rule: "restart", phase: v1beta1.CanaryPhaseProgressing, actions: []Action{EnsureRoutes{}}, says: []string{"Restarting analysis"}}},
		"back at the promoted content nothing starts": {facts(failed, reads("one"), analyzed), want{rule: "reverted", phase: failed}},
		"a promotion waits for the copies": {facts(promoting, reads("one"), targetReads("two"), analyzed),
			want{rule: "promoting", phase: promoting, actions: copies}},
		"a promotion does not end before the copies are made": {facts(finalising, reads("one"), targetReads("two"), analyzed),
			want{rule: "finalising", phase: promoting, actions: copies}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

// A ConfigMap that is gone makes no other revision of the one under analysis: it keeps its traffic, and hooks are asked about it
// by the name that they know.
func TestMissingConfigIsNoChange(t *testing.T) {
	missing := func(f *Facts) {
		f.Target.Revision.Configs = nil
		f.Problem = &Problem{Reason: ReasonConfigNotFound, Message: "configmap settings.test not found"}
	}
	hooked := facts(v1beta1.CanaryPhaseProgressing, running(10), reads("one"), hook(v1beta1.RollbackHook))
	asked := Decide(hooked).Needs
	missing(&hooked)
	if again := Decide(hooked); len(asked) != 1 || len(again.Needs) != 1 || again.Needs[0] != asked[0] {
		t.Errorf("asked %v, and without the ConfigMap %v", asked, again.Needs)
	}
	check(t, Decide(facts(v1beta1.CanaryPhaseProgressing, running(10), reads("one"), missing)),
		want{rule: "blocked", phase: v1beta1.CanaryPhaseProgressing, weight: 10, says: []string{"settings.test"}, reason: ReasonConfigNotFound})
}

func TestTrackedConfigsFollowLastAppliedSpec(t *testing.T) {
	of := func(d Decision) map[string]string {
		if d.Status.TrackedConfigs == nil {
			return nil
		}
		return *d.Status.TrackedConfigs
	}
	if got := of(Decide(facts(v1beta1.CanaryPhaseSucceeded, reads("one"), targetReads("two")))); !maps.Equal(got, settings("flaggertwo")) {
		t.Errorf("at the start: %v", got)
	}
	untracked := facts(v1beta1.CanaryPhaseSucceeded, reads("one"), func(f *Facts) { f.Target.Revision.Configs = nil })
	if got := of(Decide(untracked)); got != nil {
		t.Errorf("without tracking: %v", got)
	}
}

// A status of Flagger says nothing that the live primary does not say better.
func TestAdoptComparesConfigs(t *testing.T) {
	for content, want := range map[string]string{"one": "v2:1", "two": unknownRevision} {
		f := facts(v1beta1.CanaryPhaseSucceeded, reads("one"), targetReads(content))
		f.Canary.Status.Rollout = nil
		d := Decide(f)
		if d.Rule != "adopt" || d.Status.Rollout.Promoted.Fingerprint != want || len(d.Actions) > 0 {
			t.Errorf("%s: rule %s, promoted %+v, actions %v", content, d.Rule, d.Status.Rollout.Promoted, d.Actions)
		}
	}
}

func TestScalers(t *testing.T) {
	noPods := func(f *Facts) { f.Target.Replicas, f.Target.Available = 0, 0 }
	drained := status(func(s *v1beta1.CanaryStatus) { s.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute)) })
	const progressing = v1beta1.CanaryPhaseProgressing
	for name, c := range map[string]struct {
		facts Facts
		want  want
	}{
		"one in place needs nothing": {facts(v1beta1.CanaryPhaseSucceeded, noPods, scalers(ScalerFact{Wanted: true, InPlace: true})),
			want{rule: "settled"}},
		"one that differs is written, and nothing starts": {facts(v1beta1.CanaryPhaseSucceeded, noPods, scalers(ScalerFact{Wanted: true})),
			want{rule: "settled", actions: []Action{EnsurePrimaryScaler{}}}},
		"a suspended Canary writes none": {facts(v1beta1.CanaryPhaseSucceeded, scalers(ScalerFact{Wanted: true}),
			spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })),
			want{rule: "suspended", says: []string{"suspended"}}},
		"a start takes the pause back although there are pods": {
			facts(v1beta1.CanaryPhaseSucceeded, targetRuns("2", 2), scalers(ScalerFact{Pausable: true, Paused: true})),
			want{rule: "start", phase: progressing, actions: []Action{ScaleTargetUp{}}, says: []string{"New revision"}}},
		"an idle target is held at zero once its autoscaler is known": {
			facts(v1beta1.CanaryPhaseSucceeded, noPods, scalers(ScalerFact{Wanted: true, InPlace: true, Pausable: true})),
			want{rule: "settled", actions: []Action{PauseTarget{}}}},
		"an idle target is held at zero once": {
			facts(v1beta1.CanaryPhaseFailed, noPods, scalers(ScalerFact{Wanted: true, InPlace: true, Pausable: true, Paused: true})),
			want{rule: "settled"}},
		"a target that somebody gave pods at rest keeps them": {
			facts(v1beta1.CanaryPhaseSucceeded, scalers(ScalerFact{Wanted: true, InPlace: true, Pausable: true})), want{rule: "settled"}},
		"a canary that serves is not held at zero": {
			facts(v1beta1.CanaryPhaseFailed, noPods, scalers(ScalerFact{Wanted: true, InPlace: true, Pausable: true}),
				func(f *Facts) { f.Primary.Available = 0 },
				status(func(s *v1beta1.CanaryStatus) { s.CanaryWeight, s.Rollout.ServingSide = 100, v1beta1.ServingCanary })),
			want{rule: "settled", weight: 100}},
		"a canary that scaled itself to zero is held there": {
			facts(v1beta1.CanaryPhaseFinalising, noPods, drained, scalers(ScalerFact{Pausable: true})),
			want{rule: "finalising", phase: v1beta1.CanaryPhaseFinalising, actions: []Action{ScaleTargetToZero{}}}},
		"a canary that is held at zero is done": {
			facts(v1beta1.CanaryPhaseFinalising, noPods, drained, scalers(ScalerFact{Pausable: true, Paused: true})),
			want{rule: "finalising", phase: v1beta1.CanaryPhaseSucceeded, says: []string{"Promotion completed!"}}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}

// A change of nothing but a ConfigMap is another revision to every hook: an answer about the content before says nothing.
func TestHooksAreAskedAboutTheConfigs(t *testing.T) {
	const gate = v1beta1.ConfirmRolloutHook
	need := func(t *testing.T, f Facts) NeedHooks {
		t.Helper()
		d := Decide(f)
		if len(d.Needs) != 1 {
			t.Fatalf("rule %s needs %v", d.Rule, d.Needs)
		}
		n, ok := d.Needs[0].(NeedHooks)
		if !ok {
			t.Fatalf("needs %v", d.Needs)
		}
		return n
	}
	analyzed := func(content string) edit {
		return func(f *Facts) {
			f.Target.Revision.Configs = settings(content)
			f.Canary.Status.Rollout.Target.Configs = settings(content)
		}
	}
	for name, ask := range map[string]func(content string) Facts{
		"confirm-rollout, at rest": func(content string) Facts { return facts(succeeded, reads("zero"), targetReads(content), hook(gate)) },
		"confirm-rollout, waiting": func(content string) Facts { return facts(waiting, reads("zero"), targetReads(content), hook(gate)) },
		"rollback, waiting": func(content string) Facts {
			return facts(waiting, reads("zero"), targetReads(content), hook(v1beta1.RollbackHook))
		},
		"rollback, running": func(content string) Facts {
			return facts(progressing, running(10), analyzed(content), hook(v1beta1.RollbackHook))
		},
		"rollout": func(content string) Facts {
			return facts(progressing, running(10), analyzed(content), hook(v1beta1.RolloutHook))
		},
		"confirm-promotion": func(content string) Facts {
			return facts(v1beta1.CanaryPhaseWaitingPromotion, running(30), analyzed(content), hook(v1beta1.ConfirmPromotionHook))
		},
		"confirm-traffic-increase": func(content string) Facts {
			return facts(progressing, running(10), analyzed(content), hook(v1beta1.ConfirmTrafficIncreaseHook))
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, again, two := need(t, ask("one")), need(t, ask("one")), need(t, ask("two"))
			if one.Revision == two.Revision || one.Key == two.Key {
				t.Errorf("%s with the key %s is asked about both contents", one.Revision, one.Key)
			}
			if one != again {
				t.Errorf("asked %+v and %+v about the same", one, again)
			}
		})
	}
}

// While a gate keeps a revision waiting, a change of its configs alone is what the gate is asked about next, and a run whose
// promotion waits begins anew.
func TestConfigsThatChangeWhileAGateWaits(t *testing.T) {
	asked := facts(waiting, reads("zero"), targetReads("two"), hook(v1beta1.ConfirmRolloutHook), answer(v1beta1.ConfirmRolloutHook, true))
	d := Decide(asked)
	if d.Rule != "start" || !maps.Equal(d.Status.Rollout.Target.Configs, settings("two")) {
		t.Errorf("rule %s begins with %+v", d.Rule, d.Status.Rollout.Target)
	}
	back := facts(waiting, reads("zero"), hook(v1beta1.ConfirmRolloutHook))
	if d := Decide(back); d.Rule != "change-withdrawn" {
		t.Errorf("rule %s for configs that are back as they were", d.Rule)
	}
	restarted := facts(v1beta1.CanaryPhaseWaitingPromotion, running(30), targetReads("two"), hook(v1beta1.ConfirmPromotionHook),
		status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.Target.Configs, s.Rollout.ToldHook = settings("one"), v1beta1.ConfirmPromotionHook
		}))
	if d := Decide(restarted); d.Rule != "restart" || d.Status.Phase != progressing || d.Status.Rollout.ToldHook != "" {
		t.Errorf("rule %s leads to %s", d.Rule, d.Status.Phase)
	}
}
