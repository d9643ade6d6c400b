package controller

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// A Canary that names another target makes nothing for it, says so, and goes on where it was once it names the previous one.
func TestAnotherTarget(t *testing.T) { synctest.Test(t, testAnotherTarget) }

func testAnotherTarget(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), readyDeployment("other", 2), usersService("podinfo"), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	deployments, selector := a.deployments(), selectorOf(a, "podinfo")

	a.edit(canaryResource, "podinfo", "other", "spec", "targetRef", "name")
	l.until("a condition that names the field", func() bool {
		healthy := l.healthy("podinfo")
		return healthy.Reason == string(rollout.ReasonInvalidSpec) && strings.HasPrefix(healthy.Message, "spec.targetRef: ")
	})
	l.atRest("podinfo")
	if diff := cmp.Diff(deployments, a.deployments()); diff != "" {
		t.Errorf("Deployments (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(selector, selectorOf(a, "podinfo")); diff != "" || replicasOf(a, "other") != 2 || replicasOf(a, primaryOf("podinfo")) != 2 {
		t.Errorf("%d pods of the other target, selector (-before +after):\n%s", replicasOf(a, "other"), diff)
	}
	told := func(m string) bool { return strings.HasPrefix(m, "spec.targetRef: ") }
	if !slices.ContainsFunc(l.messages(), told) {
		t.Errorf("no event names the field: %q", l.messages())
	}

	a.edit(canaryResource, "podinfo", "podinfo", "spec", "targetRef", "name")
	l.until("the Canary to be healthy", func() bool { return l.healthy("podinfo").Status == corev1.ConditionTrue })
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
}
