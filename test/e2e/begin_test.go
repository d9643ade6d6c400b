package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// front is a second application of a team, and its Canary, which comes after podinfo.
func (t *team) front() {
	t.Helper()
	deployment, _, _ := strings.Cut(podinfo(1), "\n---\n")
	t.apply(strings.NewReplacer("name: podinfo,", "name: front,", "app: podinfo", "app: front").Replace(deployment))
	t.create(canary(func(c *v1beta1.Canary) {
		c.Name, c.Spec.TargetRef.Name = "front", "front"
		c.Spec.DependsOn = &v1beta1.DependsOn{Canaries: []v1beta1.CanaryReference{{Name: "podinfo"}}, Delay: "2s"}
	}))
}

// heldBy is whether a Canary says that it waits, in words that contain a text.
func heldBy(reason rollout.ProblemReason, text string) func(*v1beta1.Canary) bool {
	return func(c *v1beta1.Canary) bool {
		for _, condition := range c.Status.Conditions {
			if condition.Type == v1beta1.HealthyType && condition.Reason == string(reason) && strings.Contains(condition.Message, text) {
				return true
			}
		}
		return false
	}
}

// TestDependsOn changes two applications at once, the dependent one first. They are rolled out in their order; without one, in turns; and
// a cycle is refused.
func TestDependsOn(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.operate("-max-concurrent-rollouts-per-namespace", "1")
	gate := t.gatekeeper()
	gate.set(v1beta1.ConfirmPromotionHook, true)
	t.create(canary(gate.asks(v1beta1.ConfirmPromotionHook)))
	t.front()
	at := func(phase v1beta1.CanaryPhase) func(*v1beta1.Canary) bool {
		return func(c *v1beta1.Canary) bool { return c.Status.Phase == phase }
	}
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.untilCanary("front", "its initialization", at(v1beta1.CanaryPhaseInitialized))

	t.shipTo("front", v2)
	t.ship(v2)
	t.untilCanary("front", "podinfo to come first", heldBy(rollout.ReasonWaitingForCanaries, "podinfo."+t.ns+", which comes first"))
	t.untilCanary("front", "its rollout", at(v1beta1.CanaryPhaseProgressing))
	first, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if _, image := t.replicas("podinfo-primary"); first.Status.Phase != v1beta1.CanaryPhaseSucceeded || image != v2 {
		t.Errorf("front begins while podinfo is %s with %s", first.Status.Phase, image)
	}
	end := t.untilCanary("front", "the end of its rollout", at(v1beta1.CanaryPhaseSucceeded))
	if end.Status.Rollout.Waiting != nil || end.Status.Rollout.Run != 1 {
		t.Errorf("record %+v after %d runs", end.Status.Rollout.Waiting, end.Status.Rollout.Run)
	}

	t.edit(func(s *v1beta1.CanarySpec) {
		s.DependsOn = &v1beta1.DependsOn{Canaries: []v1beta1.CanaryReference{{Name: "front"}}}
	})
	for _, name := range []string{"front", "podinfo"} {
		t.untilCanary(name, "its refusal", heldBy(rollout.ReasonInvalidSpec, name+"."+t.ns+" is a cycle"))
	}
	t.edit(func(s *v1beta1.CanarySpec) { s.DependsOn = nil })

	t.untilCanary("front", "its recovery", func(c *v1beta1.Canary) bool { return !heldBy(rollout.ReasonInvalidSpec, "")(c) })

	gate.set(v1beta1.ConfirmPromotionHook, false)
	t.ship(v3)
	t.until("the gate", at(v1beta1.CanaryPhaseWaitingPromotion))
	canaries := t.flagger.FlaggerV1beta1().Canaries(t.ns)
	_, err = canaries.Patch(t.Context(), "front", types.MergePatchType, []byte(`{"spec":{"dependsOn":null}}`), metav1.PatchOptions{})
	t.must(err)
	t.shipTo("front", v3)
	waits := t.untilCanary("front", "its turn", heldBy(rollout.ReasonWaitingForTurn, "number 1 in the queue"))
	if got := waits.Status.Rollout.Waiting; got == nil || got.PositionInNamespace != 1 || got.Position != 0 {
		t.Errorf("record %+v", got)
	}
	gate.set(v1beta1.ConfirmPromotionHook, true)
	t.untilCanary("front", "the end of its last rollout", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.CanaryPhaseSucceeded && c.Status.Rollout.Run == 2
	})
	t.settled(v1beta1.CanaryPhaseSucceeded)
}

// TestSchedule freezes all rollouts by a flag. A change waits, an annotation lets it through, and the next one waits again. What can't be
// read of a schedule is refused at admission, or with a condition.
func TestSchedule(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	today := time.Now().UTC()
	t.operate("-rollout-freezes", today.AddDate(0, 0, -1).Format(time.DateOnly)+"/"+today.AddDate(0, 0, 7).Format(time.DateOnly))
	canaries := t.flagger.FlaggerV1beta1().Canaries(t.ns)
	schedule := func(s v1beta1.RolloutSchedule) func(*v1beta1.Canary) {
		return func(c *v1beta1.Canary) { c.Spec.Analysis.Schedule = &s }
	}
	for field, bad := range map[string]v1beta1.RolloutSchedule{
		"windows[0]": {Windows: []string{"Monday 9-17"}}, "freezes[0]": {Freezes: []string{"tomorrow"}}, "underWay": {UnderWay: "Stop"},
	} {
		_, err := canaries.Create(t.Context(), canary(schedule(bad)), metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "spec.analysis.schedule."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	t.create(canary(schedule(v1beta1.RolloutSchedule{Windows: []string{"Mon-Fri,Sat,Sun 00:00-24:00", "22:00-04:00"}, TimeZone: "Nowhere"})))
	t.until("its refusal", heldBy(rollout.ReasonInvalidSpec, "spec.analysis.schedule.timeZone"))
	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Schedule.TimeZone = "Asia/Kolkata" })
	t.settled(v1beta1.CanaryPhaseInitialized)

	t.ship(v2)
	t.until("it to wait", heldBy(rollout.ReasonWaitingForSchedule, "only within the flags -rollout-windows and -rollout-freezes, next at"))
	urgent := fmt.Sprintf(`{"metadata":{"annotations":{%q:"INC-1"}}}`, v1beta1.UrgentAnnotation)
	_, err := canaries.Patch(t.Context(), "podinfo", types.MergePatchType, []byte(urgent), metav1.PatchOptions{})
	t.must(err)
	if c := t.settled(v1beta1.CanaryPhaseSucceeded); c.Status.Rollout.Urgent == nil || c.Status.Rollout.Urgent.Run != 1 {
		t.Errorf("record %+v", c.Status.Rollout.Urgent)
	}
	t.ship(v3)
	t.until("the next one to wait", heldBy(rollout.ReasonWaitingForSchedule, "next at"))
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("the primary runs %s", image)
	}
}
