package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A port that no template declares is told of in one event, and stays in the condition of a Canary that is healthy.
func TestUndeclaredPortIsToldOnce(t *testing.T) {
	const note = "spec.service.targetPort: nobody"
	f := facts(v1beta1.CanaryPhaseInitialized, func(f *Facts) { f.Port.Undeclared = note })
	for pass, events := range []int{1, 0} {
		d := Decide(f)
		c := condition(&d.Status, v1beta1.HealthyType)
		if c == nil || c.Status != corev1.ConditionTrue || c.Reason != string(ReasonPortNotDeclared) || !strings.HasPrefix(c.Message, note+"; ") {
			t.Errorf("pass %d: condition = %+v", pass, c)
		}
		told := 0
		for _, n := range d.Status.Rollout.Outbox[len(f.Canary.Status.Rollout.Outbox):] {
			if n.Message == note {
				told++
			}
		}
		if told != events || len(d.Actions) > 0 {
			t.Errorf("pass %d: told %d times, want %d; actions %v", pass, told, events, d.Actions)
		}
		f.Canary = f.Canary.DeepCopy()
		f.Canary.Status = d.Status
	}
}

// A Service that somebody led elsewhere is led back to pods that have its port only.
func TestServiceIsNotLedToPodsWithoutItsPort(t *testing.T) {
	for _, state := range []PortState{PortServed, PortMissing} {
		f := facts(v1beta1.CanaryPhaseInitialized, func(f *Facts) {
			f.Services.ApexInPlace = false
			f.Port = PortFact{Undeclared: "port: nobody", Name: "web", State: state}
		})
		d := Decide(f)
		led := slices.Contains(d.Actions, Action(EnsureApexService{}))
		c := condition(&d.Status, v1beta1.HealthyType)
		told := c != nil && c.Reason == string(ReasonInvalidSpec)
		if led != (state == PortServed) || told == led {
			t.Errorf("port %s: actions %v, condition %+v", state, d.Actions, c)
		}
	}
}

// A side whose pods have lost the port that the Services ask for is as one without ready pods: nothing is led there, and what is led
// there is taken away.
func TestPodsWithoutThePortGetNoRequests(t *testing.T) {
	ports := func(primary, canary PortState) edit {
		return func(f *Facts) {
			f.Port = PortFact{Name: "web", Declared: "it has http=9898", State: primary, Canary: canary}
		}
	}
	const lost = `canary deployment podinfo.test not ready: no ready pod has a TCP port named "web"`
	const left = `podinfo.test has no ready pods with a TCP port named "web", routing all traffic to primary`
	const toCanary = `podinfo-primary.test has no ready pods with a TCP port named "web", routing all traffic to canary`
	for name, c := range map[string]struct {
		facts Facts
		want  want
	}{
		"a run goes on with the port": {facts(progressing, running(10), ports(PortServed, PortServed)),
			want{rule: "advance", weight: 20, actions: []Action{EnsureRoutes{}}, says: []string{"canary weight 20"}}},
		"no run begins without it": {facts(progressing, running(0), stage(""), ports(PortServed, PortMissing)),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{lost}}},
		"nor before anybody has seen it": {facts(progressing, running(0), stage(""), ports(PortServed, PortUnknown)),
			want{rule: "canary-not-ready", reason: ReasonCanaryNotReady, says: []string{"Service podinfo-canary.test has no ready endpoint"}}},
		"what is not known any more takes nothing back": {facts(progressing, running(10), ports(PortServed, PortUnknown)),
			want{rule: "canary-not-ready", weight: 10, reason: ReasonCanaryNotReady, says: []string{"Service podinfo-canary.test has no ready endpoint"}}},
		"what is led there is taken back": {facts(progressing, running(10), ports(PortServed, PortMissing)),
			want{rule: "canary-not-ready", actions: []Action{EnsureRoutes{}}, reason: ReasonCanaryNotReady, says: []string{left, lost}}},
		"also while a webhook is asked": {facts(progressing, running(10), hook(v1beta1.RolloutHook), ports(PortServed, PortMissing)),
			want{rule: "canary-not-ready", actions: []Action{EnsureRoutes{}}, reason: ReasonCanaryNotReady, says: []string{left, lost}}},
		"and while a fault of the spec blocks the run": {
			facts(progressing, running(10), ports(PortServed, PortMissing), func(f *Facts) { f.Problem = &Problem{Reason: ReasonInvalidSpec, Message: "spec"} }),
			want{rule: "blocked", actions: []Action{EnsureRoutes{}}, reason: ReasonInvalidSpec, says: []string{left, "spec"}}},
		"a run without it comes to its end": {
			facts(progressing, running(0), clocks(v1beta1.UnreadySince{Stage: clockAnalysis, Canary: micro(now.Add(-601 * time.Second))}), ports(PortServed, PortMissing)),
			want{rule: "canary-not-ready", stage: stageRollback, says: []string{"not ready", "progress deadline exceeded"}}},
		"a canary that serves alone hands back": {
			facts(failed, running(100), func(f *Facts) { f.Canary.Status.Rollout.ServingSide = v1beta1.ServingCanary }, ports(PortServed, PortMissing)),
			want{rule: "settled", actions: []Action{EnsureRoutes{}}, says: []string{left}}},
		"a primary that comes up without it gets nothing": {
			facts(promotingTo, running(100), func(f *Facts) { f.Primary.Copy = "v2:2" }, ports(PortMissing, PortServed)),
			want{rule: "promoting", phase: promotingTo, weight: 100, reason: ReasonPrimaryNotReady, says: []string{`podinfo-primary.test not ready: no ready pod has a TCP port named "web"`}}},
		"nor before anybody has seen it on the primary": {
			facts(promotingTo, running(30), func(f *Facts) { f.Primary.Copy = "v2:2" }, ports(PortUnknown, PortServed)),
			want{rule: "promoting", phase: promotingTo, weight: 30, reason: ReasonPrimaryNotReady, says: []string{"Service podinfo-primary.test has no ready endpoint"}}},
		"nor does it keep what it had": {
			facts(promotingTo, running(30), func(f *Facts) { f.Primary.Copy = "v2:2" }, ports(PortMissing, PortServed)),
			want{rule: "promoting", phase: promotingTo, weight: 100, actions: []Action{EnsureRoutes{}}, reason: ReasonPrimaryNotReady, says: []string{toCanary, "podinfo-primary.test not ready"}}},
		"nor is a canary taken back to it": {
			facts(progressing, running(10), stage(stageRollback), ports(PortMissing, PortServed)),
			want{rule: "retreat", weight: 10, reason: ReasonNoReadyCapacity, says: []string{`podinfo-primary.test has no ready pods with a TCP port named "web"`}}},
		"at rest the primary is told of": {facts(succeeded, ports(PortMissing, PortUnknown)),
			want{rule: "settled", reason: ReasonInvalidSpec, says: []string{`no ready pod of podinfo-primary.test has a TCP port named "web"`}}},
		"at rest nobody misses it on the target": {facts(succeeded, ports(PortServed, PortMissing)),
			want{rule: "settled", reason: ReasonHealthy}},
	} {
		t.Run(name, func(t *testing.T) { check(t, Decide(c.facts), c.want) })
	}
}
