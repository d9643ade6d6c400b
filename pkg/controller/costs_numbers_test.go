package controller

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/workqueue"
)

// Reads come from caches: what a step costs the API server does not grow with what the workload refers to.
func TestIncidentB23_CallsDoNotGrowWithReferences(t *testing.T) {
	synctest.Test(t, testIncidentB23_CallsDoNotGrowWithReferences)
}

func testIncidentB23_CallsDoNotGrowWithReferences(t *testing.T) {
	few, many := callsOfSteps(t, 1), callsOfSteps(t, 25)
	if !slices.Equal(few, many) {
		t.Errorf("calls with 1 ConfigMap %v, with 25 %v", few, many)
	}
	if len(few) == 0 || len(few) > 6 {
		t.Errorf("three analysis steps take the calls %v", few)
	}
}

// callsOfSteps plays three steps of an analysis of a Deployment that reads n ConfigMaps, and returns the calls.
func callsOfSteps(t *testing.T, n int) []string {
	t.Helper()
	deployment := readyDeployment("podinfo", 2)
	var volumes []any
	objects := []*unstructured.Unstructured{deployment}
	for i := range n {
		config := settings()
		config.SetName(fmt.Sprintf("settings-%d", i))
		objects = append(objects, config)
		volumes = append(volumes, map[string]any{"name": config.GetName(), "configMap": map[string]any{"name": config.GetName()}})
	}
	deployment.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["volumes"] = volumes
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["analysis"] = map[string]any{"interval": "1m", "threshold": int64(1), "iterations": int64(10)}
	a := newAPI(t, append(objects, canary)...)
	l := newLoop(t, a, 1).trackConfigs().start()
	defer l.end()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	step := func(i int32) {
		l.until("a step", func() bool { return a.canary("podinfo").Status.Iterations == i })
		l.untilIdle()
	}
	step(2)
	a.reset()
	step(5)
	calls := a.recorded()
	slices.Sort(calls)
	return calls
}

// Whoever does not want the operator to see Secrets turns the tracking of configs off. Then it asks for none of them.
func TestD04_WithoutTrackingNothingIsRead(t *testing.T) {
	synctest.Test(t, testD04_WithoutTrackingNothingIsRead)
}

func testD04_WithoutTrackingNothingIsRead(t *testing.T) {
	a := newAPI(t, readingSettings("podinfo"), settings(), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	l.end()
	for _, action := range a.client.Actions() {
		if resource := action.GetResource().Resource; resource == "secrets" || resource == "configmaps" {
			t.Errorf("%s %s", action.GetVerb(), resource)
		}
	}
}

// C-14: Canaries that are to take their next step at the same instant do not all do so.
func TestC14_WakesOfOneInstantAreSpread(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	q := workqueue.NewQueue(clock)
	defer q.ShutDown()
	const keys = 200
	wake := clock.Now().Add(time.Minute)
	for i := range keys {
		q.Succeeded(fmt.Sprint(i), wake)
	}
	clock.Step(time.Minute + 100*time.Millisecond)
	eventually(t, "some steps", func() bool { return q.Len() > 0 })
	if n := q.Len(); n > keys/2 {
		t.Errorf("%d of %d steps within a tenth of a second", n, keys)
	}
	clock.Step(2 * time.Second)
	eventually(t, "all steps", func() bool { return q.Len() == keys })
}
