package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/rollout"
)

// C-04: a Canary that is refused says so, and goes on by itself when the cause is mended, be it in the Canary or elsewhere.
func TestC04_RefusedCanaryIsToldAndGoesOn(t *testing.T) {
	synctest.Test(t, testC04_RefusedCanaryIsToldAndGoesOn)
}

func testC04_RefusedCanaryIsToldAndGoesOn(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "nothing"
	a := newAPI(t, canary)
	l := newLoop(t, a, 1).start()
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(rollout.ReasonInvalidSpec) })
	if got := l.healthy("podinfo").Message; !strings.Contains(got, "spec.provider") || !strings.Contains(got, "nothing") {
		t.Errorf("message %q", got)
	}
	l.until("an event", func() bool { return strings.Contains(strings.Join(l.messages(), "\n"), "spec.provider") })

	a.edit(canaryResource, "podinfo", "kubernetes", "spec", "provider")
	l.until("the next fault", func() bool { return l.healthy("podinfo").Reason == string(rollout.ReasonTargetNotFound) })
	a.put(readyDeployment("podinfo", 2))
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}

// C-06: the update handler made calls inside of the callback of the informer, and finalization slept in a worker.
func TestC06_HandlersMakeNoCalls(t *testing.T) { synctest.Test(t, testC06_HandlersMakeNoCalls) }

func testC06_HandlersMakeNoCalls(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	l.end()
	a.reset()
	old := a.get(canaryResource, "podinfo")
	changed := old.DeepCopy()
	changed.SetResourceVersion("999999")
	if err := unstructured.SetNestedField(changed.Object, int64(7), "spec", "analysis", "threshold"); err != nil {
		t.Fatal(err)
	}
	deployment := a.get(deploymentResource, "podinfo")
	for range 3 {
		l.onCanary(old, changed)
		l.onCanary(changed, nil)
		l.onObject(cache.Event{
			Resource: deploymentResource, ReadAs: cache.KeyOfObject(deploymentResource, deployment),
			Old: func() *unstructured.Unstructured { return deployment }, Current: func() *unstructured.Unstructured { return nil },
		})
		l.onResource(deploymentResource, nil)
	}
	if calls := a.recorded(); len(calls) != 0 {
		t.Errorf("handlers called %v", calls)
	}
}

// C-09: every second write fails. The rollout comes to the same end, and says each thing once.
func TestC09_EveryWriteMayFail(t *testing.T) { synctest.Test(t, testC09_EveryWriteMayFail) }

func testC09_EveryWriteMayFail(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	var mu sync.Mutex
	failed := map[string]int{}
	a.failWith(func(call string) error {
		if strings.HasPrefix(call, "get ") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		failed[call]++
		if failed[call]%2 == 1 {
			return apierrors.NewInternalError(errors.New("etcd is away"))
		}
		return nil
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	l.atRest("podinfo")
	color, _, _ := unstructured.NestedString(a.get(deploymentResource, primaryOf("podinfo")).Object, "spec", "template", "metadata", "labels", "color")
	if color != "blue" || replicasOf(a, primaryOf("podinfo")) != 2 || replicasOf(a, "podinfo") != 0 {
		t.Errorf("primary of color %q with %d pods, target with %d", color, replicasOf(a, primaryOf("podinfo")), replicasOf(a, "podinfo"))
	}
	for _, want := range []string{"Initialization done! podinfo.test", "Promotion completed! Scaling down podinfo.test"} {
		count := 0
		for _, m := range l.messages() {
			if m == want {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%q was told %d times in %q", want, count, l.messages())
		}
	}
}

// C-10: a write that meets another writer is repeated on top of what that one wrote, at once and without an error.
func TestC10_ForeignWriteInBetweenSurvives(t *testing.T) {
	synctest.Test(t, testC10_ForeignWriteInBetweenSurvives)
}

func testC10_ForeignWriteInBetweenSurvives(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	var interfere atomic.Bool
	a.client.PrependReactor("patch", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
		if interfere.CompareAndSwap(true, false) {
			a.edit(serviceResource, "podinfo", "theirs", "spec", "sessionAffinity")
		}
		return false, nil, nil
	})
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	l.untilIdle()
	interfere.Store(true)
	a.edit(serviceResource, "podinfo", map[string]any{"app": "nobody"}, "spec", "selector")
	l.until("the selector to be ours again", func() bool {
		selector, _, _ := unstructured.NestedString(a.get(serviceResource, "podinfo").Object, "spec", "selector", "app")
		return selector == "podinfo-primary"
	})
	affinity, _, _ := unstructured.NestedString(a.get(serviceResource, "podinfo").Object, "spec", "sessionAffinity")
	if affinity != "theirs" {
		t.Errorf("what somebody else wrote in between is %q", affinity)
	}
	if errors := l.logs.FilterMessage("pass failed").Len(); errors != 0 {
		t.Errorf("%d errors were logged about it", errors)
	}
}

// C-12: a status write sends everything else back as it was read, fields that are unknown to us included.
func TestC12_StatusWriteCarriesNothingElse(t *testing.T) {
	synctest.Test(t, testC12_StatusWriteCarriesNothingElse)
}

func testC12_StatusWriteCarriesNothingElse(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["fromTheFuture"] = map[string]any{"a": int64(1)}
	canary.SetAnnotations(map[string]string{"theirs": "kept"})
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	var mu sync.Mutex
	var wrong []string
	a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		update := action.(clienttesting.UpdateAction)
		sent := update.GetObject().(*unstructured.Unstructured).DeepCopy()
		stored := a.get(canaryResource, sent.GetName())
		delete(sent.Object, "status")
		delete(stored.Object, "status")
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff(stored.Object, sent.Object); diff != "" || update.GetSubresource() != "status" {
			wrong = append(wrong, fmt.Sprintf("update of %q: %s", update.GetSubresource(), diff))
		}
		return false, nil, nil
	})
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.end()
	if len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
}

// C-13: the time of the next step stands in the status. A restart neither repeats a step nor takes the next one early.
func TestC13_RestartKeepsThePace(t *testing.T) { synctest.Test(t, testC13_RestartKeepsThePace) }

func testC13_RestartKeepsThePace(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["analysis"] = map[string]any{"interval": "1m", "threshold": int64(5), "iterations": int64(10)}
	withWebhooks(canary, map[string]any{"name": "step", "type": "rollout", "url": "http://gate.test"})
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	var mu sync.Mutex
	calls := 0
	count := func(context.Context, v1beta1.CanaryWebhook) hook.Result {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return hook.Result{Passed: true, Status: 200}
	}
	called := func() int {
		mu.Lock()
		defer mu.Unlock()
		return calls
	}
	first := newLoop(t, a, 1)
	first.hooks.answer = count
	first.start()
	first.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	// The call alone is not the step: a process that ends before it wrote the answer down has to ask again.
	first.until("the first step", func() bool { return called() > 0 && a.canary("podinfo").Status.Iterations > 1 })
	first.untilIdle()
	steps := called()
	first.end()

	second := newLoop(t, a, 1)
	second.clock.SetTime(first.clock.Now())
	second.hooks.answer = count
	second.start()
	eventually(t, "a pass", func() bool { return second.passes() > 0 })
	second.clock.SetTime(a.canary("podinfo").Status.Rollout.NextCheckAt.Add(-time.Second))
	second.untilIdle()
	if got := called(); got != steps {
		t.Fatalf("%d steps instead of %d before the next was due", got, steps)
	}
	second.until("the next step", func() bool { return called() > steps })
	if slices.Contains(second.messages(), "New revision detected! Scaling up podinfo.test") {
		t.Error("the restart began the run again")
	}
}

// D-01: the check was made once, when a Canary was registered. An update led around it.
func TestD01_UpdateToAnotherNamespaceIsRefused(t *testing.T) {
	synctest.Test(t, testD01_UpdateToAnotherNamespaceIsRefused)
}

func testD01_UpdateToAnotherNamespaceIsRefused(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	l.NoCrossNamespaceRefs = true
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(canaryResource, "podinfo", []any{map[string]any{
		"name": "errors", "interval": "1m", "thresholdRange": map[string]any{"max": int64(1)},
		"templateRef": map[string]any{"name": "secrets", "namespace": "other"},
	}}, "spec", "analysis", "metrics")
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(rollout.ReasonInvalidSpec) })
	if got := l.healthy("podinfo").Message; !strings.Contains(got, "spec.analysis.metrics[0].templateRef") {
		t.Errorf("message %q", got)
	}
	l.passMinute()
	if got := l.phase("podinfo"); got != v1beta1.CanaryPhaseInitialized {
		t.Errorf("phase %s: the rollout went on", got)
	}
}
