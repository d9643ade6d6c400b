package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/controller/sharding"
	"flagger.app/flagger/pkg/hook"
)

// someShards are all shards of these tests.
var someShards = []int{0, 1, 2, 3}

// replica is a loop that acts on shards.
type replica struct {
	*loop
	ends map[int]func()
}

// newReplica returns one that watches and has no shard yet.
func newReplica(t *testing.T, a *api, clock *clocktesting.FakeClock) *replica {
	t.Helper()
	r := &replica{ends: map[int]func(){}, loop: newLoop(t, a, 2, func(cfg *Config) { cfg.Clock, cfg.Shards = clock, len(someShards) })}
	r.clock = clock
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { r.Watch(ctx) })
	t.Cleanup(func() {
		for shard := range r.ends {
			r.give(shard)
		}
		cancel()
		wait.Wait()
	})
	return r
}

// take begins to act on shards.
func (r *replica) take(shards ...int) {
	r.t.Helper()
	for _, shard := range shards {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- r.RunShard(ctx, shard) }()
		r.ends[shard] = func() {
			cancel()
			if err := <-ended; err != nil {
				r.t.Errorf("shard %d: %v", shard, err)
			}
		}
	}
}

// give gives up a shard, and returns when nothing is done for it any more.
func (r *replica) give(shard int) {
	r.ends[shard]()
	delete(r.ends, shard)
}

// worked are the shards that had passes since the last call, in their order.
func (r *replica) worked() []int {
	seen := map[int]bool{}
	for _, e := range r.logs.FilterMessage("pass").All() {
		name, namespace, _ := strings.Cut(e.ContextMap()["canary"].(string), ".")
		seen[sharding.Of(namespace+"/"+name, len(someShards))] = true
	}
	r.logs.TakeAll()
	return slices.Sorted(maps.Keys(seen))
}

// series are the names of the Canaries that have a phase, and the number of keys that wait.
func (r *replica) series() (names []string, waiting float64) {
	families, err := prometheus.Gatherers{r.Telemetry.Registry()}.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "flagger_canary_phase":
				for _, l := range m.GetLabel() {
					if l.GetName() == "name" {
						names = append(names, l.GetValue())
					}
				}
			case "workqueue_depth":
				waiting += m.GetGauge().GetValue()
			}
		}
	}
	return names, waiting
}

func newFakeTime() *clocktesting.FakeClock {
	return clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
}

// twelve are Canaries in every one of the shards.
func twelve() (names []string, objects []*unstructured.Unstructured) {
	for i := range 12 {
		names = append(names, fmt.Sprintf("app-%d", i))
		objects = append(objects, readyDeployment(names[i], 2), canaryFor(names[i]))
	}
	return names, objects
}

// Each Canary is worked on by who has its shard and by nobody else, also when shards move in the middle of rollouts.
func TestShardsAreWorkedOnByTheirHolders(t *testing.T) {
	synctest.Test(t, testShardsAreWorkedOnByTheirHolders)
}

func testShardsAreWorkedOnByTheirHolders(t *testing.T) {
	names, objects := twelve()
	a, clock := newAPI(t, objects...), newFakeTime()
	one, other := newReplica(t, a, clock), newReplica(t, a, clock)
	one.take(someShards...)
	for _, name := range names {
		one.untilPhase(name, v1beta1.CanaryPhaseInitialized)
		one.atRest(name)
	}
	if got := one.worked(); !slices.Equal(got, someShards) {
		t.Fatalf("no Canary is in some of the shards: %v", got)
	}
	for _, name := range names {
		a.edit(deploymentResource, name, name+":2", "spec", "template", "metadata", "annotations", "image")
	}
	one.until("a rollout under way", func() bool { return a.underWay(names) > 3 })
	one.give(2)
	one.give(3)
	one.worked()
	other.take(2, 3)
	for _, name := range names {
		one.untilPhase(name, v1beta1.CanaryPhaseSucceeded)
		one.atRest(name)
	}
	if mine, others := one.worked(), other.worked(); !slices.Equal(mine, []int{0, 1}) || !slices.Equal(others, []int{2, 3}) {
		t.Errorf("one worked on %v, the other on %v", mine, others)
	}
	mine, waiting := one.series()
	others, more := other.series()
	if all := slices.Sorted(slices.Values(append(mine, others...))); !slices.Equal(all, slices.Sorted(slices.Values(names))) || waiting+more != 0 {
		t.Errorf("series of %v, %v wait", all, waiting+more)
	}
	messages := append(one.messages(), other.messages()...)
	for _, name := range names {
		done := fmt.Sprintf("Promotion completed! Scaling down %s.test", name)
		if n := len(slices.DeleteFunc(slices.Clone(messages), func(m string) bool { return m != done })); n != 1 {
			t.Errorf("%s: told %d times that it is promoted", name, n)
		}
	}
}

// A shard that is given up has no call in flight any more, neither a write nor a question.
func TestShardIsGivenUpWithNothingInFlight(t *testing.T) {
	synctest.Test(t, testShardIsGivenUpWithNothingInFlight)
}

func testShardIsGivenUpWithNothingInFlight(t *testing.T) {
	names, objects := twelve()
	a, clock := newAPI(t, objects...), newFakeTime()
	one := newReplica(t, a, clock)
	asked, ended := 0, 0
	var mu sync.Mutex
	one.notifier.wait = make(chan struct{})
	one.take(someShards...)
	for _, name := range names {
		one.untilPhase(name, v1beta1.CanaryPhaseInitialized)
	}
	one.hooks.set(func(ctx context.Context, _ v1beta1.CanaryWebhook) (result hook.Result) {
		mu.Lock()
		asked++
		mu.Unlock()
		<-ctx.Done()
		mu.Lock()
		ended++
		mu.Unlock()
		return result
	})
	for _, name := range names {
		a.edit(canaryResource, name, []any{map[string]any{"name": "gate", "type": "confirm-rollout", "url": "http://gate"}}, "spec", "analysis", "webhooks")
		a.edit(deploymentResource, name, name+":2", "spec", "template", "metadata", "annotations", "image")
	}
	one.until("questions", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return asked-ended == len(names)
	})
	for _, shard := range someShards {
		one.give(shard)
	}
	mu.Lock()
	defer mu.Unlock()
	if asked != ended {
		t.Errorf("%d questions are still asked", asked-ended)
	}
	before := len(a.calls)
	for range 120 {
		one.step()
		settle()
	}
	if len(a.calls) != before {
		t.Errorf("%d calls for shards that were given up", len(a.calls)-before)
	}
}

// Who takes a shard over waits until its cache shows what the one before has written, and not for ever.
func TestShardIsTakenOverAtTheNewestState(t *testing.T) {
	synctest.Test(t, testShardIsTakenOverAtTheNewestState)
}

func testShardIsTakenOverAtTheNewestState(t *testing.T) {
	_, objects := twelve()
	a, clock := newAPI(t, objects...), newFakeTime()
	var mu sync.Mutex
	ahead, refused, watched := 1_000_000, true, false
	a.client.PrependReactor("list", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if !watched {
			return false, nil, nil
		}
		if refused {
			return true, nil, errors.New("etcd is away")
		}
		stored, err := a.client.Tracker().List(action.GetResource(), canaryResource.GroupVersion().WithKind("Canary"), "test")
		list, ok := stored.(*unstructured.UnstructuredList)
		if err != nil || !ok {
			return true, nil, err
		}
		for i := range list.Items {
			version, _ := strconv.Atoi(list.Items[i].GetResourceVersion())
			list.Items[i].SetResourceVersion(strconv.Itoa(version + ahead))
		}
		return true, list, nil
	})
	one := newReplica(t, a, clock)
	one.step()
	mu.Lock()
	watched = true
	mu.Unlock()
	one.take(0, 1)
	pass := func(seconds int) {
		for range seconds {
			one.step()
			settle()
		}
	}
	pass(10)
	if got := one.worked(); len(got) != 0 {
		t.Errorf("worked on %v with a cache that nobody has compared", got)
	}
	mu.Lock()
	refused = false
	mu.Unlock()
	pass(10)
	if got := one.worked(); len(got) != 0 {
		t.Errorf("worked on %v with a cache that is behind", got)
	}
	mu.Lock()
	ahead = 0
	mu.Unlock()
	one.take(2)
	pass(5)
	if got := one.worked(); !slices.Equal(got, []int{2}) {
		t.Errorf("worked on %v, and its cache is behind for all but 2", got)
	}
	pass(300)
	if got := one.worked(); !slices.Contains(got, 0) || !slices.Contains(got, 1) {
		t.Errorf("in the end worked on %v", got)
	}
}

// Shards that are taken together cost one list. One that is taken while a list is under way needs its own: it would lack what was
// written since that began.
func TestShardsTakenTogetherAreListedOnce(t *testing.T) {
	synctest.Test(t, testShardsTakenTogetherAreListedOnce)
}

func testShardsTakenTogetherAreListedOnce(t *testing.T) {
	_, objects := twelve()
	a := newAPI(t, objects...)
	lists, during := new(atomic.Int32), func() {}
	a.client.PrependReactor("list", "canaries", func(clienttesting.Action) (bool, runtime.Object, error) {
		if lists.Add(1); lists.Load() == 2 {
			during()
		}
		return false, nil, nil
	})
	one := newReplica(t, a, newFakeTime())
	one.step()
	settle()
	if n := lists.Swap(0); n != 1 {
		t.Fatalf("%d lists for the cache", n)
	}
	worked := func(shards ...int) {
		t.Helper()
		for range 5 {
			one.step()
			settle()
		}
		if got := one.worked(); !slices.Equal(got, shards) {
			t.Errorf("worked on %v, want %v", got, shards)
		}
	}
	one.take(0, 1, 2)
	settle()
	worked(0, 1, 2)
	if n := lists.Load(); n != 1 {
		t.Errorf("%d lists for three shards", n)
	}
	for shard := range 3 {
		one.give(shard)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	during = func() { go func() { ended <- one.RunShard(ctx, 3) }() }
	one.take(0)
	settle()
	worked(0, 3)
	if n := lists.Load(); n != 3 {
		t.Errorf("%d lists, of which one was under way when a shard was taken", n-1)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A shard that is given up keeps none from the list that it was to bring.
func TestListOutlivesItsShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, objects := twelve()
		one := newReplica(t, newAPI(t, objects...), newFakeTime())
		one.step()
		// The caches are looked at every 100 ms, by a clock that goes by itself.
		one.take(0)
		time.Sleep(time.Second)
		one.take(1)
		time.Sleep(time.Second)
		one.give(0)
		for range 5 {
			one.step()
			settle()
		}
		if n := one.logs.FilterMessageSnippet("taking over a shard").Len(); n != 0 {
			t.Errorf("%d failures were told of", n)
		}
		if got := one.worked(); !slices.Equal(got, []int{1}) {
			t.Errorf("worked on %v", got)
		}
	})
}

func TestFencedWriteIsNoFailure(t *testing.T) {
	t.Parallel()
	if err := fmt.Errorf("route: %w", &url.Error{Op: "Patch", Err: fence.ClosedError{}}); !isConflict(err) || isRefused(err) {
		t.Errorf("%v: conflict %t, refused %t", err, isConflict(err), isRefused(err))
	}
}

func TestShardIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newReplica(t, newAPI(t), newFakeTime())
		one.take(1)
		one.step()
		if err := one.RunShard(t.Context(), 1); err == nil {
			t.Error("one shard is worked on by two crews")
		}
	})
}

// The key of a Canary is what decides on its shard, in each version of the operator.
func TestShardsOfKeysStay(t *testing.T) {
	c := canaryFor("podinfo")
	if got := sharding.Of(cache.Key(c), 16); got != 9 {
		t.Errorf("%s is in shard %d", cache.Key(c), got)
	}
}
