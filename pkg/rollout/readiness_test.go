package rollout

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// statusOf is what a status says of a type of condition, empty where it says nothing.
func statusOf(s *v1beta1.CanaryStatus, t v1beta1.CanaryConditionType) string {
	c := condition(s, t)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason
}

func asksForReadiness(f *Facts) { f.Settings.Readiness = true }

func TestReadiness(t *testing.T) {
	for name, tt := range map[string]struct {
		facts                       Facts
		ready, reconciling, stalled string
	}{
		"a run is in progress": {facts(progressing, running(10)), "Unknown Progressing", "True Progressing", ""},
		"and says what it waits for": {facts(progressing, running(10), func(f *Facts) { unready(&f.Target, Waiting, 1) }),
			"Unknown CanaryNotReady", "True CanaryNotReady", ""},
		"a promoted revision is what was asked for":     {facts(succeeded), "True Succeeded", "", ""},
		"and one that was taken over":                   {facts(initialized), "True Initialized", "", ""},
		"a rejected one is not, and nobody tries again": {facts(failed), "False Failed", "", "True Failed"},
		"one after it that waits for its turn is in progress": {facts(failed, targetRuns("2", 2), others),
			"False WaitingForTurn", "True WaitingForTurn", ""},
		"a fault of the spec has to be mended": {facts(succeeded, func(f *Facts) { f.Problem = &Problem{Reason: ReasonInvalidSpec, Message: "x"} }),
			"False InvalidSpec", "", "True InvalidSpec"},
		"what can't be read may be read later": {facts(succeeded, func(f *Facts) {
			f.Problem = &Problem{Reason: ReasonReadFailed, Message: "x", Unknown: true}
		}), "False ReadFailed", "True ReadFailed", ""},
		"a suspended Canary is as it was": {facts(succeeded, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })), "True Succeeded", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asksForReadiness(&tt.facts)
			tt.facts.Canary.Generation = 7
			s := Decide(tt.facts).Status
			got := [3]string{statusOf(&s, v1beta1.ReadyType), statusOf(&s, v1beta1.ReconcilingType), statusOf(&s, v1beta1.StalledType)}
			if want := [3]string{tt.ready, tt.reconciling, tt.stalled}; got != want {
				t.Errorf("ready, reconciling, stalled %q, want %q", got, want)
			}
			if s.ObservedGeneration != 7 {
				t.Errorf("observed generation %d", s.ObservedGeneration)
			}
			ready := condition(&s, v1beta1.ReadyType)
			if ready != nil && ready.Status != corev1.ConditionTrue && ready.Message == "" {
				t.Error("no message says why it is not ready")
			}
		})
	}
}

// A Canary that is settled is not written again for them, and they go when nobody asks for them any more.
func TestReadinessIsWrittenOnce(t *testing.T) {
	f := facts(succeeded)
	asksForReadiness(&f)
	first := Decide(f).Status
	f.Canary.Status = first
	if second := Decide(f).Status; !reflect.DeepEqual(first, second) {
		t.Errorf("written again: %+v", second)
	}
	f.Settings.Readiness = false
	without := Decide(f).Status
	if condition(&without, v1beta1.ReadyType) != nil || without.ObservedGeneration != 0 {
		t.Errorf("still there: %+v", without.Conditions)
	}
}
