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
