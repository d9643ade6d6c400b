package rollout

import (
	"slices"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// The words of contract section 3.8, which users look for, differ by the kind of the target.
func TestTextsOfUnreadyWorkloads(t *testing.T) {
	const reason = "waiting for rollout to finish: 0 out of 2 new replicas have been updated"
	kind := func(name string) edit {
		return func(f *Facts) {
			f.Canary.Spec.TargetRef.Kind, f.Target.Kind, f.Primary.Kind = name, name, name
			f.Canary.Status.Rollout.Stage = ""
		}
	}
	canary := func(f *Facts) { unready(&f.Target, Waiting, 0) }
	primary := func(f *Facts) { unready(&f.Primary, Waiting, 1) }
	late := func(f *Facts) { f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-time.Hour)) }
	for name, c := range map[string]struct {
		edits []edit
		want  string
	}{
		"primary of a Deployment": {[]edit{kind("Deployment"), primary}, "podinfo-primary.test not ready: " + reason},
		"primary of a DaemonSet":  {[]edit{kind("DaemonSet"), primary}, "primary daemonset podinfo-primary.test not ready: " + reason},
		"Deployment":              {[]edit{kind("Deployment"), canary}, "canary deployment podinfo.test not ready: " + reason},
		"DaemonSet":               {[]edit{kind("DaemonSet"), canary}, "canary damonset podinfo.test not ready with retryable true: " + reason},
		"Service of Knative":      {[]edit{kind("Service"), canary}, "canary service podinfo.test not ready: " + reason},
		"late Deployment": {[]edit{kind("Deployment"), canary, late},
			`canary deployment podinfo.test not ready: deployment "podinfo" exceeded its progress deadline`},
		"late DaemonSet": {[]edit{kind("DaemonSet"), canary, late},
			"canary damonset podinfo.test not ready with retryable false: exceeded its progressDeadlineSeconds: 600"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(facts(v1beta1.CanaryPhaseProgressing, append([]edit{running(0)}, c.edits...)...))
			var said []string
			for _, n := range d.Status.Rollout.Outbox {
				said = append(said, n.Message)
			}
			if !slices.Contains(said, c.want) {
				t.Errorf("rule %s says %q, want %q", d.Rule, said, c.want)
			}
		})
	}
}

// The alerts of contract section 6.2: what each says and how grave it is, and which carry the details of the rollout.
func TestAlertsOfContract(t *testing.T) {
	const info, warn, grave = v1beta1.SeverityInfo, v1beta1.SeverityWarn, v1beta1.SeverityError
	initialization := func(f *Facts) {
		f.Canary.Status.Rollout.Stage, f.Canary.Status.Rollout.Promoted = stageRouting, nil
		f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
		f.Target.Replicas = 0
	}
	stuck := func(f *Facts) {
		unready(&f.Primary, Stuck, 0)
		f.Primary.Copy, f.Primary.Health.Reason = "v2:2", `deployment "podinfo-primary" exceeded its progress deadline`
	}
	done := func(f *Facts) {
		f.Primary.Copy = "v2:2"
		f.Canary.Status.Rollout.Target, f.Target.Revision = refTo(rev("2", 2)), rev("2", 2)
		f.Canary.Status.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute))
		f.Target.Replicas = 0
	}
	const refused, passed = false, true
	gate := func(h v1beta1.HookType, answered bool) edit {
		return func(f *Facts) { hook(h)(f); answer(h, answered)(f) }
	}
	const (
		initializing = v1beta1.CanaryPhaseInitializing
		initialized  = v1beta1.CanaryPhaseInitialized
		progressing  = v1beta1.CanaryPhaseProgressing
		promoting    = v1beta1.CanaryPhasePromoting
		finalising   = v1beta1.CanaryPhaseFinalising
	)
	for name, c := range map[string]struct {
		facts Facts
		want  v1beta1.NoticeAlert
	}{
		"initialized": {facts(initializing, initialization), v1beta1.NoticeAlert{Severity: info, Message: "New Deployment detected, initialization completed.", Details: true}},
		"started":     {facts(initialized, targetRuns("2", 2)), v1beta1.NoticeAlert{Severity: info, Message: "New revision detected, progressing canary analysis.", Details: true}},
		"promoted":    {facts(finalising, done), v1beta1.NoticeAlert{Severity: info, Message: "Canary analysis completed successfully, promotion finished."}},
		"skipped":     {facts(finalising, done, stage(stageSkip)), v1beta1.NoticeAlert{Severity: info, Message: "Canary analysis was skipped, promotion finished."}},
		"waiting": {facts(initialized, targetRuns("2", 2), gate(v1beta1.ConfirmRolloutHook, refused)),
			v1beta1.NoticeAlert{Severity: warn, Message: "Canary is waiting for approval."}},
		"waiting for promotion": {facts(progressing, running(30), gate(v1beta1.ConfirmPromotionHook, refused)),
			v1beta1.NoticeAlert{Severity: warn, Message: "Canary promotion is waiting for approval."}},
		"waiting for more traffic": {facts(progressing, running(10), gate(v1beta1.ConfirmTrafficIncreaseHook, refused)),
			v1beta1.NoticeAlert{Severity: warn, Message: "Canary traffic increase is waiting for approval."}},
		"called off": {facts(progressing, running(10), gate(v1beta1.RollbackHook, passed)),
			v1beta1.NoticeAlert{Severity: warn, Message: "Rolling back manual webhook invoked"}},
		"threshold": {facts(progressing, running(10), status(func(s *v1beta1.CanaryStatus) { s.FailedChecks = 2 })),
			v1beta1.NoticeAlert{Severity: grave, Message: "Failed checks threshold reached 2"}},
		"failed promotion": {facts(promoting, running(30), stage(""), stuck),
			v1beta1.NoticeAlert{Severity: grave, Message: `Promotion failed, primary not ready: deployment "podinfo-primary" exceeded its progress deadline`}},
		"deadline": {facts(progressing, running(0), stage(""), func(f *Facts) {
			unready(&f.Target, Waiting, 0)
			f.Canary.Status.Rollout.StageStartedAt = micro(now.Add(-time.Hour))
		}), v1beta1.NoticeAlert{Severity: grave, Message: `Progress deadline exceeded deployment "podinfo" exceeded its progress deadline`}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			var alerts []v1beta1.NoticeAlert
			for _, n := range d.Status.Rollout.Outbox {
				if n.Alert != nil {
					alerts = append(alerts, *n.Alert)
				}
			}
			if !slices.Equal(alerts, []v1beta1.NoticeAlert{c.want}) {
				t.Errorf("rule %s alerts %+v, want %+v", d.Rule, alerts, c.want)
			}
		})
	}
}
