package cache

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/controller/cache/cachetest"
	"flagger.app/flagger/pkg/router/services"
)

// C-05: an object that was deleted while the watch was broken is known to be gone.
func TestC05_TombstoneIsADeletion(t *testing.T) {
	var deleted []string
	h := handler(func(old, current *packed) {
		if current == nil {
			deleted = append(deleted, old.object().GetName())
		}
	})
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Key: "test/podinfo", Obj: packedService("1")})
	h.OnDelete(packedService("1"))
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Key: "test/podinfo", Obj: "nonsense"})
	if !slices.Equal(deleted, []string{"podinfo", "podinfo"}) {
		t.Errorf("deletions %v", deleted)
	}
}

func TestUnchangedObjectIsNoEvent(t *testing.T) {
	events := 0
	h := handler(func(_, _ *packed) { events++ })
	h.OnUpdate(packedService("1"), packedService("1"))
	if events != 0 {
		t.Error("a relist of an unchanged object is an event")
	}
	h.OnUpdate(packedService("1"), packedService("2"))
	if events != 1 {
		t.Error("a changed object is no event")
	}
}

// watcher is a cluster that is watched, and whom that woke.
type watcher struct {
	*Cluster
	client *fake.FakeDynamicClient
	server *cachetest.Discovery
	clock  *clocktesting.FakeClock
	mu     sync.Mutex
	woken  []string
}

// newWatcher watches a cluster with one Service until the end of the test, which runs in a bubble.
func newWatcher(t *testing.T) *watcher {
	w := &watcher{
		clock: clocktesting.NewFakeClock(time.Unix(0, 0)), server: cachetest.NewDiscovery(),
		client: fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{serviceResource: "ServiceList"}, service("1")),
	}
	w.server.Serve("v1", "services")
	w.Cluster = NewCluster(Config{
		Client: w.client, Discovery: w.server, Clock: w.clock,
		OnEvent: func(Event) {},
		OnState: func(_ schema.GroupVersionResource, waiters []string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.woken = append(w.woken, waiters...)
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	w.Start(ctx, &wait)
	t.Cleanup(func() {
		stop()
		wait.Wait()
	})
	return w
}

// settle lets everything happen that is due. The informers of client-go have timers of their own, for which a second passes.
func (w *watcher) settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestResourceIsReadableOnceSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(t)
		if _, err := w.Get(services.Ref("test", "podinfo")); err == nil {
			t.Error("read from a cache that was never filled: nothing there would look like a missing object")
		}
		if state, _ := w.Ensure(serviceResource, "test/podinfo"); state != Syncing {
			t.Errorf("state %v before anything was read", state)
		}
		w.settle()
		if !slices.Contains(w.woken, "test/podinfo") {
			t.Error("the one who waits was not woken")
		}
		if state, _ := w.Ensure(serviceResource, "test/podinfo"); state != Synced {
			t.Errorf("state %v after the wake", state)
		}
		if u, err := w.Get(services.Ref("test", "podinfo")); err != nil || u == nil {
			t.Errorf("got %v, %v", u, err)
		}
	})
}

func TestMissingResourceIsFoundWhenItIsInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(t)
		w.server.Unserve("v1")
		w.Ensure(serviceResource, "test/podinfo")
		w.settle()
		if state, reason := w.Ensure(serviceResource, "test/podinfo"); state != Missing || !strings.Contains(reason, "services (v1) is not installed") {
			t.Errorf("state %v, %s", state, reason)
		}
		w.server.Serve("v1", "services")
		w.clock.Step(lookForMissing)
		w.settle()
		if state, reason := w.Ensure(serviceResource, "test/podinfo"); state != Synced {
			t.Errorf("state %v, %s", state, reason)
		}
	})
}

func TestUnreachableDiscoveryIsNotAMissingResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(t)
		w.server.Fail(errors.New("no route to host"))
		w.Ensure(serviceResource, "test/podinfo")
		w.settle()
		if state, reason := w.Ensure(serviceResource, "test/podinfo"); state != Syncing || !strings.Contains(reason, "no route to host") {
			t.Errorf("state %v, %s", state, reason)
		}
	})
}

// A resource that is served and can't be listed must not be asked for without a pause.
func TestUnknownResourceIsNotAskedForInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lists := newWatcher(t), 0
		w.client.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
			lists++
			return lists <= 5, nil, apierrors.NewNotFound(schema.GroupResource{}, "")
		})
		w.Ensure(serviceResource, "test/podinfo")
		w.settle()
		if lists != 1 {
			t.Errorf("%d lists without a pause", lists)
		}
		for range 5 {
			w.clock.Step(watchAgain)
			w.settle()
		}
		if state, reason := w.Ensure(serviceResource, "test/podinfo"); state != Synced {
			t.Errorf("state %v, %s", state, reason)
		}
	})
}

func TestDroppedManagedFields(t *testing.T) {
	u := service("1")
	if err := unstructured.SetNestedSlice(u.Object, []any{map[string]any{"manager": "kubectl"}}, "metadata", "managedFields"); err != nil {
		t.Fatal(err)
	}
	dropManagedFields(u)
	if u.GetManagedFields() != nil || u.GetName() != "podinfo" {
		t.Errorf("got %v", u.Object)
	}
}
