package rollout

import (
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
		"a provider without routes copies": {promoting, []edit{running(0), stage(""), stopsFirst, func(f *Facts) { f.Provider = ProviderFact{Name: "kubernetes"} }},
			want{rule: "promoting", phase: promoting, actions: copied}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(facts(c.phase, c.edits...)), c.want) })
	}
}
