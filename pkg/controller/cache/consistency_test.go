package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/fake"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/router/services"
)

var serviceResource = services.Ref("", "").Resource

func service(version string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Service"}}
	u.SetNamespace("test")
	u.SetName("podinfo")
	u.SetResourceVersion(version)
	return u
}

func packObject(u *unstructured.Unstructured) *packed {
	p, err := newCodec().newPacker(entriesOf).pack(u)
	if err != nil {
		panic(err)
	}
	return p
}

func packedService(version string) *packed { return packObject(service(version)) }

func watchesAll(schema.GroupVersionResource) bool { return true }

// ControllerRevisions are such: whole templates, one for each promotion.
func TestWritesThatNobodyReadsAreNotKept(t *testing.T) {
	w := newConsistency(clocktesting.NewFakeClock(time.Unix(0, 0)), func(schema.GroupVersionResource) bool { return false })
	w.record(serviceResource, service("10"))
	if len(w.objects) != 0 || len(w.order) != 0 {
		t.Errorf("the answer is kept until another one comes: %v", w.objects)
	}
}

func TestOwnWritesAreReadBackUntilTheCacheShowsThem(t *testing.T) {
	w := newConsistency(clocktesting.NewFakeClock(time.Unix(0, 0)), watchesAll)
	o := KeyOfObject(serviceResource, service("1"))
	w.record(serviceResource, service("10"))
	for _, step := range []struct {
		name   string
		cached *packed
		want   string
	}{
		{"not in the cache yet", nil, "10"},
		// As texts "9" is more than "10": versions are numbers.
		{"older in the cache", packedService("9"), "10"},
		{"newer in the cache", packedService("11"), "11"},
		{"the cache wins for good", packedService("9"), "9"},
	} {
		if got := w.newest(o, step.cached).version(); got.number != step.want {
			t.Errorf("%s: version %s without the object, want %s", step.name, got.number, step.want)
		}
		if got := w.newest(o, step.cached).object(); got.GetResourceVersion() != step.want {
			t.Errorf("%s: version %s, want %s", step.name, got.GetResourceVersion(), step.want)
		}
	}
}

func TestDeletedObjectIsNotReadBack(t *testing.T) {
	w := newConsistency(clocktesting.NewFakeClock(time.Unix(0, 0)), watchesAll)
	o := KeyOfObject(serviceResource, service("1"))
	w.record(serviceResource, service("10"))
	w.onEvent(serviceResource, packedService("10"), nil)
	if got := w.newest(o, nil).object(); got != nil {
		t.Fatalf("got version %s of a deleted object", got.GetResourceVersion())
	}
}

// An informer may tell of a deletion after the object was made again.
func TestLateDeletionIsNotOfItsSuccessor(t *testing.T) {
	w := newConsistency(clocktesting.NewFakeClock(time.Unix(0, 0)), watchesAll)
	again := service("11")
	again.SetUID("2")
	w.record(serviceResource, again)
	w.onEvent(serviceResource, packedService("10"), nil)
	if got := w.newest(KeyOfObject(serviceResource, again), nil).object(); got == nil {
		t.Error("what was made anew is taken for deleted")
	}
}

func TestMissedDeletionIsBelievedAfterAWhile(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	w := newConsistency(clock, watchesAll)
	o := KeyOfObject(serviceResource, service("1"))
	w.record(serviceResource, service("10"))
	clock.Step(writtenFor + time.Second)
	if got := w.newest(o, nil).object(); got != nil {
		t.Fatal("an object that no cache shows was believed in forever")
	}
}

func TestEveryWriteIsRecorded(t *testing.T) {
	ctx := context.Background()
	for name, write := range map[string]func(recordingClient, *unstructured.Unstructured) error{
		"create": func(c recordingClient, u *unstructured.Unstructured) error {
			u.SetName("other")
			_, err := c.Resource(serviceResource).Namespace("test").Create(ctx, u, metav1.CreateOptions{})
			return err
		},
		"update": func(c recordingClient, u *unstructured.Unstructured) error {
			_, err := c.Resource(serviceResource).Namespace("test").Update(ctx, u, metav1.UpdateOptions{})
			return err
		},
		"status": func(c recordingClient, u *unstructured.Unstructured) error {
			_, err := c.Resource(serviceResource).Namespace("test").UpdateStatus(ctx, u, metav1.UpdateOptions{})
			return err
		},
		"patch": func(c recordingClient, _ *unstructured.Unstructured) error {
			_, err := c.Resource(serviceResource).Namespace("test").Patch(ctx, "podinfo", types.MergePatchType, []byte(`{"spec":{"type":"NodePort"}}`), metav1.PatchOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newConsistency(clocktesting.NewFakeClock(time.Unix(0, 0)), watchesAll)
			client := recordingClient{fake.NewSimpleDynamicClient(runtime.NewScheme(), service("1")), w}
			u := service("2")
			if err := write(client, u); err != nil {
				t.Fatal(err)
			}
			if w.newest(KeyOfObject(serviceResource, u), nil).object() == nil {
				t.Fatal("the answer was not recorded")
			}
		})
	}
}

// Nothing may ever read what was written: the API server is asked for it by other means, or its Canary is gone.
func TestWrittenIsBounded(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	w := newConsistency(clock, watchesAll)
	write := func(i int) {
		u := service("10")
		u.SetName(fmt.Sprint(i))
		w.record(serviceResource, u)
	}
	for i := range maxWritten + 5 {
		write(i)
	}
	if len(w.objects) != maxWritten {
		t.Errorf("%d answers of one instant are kept, may be %d", len(w.objects), maxWritten)
	}
	clock.Step(writtenFor + time.Second)
	write(0)
	if len(w.objects) != 1 || len(w.order) != 1 {
		t.Errorf("%d answers are kept of which one is young", len(w.objects))
	}
	shown := service("11")
	shown.SetName("0")
	w.onEvent(serviceResource, nil, packObject(shown))
	if len(w.objects) != 0 {
		t.Error("an answer is kept that an informer has shown")
	}
}
