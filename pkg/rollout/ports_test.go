package rollout

import (
	"slices"
	"testing"

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
		if c == nil || c.Status != corev1.ConditionTrue || c.Reason != string(ReasonPortNotDeclared) || c.Message != note {
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
