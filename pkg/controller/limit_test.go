package controller

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/rollout"
)

// limited is what -max-concurrent-rollouts does.
func (l *loop) limited(n int) *loop {
	l.Settings.MaxRollouts, l.limit.max = n, n
	return l
}

// fleet is a number of Canaries whose pods read the same ConfigMap.
func fleet(n int) (names []string, objects []*unstructured.Unstructured) {
	objects = append(objects, settings())
	for i := range n {
		name := fmt.Sprintf("app-%d", i)
		names = append(names, name)
		objects = append(objects, readingSettings(name), canaryFor(name))
	}
	return names, objects
}

// underWay counts the rollouts under way, as stored.
func (a *api) underWay(names []string) (n int) {
	for _, name := range names {
		if rollout.UnderWay(a.canary(name).Status.Phase) {
			n++
		}
	}
	return n
}

// most watches, at each write of a status, how many rollouts are under way.
func most(a *api, names []string) func() int {
	var mu sync.Mutex
	highest := 0
	a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		u := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured)
		mu.Lock()
		defer mu.Unlock()
		n := a.underWay(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == u.GetName() }))
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		if rollout.UnderWay(v1beta1.CanaryPhase(phase)) {
			n++
		}
		highest = max(highest, n)
		return false, nil, nil
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return highest
	}
}

func (l *loop) untilAll(names []string, want v1beta1.CanaryPhase) {
	l.t.Helper()
	l.until("all to be "+string(want), func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return l.phase(name) != want })
	})
}

func (l *loop) count(message func(string) bool) (n int) {
	for _, m := range l.messages() {
		if message(m) {
			n++
		}
	}
	return n
}

// C-14: Canaries that share a ConfigMap all start at once when it changes. With a limit they take turns, each is rolled out
// once and with the newest state, and a restart forgets none.
func TestC14_RolloutsTakeTurns(t *testing.T) { synctest.Test(t, testC14_RolloutsTakeTurns) }

func testC14_RolloutsTakeTurns(t *testing.T) {
	names, objects := fleet(7)
	a := newAPI(t, objects...)
	highest := most(a, names)
	first := newLoop(t, a, 4).trackConfigs().limited(2).start()
	first.untilAll(names, v1beta1.CanaryPhaseInitialized)
	for _, name := range names {
		first.atRest(name)
	}
	a.edit(configMapResource, "settings", "two", "data", "message")
	first.until("two to succeed", func() bool {
		n := 0
		for _, name := range names {
			if first.phase(name) == v1beta1.CanaryPhaseSucceeded {
				n++
			}
		}
		return n >= 2
	})
	waiting := func(m string) bool { return strings.Contains(m, "-max-concurrent-rollouts") }
	first.until("all to have told that they wait", func() bool { return first.count(waiting) >= len(names)-2 })
	if got := first.count(waiting); got != len(names)-2 {
		t.Errorf("%d events of waiting, want one for each of %d: %q", got, len(names)-2, first.messages())
	}
	first.end()

	second := newLoop(t, a, 4).trackConfigs().limited(2)
	second.clock.SetTime(first.clock.Now())
	second.start()
	second.untilAll(names, v1beta1.CanaryPhaseSucceeded)
	if got := highest(); got != 2 {
		t.Errorf("%d rollouts were under way at the same time, want 2", got)
	}
	for _, name := range names {
		if got := a.canary(name).Status.Rollout.Run; got != 1 {
			t.Errorf("%s was rolled out %d times", name, got)
		}
	}
}

// C-14: without the flag nobody waits.
func TestC14_NoLimitByDefault(t *testing.T) { synctest.Test(t, testC14_NoLimitByDefault) }

func testC14_NoLimitByDefault(t *testing.T) {
	names, objects := fleet(4)
	a := newAPI(t, objects...)
	highest := most(a, names)
	l := newLoop(t, a, 4).trackConfigs().start()
	l.untilAll(names, v1beta1.CanaryPhaseInitialized)
	a.edit(configMapResource, "settings", "two", "data", "message")
	eventually(t, "all to start", func() bool { return a.underWay(names) == len(names) })
	if got := highest(); got != len(names) {
		t.Errorf("%d rollouts were under way at the same time", got)
	}
}

// C-14: who waited longest comes first, whatever the names.
func TestC14_FirstComeFirstServed(t *testing.T) { synctest.Test(t, testC14_FirstComeFirstServed) }

func testC14_FirstComeFirstServed(t *testing.T) {
	names, objects := fleet(4)
	a := newAPI(t, objects...)
	l := newLoop(t, a, 4).limited(1).start()
	l.untilAll(names, v1beta1.CanaryPhaseInitialized)
	order := []string{"app-2", "app-3", "app-0", "app-1"}
	for i, name := range order {
		a.edit(deploymentResource, name, "blue", "spec", "template", "metadata", "labels", "color")
		eventually(t, name+" to be seen", func() bool {
			return i == 0 && rollout.UnderWay(l.phase(name)) || l.healthy(name).Reason == string(rollout.ReasonWaitingForTurn)
		})
		l.clock.Step(2 * time.Second)
	}
	// What app-3 asks for while it waits is what is rolled out.
	a.edit(deploymentResource, "app-3", "green", "spec", "template", "metadata", "labels", "color")
	l.untilAll(names, v1beta1.CanaryPhaseSucceeded)
	l.atRest(order[3])
	var started []string
	for _, entry := range l.logs.FilterMessageSnippet("New revision detected! Scaling up").All() {
		started = append(started, strings.TrimSuffix(strings.TrimPrefix(entry.Message, "New revision detected! Scaling up "), ".test"))
	}
	if !slices.Equal(started, order) {
		t.Errorf("order %q, want %q", started, order)
	}
	color, _, _ := unstructured.NestedString(a.get(deploymentResource, primaryOf("app-3")).Object, "spec", "template", "metadata", "labels", "color")
	if color != "green" {
		t.Errorf("color %q was promoted", color)
	}
}

// C-14: a Canary whose status can't be written takes the turn from nobody for long, however many passes run at a time.
func TestC14_OneThatCannotStartHoldsUpNobody(t *testing.T) {
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d workers", workers), inBubble(func(t *testing.T) {
			names, objects := fleet(3)
			a := newAPI(t, objects...)
			var broken atomic.Bool
			a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
				u := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured)
				phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
				if broken.Load() && u.GetName() == "app-1" && phase == "Progressing" {
					return true, nil, apierrors.NewInternalError(errors.New("etcd is away"))
				}
				return false, nil, nil
			})
			l := newLoop(t, a, workers).limited(1).start()
			l.untilAll(names, v1beta1.CanaryPhaseInitialized)
			broken.Store(true)
			for _, name := range names {
				a.edit(deploymentResource, name, "blue", "spec", "template", "metadata", "labels", "color")
				eventually(t, name+" to be seen", func() bool {
					return rollout.UnderWay(l.phase(name)) || l.healthy(name).Reason == string(rollout.ReasonWaitingForTurn)
				})
				l.clock.Step(2 * time.Second)
			}
			l.untilPhase("app-0", v1beta1.CanaryPhaseSucceeded)
			l.untilPhase("app-2", v1beta1.CanaryPhaseSucceeded)
			broken.Store(false)
			l.untilPhase("app-1", v1beta1.CanaryPhaseSucceeded)
		}))
	}
}

// turns is a limit over a cache that the test fills, and who was woken.
func turns(t *testing.T, n int, canaries ...*unstructured.Unstructured) (*limit, *[]string) {
	t.Helper()
	woken := &[]string{}
	q := workqueue.NewQueue(clocktesting.NewFakeClock(time.Unix(0, 0)))
	store := &fakeTurns{toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{
		byTurn: func(item any) ([]string, error) { return turnsOf(item.(*unstructured.Unstructured)), nil },
	})}
	l := newLimit(&rollout.Settings{MaxRollouts: n}, store, q)
	l.failing = func(key string) bool { return strings.Contains(key, "broken") }
	l.wake = func(key string) { *woken = append(*woken, key) }
	for _, u := range canaries {
		store.put(t, u)
	}
	return l, woken
}

// fakeTurns is a store of Canaries that is none of an informer.
type fakeTurns struct{ toolscache.Indexer }

func (s *fakeTurns) put(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	if err := s.Update(u); err != nil {
		t.Fatal(err)
	}
}

func (s *fakeTurns) KeysBy(index, value string) []string {
	keys, _ := s.IndexKeys(index, value)
	return keys
}

func (s *fakeTurns) Excerpts(index, value string) (all []any) {
	items, _ := s.ByIndex(index, value)
	for _, item := range items {
		all = append(all, waiting(item.(*unstructured.Unstructured)))
	}
	return all
}

// othersFirst is whether a Canary has to wait.
func (l *limit) othersFirst(u *unstructured.Unstructured, now time.Time) bool {
	first, _ := l.standing(u, now)
	return first
}

func inPhase(name string, phase v1beta1.CanaryPhase) *unstructured.Unstructured {
	u := canaryFor(name)
	u.Object["status"] = map[string]any{"phase": string(phase)}
	return u
}

// waitingSince is a Canary that waits for its turn since a second of a minute.
func waitingSince(name string, second int) *unstructured.Unstructured {
	u := inPhase(name, v1beta1.CanaryPhaseSucceeded)
	u.Object["status"].(map[string]any)["conditions"] = []any{map[string]any{
		"type": "Healthy", "status": "False", "reason": string(rollout.ReasonWaitingForTurn),
		"lastTransitionTime": fmt.Sprintf("2026-01-02T03:04:%02dZ", second),
	}}
	return u
}

func TestC14_StartsThatTheCacheDoesNotShowCount(t *testing.T) {
	l, woken := turns(t, 2, inPhase("running", v1beta1.CanaryPhaseFinalising), inPhase("idle", v1beta1.CanaryPhaseFailed), waitingSince("waiting", 1))
	now := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	if !l.begin("test/a") || l.begin("test/b") || !l.begin("test/a") {
		t.Error("two places, of which one is taken, are one more")
	}
	l.withdraw("test/b", now)
	if len(*woken) > 0 {
		t.Errorf("%q were woken, and nobody made way", *woken)
	}
	l.withdraw("test/a", now)
	if !slices.Equal(*woken, []string{"test/waiting"}) || !l.begin("test/b") {
		t.Errorf("%q were woken when a start was not made", *woken)
	}
	started := inPhase("b", v1beta1.CanaryPhaseProgressing)
	l.canaries.(*fakeTurns).put(t, started)
	l.onCanary(nil, started, now)
	if len(l.starting) > 0 || l.begin("test/c") {
		t.Error("a rollout that the cache shows by now counts once")
	}
	ended := inPhase("b", v1beta1.CanaryPhaseSucceeded)
	l.canaries.(*fakeTurns).put(t, ended)
	*woken = nil
	l.onCanary(started, ended, now)
	if !slices.Equal(*woken, []string{"test/waiting"}) {
		t.Errorf("%q were woken when a rollout ended", *woken)
	}
}

func TestC14_OrderOfTurns(t *testing.T) {
	deleted := waitingSince("deleted", 1)
	deleted.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
	second, first, same := waitingSince("a-second", 3), waitingSince("z-first", 2), waitingSince("b-same", 3)
	l, woken := turns(t, 2, second, first, same, waitingSince("broken", 1), deleted)
	now := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	for _, c := range []struct {
		canary *unstructured.Unstructured
		waits  bool
	}{
		{first, false}, {second, false}, {same, true}, {inPhase("new", v1beta1.CanaryPhaseSucceeded), true},
	} {
		if got, _ := l.standing(c.canary, now); got != c.waits {
			t.Errorf("%s waits: %t, want %t", c.canary.GetName(), got, c.waits)
		}
	}
	l.wakeNext(now)
	if !slices.Equal(*woken, []string{"test/z-first", "test/a-second"}) {
		t.Errorf("woken %q", *woken)
	}
}

// C-14: whoever failed to start comes after those who have waited since before. A place is given back at once only where it is
// certain that nothing was stored.
func TestC14_FailedStartComesLast(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC)
	for name, c := range map[string]struct {
		cause error
		woken []string
	}{
		"refused":  {apierrors.NewForbidden(schema.GroupResource{}, "first", errors.New("denied")), []string{"test/second"}},
		"too many": {fmt.Errorf("canary test/first: %w", apierrors.NewTooManyRequests("later", 1)), []string{"test/second"}},
		"broken":   {apierrors.NewInternalError(errors.New("etcd timed out")), nil},
		"cut off":  {io.ErrUnexpectedEOF, nil},
	} {
		t.Run(name, func(t *testing.T) {
			first, second, third := waitingSince("first", 1), waitingSince("second", 2), waitingSince("third", 40)
			l, woken := turns(t, 1, first, second)
			if l.othersFirst(first, now) || !l.begin("test/first") {
				t.Fatal("the first may not begin")
			}
			l.unstored("test/first", isRefused(c.cause), now)
			if !slices.Equal(*woken, c.woken) {
				t.Errorf("%q were woken, want %q", *woken, c.woken)
			}
			l.withdraw("test/first", now)
			if !l.othersFirst(first, now) || l.othersFirst(second, now) {
				t.Error("who failed to start goes first again")
			}
			if err := l.canaries.(*fakeTurns).Delete(second); err != nil {
				t.Fatal(err)
			}
			if err := l.canaries.(*fakeTurns).Add(third); err != nil {
				t.Fatal(err)
			}
			if l.othersFirst(first, now) || !l.othersFirst(third, now) {
				t.Error("who failed to start comes after one that came later")
			}
			l.forget("test/first", now)
			if len(l.failed)+len(l.starting) > 0 {
				t.Errorf("what is gone is remembered: %v, %v", l.failed, l.starting)
			}
		})
	}
}

// in moves a Canary to another namespace.
func in(namespace string, u *unstructured.Unstructured) *unstructured.Unstructured {
	u.SetNamespace(namespace)
	return u
}

// toldPlaces writes into the status what was told of the place in the queue.
func toldPlaces(u *unstructured.Unstructured, since string, position, inNamespace int64) *unstructured.Unstructured {
	u.Object["status"].(map[string]any)["rollout"] = map[string]any{"waiting": map[string]any{
		"since": since, "position": position, "positionInNamespace": inNamespace,
	}}
	return u
}

// A namespace that is full holds up nobody of another, and its own changes keep their places.
func TestTurnsOfNamespaces(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	shop1, shop2 := in("shop", waitingSince("first", 1)), in("shop", waitingSince("second", 2))
	bank, news := in("bank", waitingSince("third", 3)), in("news", waitingSince("fourth", 4))
	l, woken := turns(t, 3, in("shop", inPhase("running", v1beta1.CanaryPhaseProgressing)), shop1, shop2, bank, news)
	l.perNamespace = 1
	for _, c := range []struct {
		canary *unstructured.Unstructured
		waits  bool
		place  rollout.QueueFact
	}{
		{shop1, true, rollout.QueueFact{Position: 1, InNamespace: 1}},
		{shop2, true, rollout.QueueFact{Position: 2, InNamespace: 2}},
		{bank, false, rollout.QueueFact{Position: 3, InNamespace: 1}},
		{news, false, rollout.QueueFact{Position: 4, InNamespace: 1}},
		{in("bank", inPhase("new", v1beta1.CanaryPhaseSucceeded)), true, rollout.QueueFact{Position: 5, InNamespace: 2}},
	} {
		if waits, place := l.standing(c.canary, now); waits != c.waits || place != c.place {
			t.Errorf("%s waits: %t at %+v, want %t at %+v", c.canary.GetName(), waits, place, c.waits, c.place)
		}
	}
	l.wakeNext(now)
	if !slices.Equal(*woken, []string{"bank/third", "news/fourth"}) {
		t.Errorf("woken %q", *woken)
	}
	if l.begin("shop/first") || !l.begin("bank/third") || l.begin("bank/other") || !l.begin("news/fourth") || l.begin("free/last") {
		t.Error("more may begin than there is room for")
	}
	l.max = 0
	if waits, place := l.standing(shop2, now); !waits || place != (rollout.QueueFact{InNamespace: 2}) {
		t.Errorf("without the other limit it waits: %t at %+v", waits, place)
	}
}

// The place follows the record of the wait, which outlives what the condition says, and is written anew when half of the way is left.
func TestPlaceIsWrittenAnewAtHalfTheWay(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	var all []*unstructured.Unstructured
	for i, written := range []int64{2, 3, 6, 8, 1} {
		since := fmt.Sprintf("2026-01-02T03:00:00.%06dZ", i)
		all = append(all, toldPlaces(waitingSince(fmt.Sprintf("app-%d", 9-i), 50-i), since, written, 0))
	}
	l, woken := turns(t, 1, append(all, inPhase("running", v1beta1.CanaryPhaseProgressing))...)
	l.wakeMoved(now)
	// They are at 1, 2, 3, 4 and 5 by now.
	if want := []string{"test/app-9", "test/app-7", "test/app-6"}; !slices.Equal(*woken, want) {
		t.Errorf("woken %q, want %q", *woken, want)
	}
	gone := inPhase("app-9", v1beta1.CanaryPhaseProgressing)
	*woken = nil
	l.canaries.(*fakeTurns).put(t, gone)
	l.onCanary(all[0], gone, now)
	if want := []string{"test/app-8", "test/app-7", "test/app-6"}; !slices.Equal(*woken, want) {
		t.Errorf("%q were woken when one left the queue, want %q", *woken, want)
	}
}

// With a limit per namespace they take turns as well. Whatever the length of the queue, a Canary that waits in it writes its place a few
// times and tells it once, and the oldest change comes first.
func TestRolloutsOfANamespaceTakeTurns(t *testing.T) {
	synctest.Test(t, testRolloutsOfANamespaceTakeTurns)
}

func testRolloutsOfANamespaceTakeTurns(t *testing.T) {
	names, objects := fleet(9)
	a := newAPI(t, objects...)
	highest := most(a, names)
	writes := map[string][]int32{}
	var mu sync.Mutex
	a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		u := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured)
		mu.Lock()
		defer mu.Unlock()
		if place, ok, _ := unstructured.NestedInt64(u.Object, "status", "rollout", "waiting", "positionInNamespace"); ok {
			if all := writes[u.GetName()]; len(all) == 0 || all[len(all)-1] != int32(place) {
				writes[u.GetName()] = append(all, int32(place))
			}
		}
		return false, nil, nil
	})
	first := newLoop(t, a, 4, func(c *Config) { c.Settings.MaxRolloutsPerNamespace = 1 }).start()
	first.untilAll(names, v1beta1.CanaryPhaseInitialized)
	var order []string
	for i := range names {
		name := names[(i*4)%9]
		order = append(order, name)
		a.edit(deploymentResource, name, "blue", "spec", "template", "metadata", "labels", "color")
		eventually(t, name+" to be seen", func() bool {
			return i == 0 && rollout.UnderWay(first.phase(name)) || first.healthy(name).Reason == string(rollout.ReasonWaitingForTurn)
		})
		first.clock.Step(3 * time.Millisecond)
	}
	first.untilPhase(order[1], v1beta1.CanaryPhaseSucceeded)
	first.end()
	// The next leader knows the order.
	l := newLoop(t, a, 4, func(c *Config) { c.Settings.MaxRolloutsPerNamespace = 1 })
	l.clock.SetTime(first.clock.Now())
	l.start().untilAll(names, v1beta1.CanaryPhaseSucceeded)
	l.atRest(order[8])
	if got := highest(); got != 1 {
		t.Errorf("%d rollouts were under way at the same time", got)
	}
	ended := slices.SortedFunc(slices.Values(names), func(x, y string) int {
		return a.canary(x).Status.LastTransitionTime.Compare(a.canary(y).Status.LastTransitionTime.Time)
	})
	if !slices.Equal(ended, order) {
		t.Errorf("they ended in the order %q, want %q", ended, order)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := writes[order[8]]; !slices.Equal(got, []int32{8, 4, 2, 1}) {
		t.Errorf("the last one wrote the places %d", got)
	}
	told := first.count(func(m string) bool { return strings.Contains(m, "New revision of "+order[8]) })
	told += l.count(func(m string) bool { return strings.Contains(m, "New revision of "+order[8]) })
	if told != 1 {
		t.Errorf("the last one told %d times that it waits", told)
	}
	if waiting := a.canary(order[8]).Status.Rollout.Waiting; waiting != nil {
		t.Errorf("the record %+v outlives the wait", waiting)
	}
}
