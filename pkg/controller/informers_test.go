package controller

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
)

// C-05: an object that was deleted while the watch was broken is known to be gone.
func TestC05_TombstoneIsADeletion(t *testing.T) {
	var deleted []string
	h := handler(func(old, current *unstructured.Unstructured) {
		if current == nil {
			deleted = append(deleted, old.GetName())
		}
	})
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "test/podinfo", Obj: service("1")})
	h.OnDelete(service("1"))
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "test/podinfo", Obj: "nonsense"})
	if !slices.Equal(deleted, []string{"podinfo", "podinfo"}) {
		t.Errorf("deletions %v", deleted)
	}
}

func TestUnchangedObjectIsNoEvent(t *testing.T) {
	events := 0
	h := handler(func(_, _ *unstructured.Unstructured) { events++ })
	h.OnUpdate(service("1"), service("1"))
	if events != 0 {
		t.Error("a relist of an unchanged object is an event")
	}
	h.OnUpdate(service("1"), service("2"))
	if events != 1 {
		t.Error("a changed object is no event")
	}
}

// watcher runs informers until the end of the test and records what they tell.
type watcher struct {
	*informers
	clock *clocktesting.FakeClock
	mu    sync.Mutex
	woken []string
}

func watch(t *testing.T, a *api) *watcher {
	w := &watcher{clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	c := a.cluster()
	w.informers = &informers{
		client: c.Dynamic, discovery: c.Discovery, clock: w.clock,
		onEvent: func(schema.GroupVersionResource, *unstructured.Unstructured, *unstructured.Unstructured) {},
		onState: func(_ schema.GroupVersionResource, waiters []string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.woken = append(w.woken, waiters...)
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	w.start(ctx, &wait)
	t.Cleanup(func() {
		stop()
		wait.Wait()
	})
	return w
}

func (w *watcher) wokenOnce(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.woken, key)
}

func TestResourceIsReadableOnceSynced(t *testing.T) {
	synctest.Test(t, testResourceIsReadableOnceSynced)
}

func testResourceIsReadableOnceSynced(t *testing.T) {
	a := newAPI(t, service("1"))
	w := watch(t, a)
	o := keyOfObject(serviceResource, service("1"))
	if _, err := w.get(o); err == nil {
		t.Error("read from a cache that was never filled: nothing there would look like a missing object")
	}
	if state, _ := w.ensure(serviceResource, "test/podinfo"); state != synced {
		eventually(t, "the one who waits to be woken", func() bool { return w.wokenOnce("test/podinfo") })
	}
	if state, _ := w.ensure(serviceResource, "test/podinfo"); state != synced {
		t.Errorf("state %v after the wake", state)
	}
	if u, err := w.get(o); err != nil || u == nil {
		t.Errorf("got %v, %v", u, err)
	}
}

func TestMissingResourceIsFoundWhenItIsInstalled(t *testing.T) {
	synctest.Test(t, testMissingResourceIsFoundWhenItIsInstalled)
}

func testMissingResourceIsFoundWhenItIsInstalled(t *testing.T) {
	a := newAPI(t, service("1"))
	a.unserve("v1")
	w := watch(t, a)
	w.ensure(serviceResource, "test/podinfo")
	eventually(t, "the resource to be missed", func() bool {
		state, reason := w.ensure(serviceResource, "test/podinfo")
		return state == missing && strings.Contains(reason, "services (v1) is not installed")
	})
	a.serve("v1", "services")
	eventually(t, "the resource to be found", func() bool {
		w.clock.Step(lookForMissing)
		state, _ := w.ensure(serviceResource, "test/podinfo")
		return state == synced
	})
}

func TestUnreachableDiscoveryIsNotAMissingResource(t *testing.T) {
	synctest.Test(t, testUnreachableDiscoveryIsNotAMissingResource)
}

func testUnreachableDiscoveryIsNotAMissingResource(t *testing.T) {
	a := newAPI(t)
	w := watch(t, a)
	w.discovery = failingDiscovery{w.discovery}
	w.ensure(serviceResource, "test/podinfo")
	eventually(t, "the reason", func() bool {
		state, reason := w.ensure(serviceResource, "test/podinfo")
		if state == missing {
			t.Fatal("a failed read was taken for a missing resource")
		}
		return strings.Contains(reason, "no route to host")
	})
}

func TestDroppedManagedFields(t *testing.T) {
	u := service("1")
	if err := unstructured.SetNestedSlice(u.Object, []any{map[string]any{"manager": "kubectl"}}, "metadata", "managedFields"); err != nil {
		t.Fatal(err)
	}
	if _, err := dropManagedFields(u); err != nil {
		t.Fatal(err)
	}
	if u.GetManagedFields() != nil || u.GetName() != "podinfo" {
		t.Errorf("got %v", u.Object)
	}
}
