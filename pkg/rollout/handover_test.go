package rollout

import (
	"reflect"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestHandover(t *testing.T) {
	const promoting, progressing = v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseProgressing
	stopsFirst := func(f *Facts) { f.Primary.StopsFirst = true }
	daemon := func(f *Facts) { f.Canary.Spec.TargetRef.Kind = daemonSetKind }
	all := func(f *Facts) { f.Routes.CanaryWeight = 100 }
	checkAt := func(at time.Time) edit {
		return func(f *Facts) { f.Canary.Status.Rollout.NextCheckAt = micro(at) }
	}
	copied := []Action{EnsurePrimary{Revision: rev("2", 2)}}
	replaced := []Action{EnsurePrimary{Revision: rev("2", 2), Replace: true}}
	otherSelector := func(f *Facts) { f.Primary.StopsFirst, f.Primary.SelectorDiffers = true, "app=podinfo-primary" }
	gone := func(f *Facts) { f.Primary = Workload{Name: "podinfo-primary", Kind: "Deployment"} }
	for name, c := range map[string]struct {
		phase v1beta1.CanaryPhase
		edits []edit
		want  want
	}{
		"a primary that surges is copied at once": {promoting, []edit{running(50), stage("")},
			want{rule: "promoting", phase: promoting, weight: 50, actions: copied}},
		"all requests go to the canary first": {promoting, []edit{running(50), stage(""), stopsFirst},
			want{rule: "promoting", phase: promoting, weight: 100, actions: []Action{EnsureRoutes{}},
				says: []string{"Routing all traffic to canary, podinfo-primary.test has no ready pods while it is updated"}}},
		"then the proxies follow": {promoting, []edit{running(100), stage(""), stopsFirst, all},
			want{rule: "promoting", phase: promoting, weight: 100, wake: now.Add(30 * time.Second)}},
		"then the copy is made": {promoting, []edit{running(100), stage(""), stopsFirst, all, checkAt(now)},
			want{rule: "promoting", phase: promoting, weight: 100, actions: copied}},
		"drift starts the wait anew": {promoting, []edit{running(100), stage(""), stopsFirst, checkAt(now), func(f *Facts) { f.Routes.InPlace = false }},
			want{rule: "promoting", phase: promoting, weight: 100, actions: []Action{EnsureRoutes{}}}},
		"a canary that got no request is found first": {promoting, []edit{running(0), stage(stageSkip), stopsFirst},
			want{rule: "promoting", phase: promoting, stage: stageSkip, wake: now.Add(3 * time.Second)}},
		"a canary that is not ready can't have them": {promoting, []edit{running(50), stage(""), stopsFirst, func(f *Facts) { unready(&f.Target, Waiting, 1) }},
			want{rule: "promoting", phase: promoting, weight: 50, reason: ReasonCanaryNotReady, says: []string{"canary deployment podinfo.test not ready"}}},
		"and is not waited for for ever": {promoting, []edit{running(50), stage(""), stopsFirst, func(f *Facts) {
			unready(&f.Target, Waiting, 1)
			f.Primary.Copy = "v2:1"
		}, clocks(v1beta1.UnreadySince{Stage: clockPromotion, Canary: micro(now.Add(-601 * time.Second))})},
			want{rule: "promoting", phase: progressing, stage: stageRollback, actions: []Action{EnsureRoutes{}},
				says: []string{"Promotion of podinfo.test failed, canary deployment podinfo.test not ready"}}},
		"a primary without pods hands over at once": {promoting, []edit{running(50), stage(""), func(f *Facts) {
			f.Primary.Copy = "v2:2"
			unready(&f.Primary, Waiting, 0)
		}}, want{rule: "promoting", phase: promoting, weight: 100, actions: []Action{EnsureRoutes{}}, reason: ReasonPrimaryNotReady,
			says: []string{"podinfo-primary.test has no ready pods, routing all traffic to canary", "podinfo-primary.test not ready"}}},
		"unless a DaemonSet that surges is updated": {promoting, []edit{running(50), stage(""), daemon, func(f *Facts) {
			f.Primary.Copy = "v2:2"
			unready(&f.Primary, Waiting, 0)
		}}, want{rule: "promoting", phase: promoting, weight: 50, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready"}}},
		"not to a canary that is not ready": {promoting, []edit{running(50), stage(""), func(f *Facts) {
			f.Primary.Copy = "v2:2"
			unready(&f.Primary, Waiting, 0)
			unready(&f.Target, Waiting, 1)
		}}, want{rule: "promoting", phase: promoting, weight: 50, reason: ReasonPrimaryNotReady, says: []string{"podinfo-primary.test not ready"}}},
		"a primary with another selector hands over": {promoting, []edit{running(50), stage(""), otherSelector},
			want{rule: "promoting", phase: promoting, weight: 100, actions: []Action{EnsureRoutes{}},
				says: []string{"Routing all traffic to canary, podinfo-primary.test is made anew: it selects its pods by app=podinfo-primary, and podinfo.test by other labels"}}},
		"clients of the Service are led away, too": {promoting, []edit{running(100), stage(""), otherSelector, all, checkAt(now), func(f *Facts) { f.Services.ApexInPlace = false }},
			want{rule: "promoting", phase: promoting, weight: 100, actions: []Action{EnsureApexService{}}}},
		"then the primary is replaced": {promoting, []edit{running(100), stage(""), otherSelector, all, checkAt(now)},
			want{rule: "promoting", phase: promoting, weight: 100, actions: replaced}},
		"one that is gone by then is made of the same revision": {promoting, []edit{running(100), stage(""), all, gone},
			want{rule: "promoting", phase: promoting, weight: 100, actions: copied}},
		"but of the promoted one if the canary does not serve all": {promoting, []edit{running(50), stage(""), gone},
			want{rule: "primary-missing", phase: promoting, weight: 50, actions: []Action{EnsurePrimary{Revision: rev("1", 1)}}, reason: ReasonPrimaryNotReady,
				says: []string{"podinfo-primary.test is missing: making it again from the promoted revision"}}},
		"its Service comes before its requests": {promoting, []edit{running(100), stage(""), all, checkAt(now), func(f *Facts) {
			f.Primary.Copy, f.Services.BackendsInPlace = "v2:2", false
		}}, want{rule: "promoting", phase: promoting, weight: 100, actions: []Action{EnsureBackendServices{}}}},
		"a provider without routes copies": {promoting, []edit{running(0), stage(""), stopsFirst, func(f *Facts) { f.Provider = ProviderFact{Name: "kubernetes"} }},
			want{rule: "promoting", phase: promoting, actions: copied}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(facts(c.phase, c.edits...)), c.want) })
	}
}

// Where no routes can lead requests away, a primary with another selector stays as it is.
func TestIrreplaceable(t *testing.T) {
	const succeeded, initializing = v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseInitializing
	for name, c := range map[string]struct {
		phase    v1beta1.CanaryPhase
		provider ProviderFact
		by       string
		told     bool
	}{
		"kubernetes":                   {succeeded, ProviderFact{Name: "kubernetes"}, "app=podinfo-primary", true},
		"the same selector":            {succeeded, ProviderFact{Name: "kubernetes"}, "", false},
		"routes":                       {succeeded, ProviderFact{Name: "istio", Routes: true}, "app=podinfo-primary", false},
		"a bootstrap that made it":     {initializing, ProviderFact{Name: "kubernetes"}, "app=podinfo-primary", false},
		"a provider that is not known": {succeeded, ProviderFact{}, "app=podinfo-primary", false},
	} {
		f := facts(c.phase)
		f.Provider, f.Primary.SelectorDiffers = c.provider, c.by
		problem := Irreplaceable(&f)
		if told := problem != nil && problem.Reason == ReasonInvalidSpec; told != c.told {
			t.Errorf("%s: %+v", name, problem)
		}
	}
}

// A bootstrap replaces a primary that has no pods yet, and takes one that has some as it is.
func TestBootstrapOfATargetMadeAnew(t *testing.T) {
	const initializing = v1beta1.CanaryPhaseInitializing
	for name, c := range map[string]struct {
		available int32
		stage     string
		actions   []Action
	}{
		"without pods": {0, stageCopying, []Action{EnsurePrimary{Revision: rev("2", 2), Replace: true}}},
		"with pods":    {2, stageRouting, nil},
	} {
		f := facts(initializing, stage(stageCopying), func(f *Facts) {
			f.Target.Revision = rev("2", 2)
			f.Primary.SelectorDiffers, f.Primary.StopsFirst, f.Primary.Available = "app=podinfo-primary", true, c.available
		})
		d := Decide(f)
		var made []Action
		for _, a := range d.Actions {
			if _, ok := a.(EnsurePrimary); ok {
				made = append(made, a)
			}
		}
		if d.Status.Rollout.Stage != c.stage || !reflect.DeepEqual(made, c.actions) {
			t.Errorf("%s: stage %q, actions %+v", name, d.Status.Rollout.Stage, d.Actions)
		}
	}
}
