package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// story drops what depends on timing: the reports of pods that are on their way.
func story(events []string) []string {
	return slices.DeleteFunc(events, func(e string) bool { return strings.Contains(e, "waiting for rollout to finish") })
}

func TestPromotionAndRollback(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(2))
	t.operate()
	t.create(canary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	if n, _ := t.replicas("podinfo"); n != 0 {
		t.Errorf("the target keeps %d replicas", n)
	}

	t.ship(v2)
	for _, weight := range []int32{20, 40, 60} {
		t.until("weight", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == weight })
		// The route follows the status; the next step is a second away.
		if _, w := t.weights("istio"); w != int64(weight) && w != int64(weight-20) {
			t.Errorf("route has weight %d at step %d", w, weight)
		}
	}
	done := t.settled(v1beta1.CanaryPhaseSucceeded)
	if n, image := t.replicas("podinfo-primary"); n != 2 || image != v2 {
		t.Errorf("primary has %d replicas of %s", n, image)
	}
	if p, c := t.weights("istio"); p != 100 || c != 0 {
		t.Errorf("routes end at %d/%d", p, c)
	}
	if done.Status.LastPromotedSpec != done.Status.Rollout.Target.FlaggerHash {
		t.Errorf("promoted %s, analyzed %s", done.Status.LastPromotedSpec, done.Status.Rollout.Target.Fingerprint)
	}

	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseFailed)
	if n, image := t.replicas("podinfo-primary"); n != 2 || image != v2 {
		t.Errorf("primary has %d replicas of %s after a rollback", n, image)
	}
	if n, _ := t.replicas("podinfo"); n != 0 {
		t.Errorf("a failed canary keeps %d replicas", n)
	}
	ns := "." + t.ns
	want := append(promoted(ns),
		"N New revision detected! Scaling up podinfo"+ns,
		"N Starting canary analysis for podinfo"+ns,
		"N Advance podinfo"+ns+" canary weight 20",
		"W Halt podinfo"+ns+" advancement constant 50.00 < 99",
		"W Halt podinfo"+ns+" advancement constant 50.00 < 99",
		"W Rolling back podinfo"+ns+" failed checks threshold reached 2",
		"W Canary failed! Scaling down podinfo"+ns,
	)
	if diff := cmp.Diff(want, story(t.events())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestRestart(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.operate()
	t.create(canary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.until("weight 40", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 40 })
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if _, image := t.replicas("podinfo-primary"); image != v3 {
		t.Errorf("primary runs %s", image)
	}
	events := t.events()
	if n := count(events, "Restarting analysis for podinfo."+t.ns); n != 1 {
		t.Errorf("restart told %d times in %q", n, events)
	}
	if n := count(events, "Copying"); n != 1 {
		t.Errorf("%d copies in %q", n, events)
	}
}

func TestBlueGreenWithoutMesh(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.operate()
	t.create(canary(func(c *v1beta1.Canary) {
		c.Spec.Provider = "kubernetes"
		a := c.Spec.Analysis
		a.StepWeight, a.MaxWeight, a.Iterations = 0, 0, 2
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	ns := "." + t.ns
	want := []string{
		"N Starting canary analysis for podinfo" + ns,
		"N Advance podinfo" + ns + " canary iteration 1/2",
		"N Advance podinfo" + ns + " canary iteration 2/2",
		"N Copying podinfo" + ns + " template spec to podinfo-primary" + ns,
		"N Promotion completed! Scaling down podinfo" + ns,
	}
	if diff := cmp.Diff(want, story(t.events())[3:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func count(events []string, text string) (n int) {
	for _, e := range events {
		if strings.Contains(e, text) {
			n++
		}
	}
	return n
}
