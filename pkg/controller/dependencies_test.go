package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/rollout"
)

// behind makes a Canary depend on others, as name or namespace/name.
func behind(canary *unstructured.Unstructured, others ...string) *unstructured.Unstructured {
	var refs []any
	for _, other := range others {
		ref := map[string]any{"name": other}
		if namespace, name, ok := strings.Cut(other, "/"); ok {
			ref = map[string]any{"name": name, "namespace": namespace}
		}
		refs = append(refs, ref)
	}
	canary.Object["spec"].(map[string]any)["dependsOn"] = map[string]any{"canaries": refs}
	return canary
}

// ordered watches, at each write of a status, whether one begins before another has ended its rollout.
func ordered(t *testing.T, a *api, first, then string) {
	a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		u := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured)
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		if u.GetName() == then && phase == "Progressing" && a.canary(first).Status.Phase != v1beta1.CanaryPhaseSucceeded {
			t.Errorf("%s begins while %s is %s", then, first, a.canary(first).Status.Phase)
		}
		return false, nil, nil
	})
}

func (a *api) ship(name, color string) {
	a.edit(deploymentResource, name, color, "spec", "template", "metadata", "labels", "color")
}

// without takes a field away.
func (a *api) without(resource schema.GroupVersionResource, name string, path ...string) {
	u := a.get(resource, name)
	unstructured.RemoveNestedField(u.Object, path...)
	a.put(u)
}

// One commit changes three, in the worst order, and the operator is killed meanwhile: they are rolled out one after the other, each once.
func TestDependsOn(t *testing.T) { synctest.Test(t, testDependsOn) }

func testDependsOn(t *testing.T) {
	names := []string{"front", "middle", "back"}
	a := newAPI(t, readyDeployment("front", 2), readyDeployment("middle", 2), readyDeployment("back", 2),
		behind(canaryFor("front"), "middle"), behind(canaryFor("middle"), "test/back"), canaryFor("back"))
	ordered(t, a, "back", "middle")
	ordered(t, a, "middle", "front")
	first := newLoop(t, a, 4).start()
	first.untilAll(names, v1beta1.CanaryPhaseInitialized)
	for _, name := range names {
		first.atRest(name)
		a.ship(name, "blue")
	}
	first.until("back to progress", func() bool { return first.phase("back") == v1beta1.CanaryPhaseProgressing })
	for _, name := range names[:2] {
		if got := first.healthy(name); got.Reason != string(rollout.ReasonWaitingForCanaries) {
			t.Errorf("%s is not told to wait: %+v", name, got)
		}
	}
	first.end()
	l := newLoop(t, a, 4)
	l.clock.SetTime(first.clock.Now())
	l.start().untilAll(names, v1beta1.CanaryPhaseSucceeded)
	for _, name := range names {
		if got := a.canary(name).Status.Rollout; got.Run != 1 || got.Waiting != nil {
			t.Errorf("%s was rolled out %d times, and its record is %+v", name, got.Run, got.Waiting)
		}
	}
}

// Nobody waits for one that has not changed, but for the delay, and a Canary at rest does not follow those that it depends on.
func TestDependsOnOneThatHasNotChanged(t *testing.T) {
	synctest.Test(t, testDependsOnOneThatHasNotChanged)
}

func testDependsOnOneThatHasNotChanged(t *testing.T) {
	a := newAPI(t, readyDeployment("front", 2), readyDeployment("back", 2), behind(canaryFor("front"), "back"), canaryFor("back"))
	l := newLoop(t, a, 2).start()
	l.untilAll([]string{"front", "back"}, v1beta1.CanaryPhaseInitialized)
	l.atRest("front")
	var mu sync.Mutex
	written := 0
	a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if u := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured); u.GetName() == "front" {
			mu.Lock()
			defer mu.Unlock()
			written++
		}
		return false, nil, nil
	})
	a.ship("back", "blue")
	l.untilPhase("back", v1beta1.CanaryPhaseSucceeded)
	l.atRest("back")
	mu.Lock()
	if written != 0 {
		t.Errorf("%d writes for a Canary at rest", written)
	}
	mu.Unlock()
	start := l.clock.Now()
	a.ship("front", "blue")
	l.untilPhase("front", v1beta1.CanaryPhaseProgressing)
	if waited := l.clock.Since(start).Seconds(); waited < 10 || waited > 13 {
		t.Errorf("it began after %v seconds", waited)
	}
	l.untilPhase("front", v1beta1.CanaryPhaseSucceeded)
	if n := l.count(func(m string) bool { return strings.Contains(m, "dependsOn") }); n > 0 {
		t.Errorf("it tells that it waits: %q", l.messages())
	}
}

// What comes first fails, which is told at once, and is mended; or it does not exist, and is created.
func TestDependsOnOneThatFails(t *testing.T) { synctest.Test(t, testDependsOnOneThatFails) }

func testDependsOnOneThatFails(t *testing.T) {
	back := canaryFor("back")
	withWebhooks(back, map[string]any{"name": "test", "type": "rollout", "url": "http://tester"})
	a := newAPI(t, readyDeployment("front", 2), readyDeployment("back", 2), behind(canaryFor("front"), "back", "late"), back)
	ordered(t, a, "back", "front")
	l := newLoop(t, a, 2)
	var broken atomic.Bool
	broken.Store(true)
	l.hooks.set(func(context.Context, v1beta1.CanaryWebhook) hook.Result {
		return hook.Result{Passed: !broken.Load(), Status: 200}
	})
	l.start().untilAll([]string{"front", "back"}, v1beta1.CanaryPhaseInitialized)
	says := func(text string) func() bool {
		return func() bool { return strings.Contains(l.healthy("front").Message, text) }
	}
	a.ship("back", "blue")
	a.ship("front", "blue")
	l.until("it to say who is missing", says("late.test, which comes first (spec.dependsOn), does not exist"))
	a.put(readyDeployment("late", 2))
	a.put(canaryFor("late"))
	l.untilPhase("late", v1beta1.CanaryPhaseInitialized)
	l.until("it to say who failed", says("back.test, which comes first (spec.dependsOn), failed"))
	if l.phase("back") != v1beta1.CanaryPhaseFailed || l.phase("front") != v1beta1.CanaryPhaseInitialized {
		t.Errorf("phases %s and %s", l.phase("back"), l.phase("front"))
	}
	broken.Store(false)
	a.ship("back", "green")
	l.untilPhase("front", v1beta1.CanaryPhaseSucceeded)
	told := map[string]int{}
	for _, m := range l.messages() {
		if _, what, ok := strings.Cut(m, "(spec.dependsOn), "); ok {
			told[what]++
		}
	}
	for what, n := range told {
		if n > 2 {
			t.Errorf("%d events of %q", n, what)
		}
	}
}

// After the deadline the change is given up, or begins, as chosen; taking the change of the other back lets it begin before.
func TestDependsOnDeadline(t *testing.T) {
	for at, want := range map[string]v1beta1.CanaryPhase{
		"": v1beta1.CanaryPhaseFailed, v1beta1.AtDeadlineBegin: v1beta1.CanaryPhaseSucceeded, "taken back": v1beta1.CanaryPhaseSucceeded,
	} {
		t.Run(at, inBubble(func(t *testing.T) {
			front, back := behind(canaryFor("front"), "back"), canaryFor("back")
			withWebhooks(back, map[string]any{"name": "gate", "type": "confirm-rollout", "url": "http://gate"})
			d := front.Object["spec"].(map[string]any)["dependsOn"].(map[string]any)
			d["deadline"] = "20m"
			if at == v1beta1.AtDeadlineBegin {
				d["atDeadline"] = at
			}
			a := newAPI(t, readyDeployment("front", 2), readyDeployment("back", 2), front, back)
			l := newLoop(t, a, 2)
			l.hooks.set(func(context.Context, v1beta1.CanaryWebhook) hook.Result { return hook.Result{Status: 403} })
			l.start().untilAll([]string{"front", "back"}, v1beta1.CanaryPhaseInitialized)
			a.ship("front", "blue")
			a.ship("back", "blue")
			start := l.clock.Now()
			if at == "taken back" {
				l.untilPhase("back", v1beta1.CanaryPhaseWaiting)
				l.passMinute()
				a.without(deploymentResource, "back", "spec", "template", "metadata", "labels", "color")
				l.untilPhase("front", v1beta1.CanaryPhaseProgressing)
				if waited := l.clock.Since(start).Minutes(); waited > 2 {
					t.Errorf("it began after %v minutes", waited)
				}
			}
			l.untilPhase("front", want)
			l.atRest("front")
			if waited := l.clock.Since(start).Minutes(); at != "taken back" && (waited < 20 || waited > 22) {
				t.Errorf("it ended after %v minutes", waited)
			}
			alerts := slices.DeleteFunc(l.notifier.sent(), func(m string) bool { return !strings.Contains(m, "given up") })
			if (len(alerts) == 1) != (want == v1beta1.CanaryPhaseFailed) {
				t.Errorf("alerts %q", alerts)
			}
		}))
	}
}

// A circle is refused by all that are in it, with its way, and each goes on by itself once it is opened anywhere.
func TestDependsOnACycle(t *testing.T) { synctest.Test(t, testDependsOnACycle) }

func testDependsOnACycle(t *testing.T) {
	names := []string{"a", "b", "c"}
	api := newAPI(t, readyDeployment("a", 2), readyDeployment("b", 2), readyDeployment("c", 2),
		behind(canaryFor("a"), "b"), behind(canaryFor("b"), "c"), canaryFor("c"))
	l := newLoop(t, api, 2).start()
	l.untilAll(names, v1beta1.CanaryPhaseInitialized)
	api.edit(canaryResource, "c", map[string]any{"canaries": []any{map[string]any{"name": "a"}}}, "spec", "dependsOn")
	for i, way := range []string{"a.test → b.test → c.test → a.test", "b.test → c.test → a.test → b.test", "c.test → a.test → b.test → c.test"} {
		l.until(names[i]+" to be refused", func() bool {
			h := l.healthy(names[i])
			return h.Reason == string(rollout.ReasonInvalidSpec) && strings.Contains(h.Message, fmt.Sprintf("spec.dependsOn: %s is a cycle", way))
		})
	}
	api.ship("a", "blue")
	l.passMinute()
	if got := l.phase("a"); got != v1beta1.CanaryPhaseInitialized {
		t.Errorf("a is %s", got)
	}
	api.without(canaryResource, "c", "spec", "dependsOn")
	l.untilPhase("a", v1beta1.CanaryPhaseSucceeded)
	for _, name := range names {
		l.until(name+" to be healthy", func() bool { return l.healthy(name).Status != "False" })
	}
}

func TestDependsOnAnotherNamespaceMayBeRefused(t *testing.T) {
	synctest.Test(t, testDependsOnAnotherNamespaceMayBeRefused)
}

func testDependsOnAnotherNamespaceMayBeRefused(t *testing.T) {
	a := newAPI(t, readyDeployment("front", 2), behind(canaryFor("front"), "other/back"))
	l := newLoop(t, a, 1)
	l.NoCrossNamespaceRefs = true
	l.start().until("a condition", func() bool { return l.healthy("front").Reason == string(rollout.ReasonInvalidSpec) })
	if got := l.healthy("front").Message; !strings.Contains(got, "spec.dependsOn.canaries[0].namespace") {
		t.Errorf("message %q", got)
	}
}
