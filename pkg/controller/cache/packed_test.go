package cache

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	toolscache "k8s.io/client-go/tools/cache"
)

// deploymentJSON is a Deployment as an API server sends it, of one of many applications.
func deploymentJSON(app int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"app-%[1]d","namespace":"perf","uid":"0a-%[1]d",
"resourceVersion":"%[1]d17","generation":2,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"app-%[1]d","team":"a"},
"annotations":{"deployment.kubernetes.io/revision":"2"},"managedFields":[{"manager":"kubectl","fieldsV1":{"f:spec":{"f:replicas":{}}}}]},
"spec":{"replicas":1,"selector":{"matchLabels":{"app":"app-%[1]d","team":"a"}},"template":{"metadata":{"labels":{"app":"app-%[1]d","team":"a"}},
"spec":{"containers":[{"name":"app","image":"example.com/app:1","ports":[{"name":"http","containerPort":9898,"protocol":"TCP"}],
"envFrom":[{"configMapRef":{"name":"app-%[1]d-settings"}}],"resources":{},"terminationMessagePath":"/dev/termination-log",
"terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent","command":null,"args":[]}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,
"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler"}},"strategy":{"type":"RollingUpdate",
"rollingUpdate":{"maxUnavailable":"25%%","maxSurge":"25%%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600},
"status":{"observedGeneration":2,"replicas":1,"readyReplicas":1,"availableReplicas":1,"updatedReplicas":1,
"conditions":[{"type":"Available","status":"True","reason":"MinimumReplicasAvailable","message":"Deployment has minimum availability."}]}}`, app)
}

func decodedDeployment(tb testing.TB, app int) *unstructured.Unstructured {
	tb.Helper()
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(deploymentJSON(app), &u.Object); err != nil {
		tb.Fatal(err)
	}
	return u
}

// liveBytes is by how much the heap grows by what keep returns.
func liveBytes(keep func() any) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := keep()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// Of what a Deployment takes as it is decoded, the cache keeps a quarter.
func TestCachedObjectsAreSmall(t *testing.T) {
	const apps = 500
	load := func(transform func(any) (any, error)) int64 {
		return liveBytes(func() any {
			var all []any
			for app := range apps {
				kept, err := transform(decodedDeployment(t, app))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, kept)
			}
			return all
		}) / apps
	}
	decoded, stored := load(trim), load(newCodec().newPacker(entriesOf).transform)
	t.Logf("a Deployment takes %d bytes as decoded, %d as cached", decoded, stored)
	if stored > decoded/4 {
		t.Errorf("a Deployment takes %d bytes as decoded and %d as cached, want a quarter at the most", decoded, stored)
	}
}

// oddities has what JSON tells apart and what prints alike.
const oddities = `{"apiVersion":"v1","kind":"Odd","metadata":{"name":"odd","namespace":"test","uid":"u","resourceVersion":"7"},"values":[1,1.0,-0.0,0.0,-0,
9223372036854775807,-9223372036854775808,9223372036854775808,1e21,1e-9,0.1,2.50,"1",true,false,null,"",[],{},[[]],[[],[null,[1,[2.0]]]],
{"":{"a":null,"b":{},"c":[]}},"\"\\\u0000\u2028ä😀<&>"]}`

func packJSON(t *testing.T, k *packer, data []byte) (p *packed, want *unstructured.Unstructured) {
	t.Helper()
	decode := func() *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal(data, &u.Object); err != nil {
			t.Fatal(err)
		}
		return u
	}
	kept, err := k.transform(decode())
	if err != nil {
		t.Fatal(err)
	}
	want = decode()
	dropManagedFields(want)
	return kept.(*packed), want
}

// What is decoded is gone after a collection of garbage, if nobody has it. Then it is decoded anew, and the same again.
func TestPackedObjectIsWhatItWas(t *testing.T) {
	k := newCodec().newPacker(entriesOf)
	for name, data := range map[string][]byte{"deployment": deploymentJSON(1), "odd": []byte(oddities)} {
		t.Run(name, func(t *testing.T) {
			p, want := packJSON(t, k, data)
			for range 2 {
				if got := p.object(); !reflect.DeepEqual(got, want) || !sameZeros(got, want) {
					t.Fatalf("the cache has\n%v\nof\n%v", got, want)
				}
				runtime.GC()
				if p.present(nil) != nil {
					t.Fatal("the decoded object is kept for nobody")
				}
			}
			if p.GetNamespace() != want.GetNamespace() || p.GetName() != want.GetName() || p.at() != VersionOf(want) {
				t.Errorf("it is called %s/%s at %v", p.GetNamespace(), p.GetName(), p.at())
			}
			if !reflect.DeepEqual(p.GetLabels(), want.GetLabels()) || p.GetGeneration() != want.GetGeneration() {
				t.Errorf("it has labels %v and generation %d", p.GetLabels(), p.GetGeneration())
			}
		})
	}
}

// sameZeros tells 0 from -0, which are equal.
func sameZeros(a, b *unstructured.Unstructured) bool {
	return fmt.Sprint(a.Object) == fmt.Sprint(b.Object)
}

// A pass that follows an event, and all that have the object, decode it once.
func TestDecodedObjectIsShared(t *testing.T) {
	p, _ := packJSON(t, newCodec().newPacker(entriesOf), deploymentJSON(1))
	runtime.GC()
	first := p.object()
	runtime.GC()
	if p.object() != first {
		t.Error("it was decoded twice")
	}
	if n := testing.AllocsPerRun(10, func() { p.object() }); n != 0 {
		t.Errorf("to get what is there takes %v allocations", n)
	}
	runtime.KeepAlive(first)
}

// client-go may hand in again what it was given, while others read it: the race detector would tell.
func TestPackingTwiceChangesNothing(t *testing.T) {
	k := newCodec().newPacker(entriesOf)
	p, want := packJSON(t, k, deploymentJSON(1))
	var readers sync.WaitGroup
	readers.Go(func() { _ = p.object().DeepCopy() })
	for _, item := range []any{p, any("nonsense")} {
		if again, err := k.transform(item); err != nil || again != item {
			t.Errorf("error %v, %v became %v", err, item, again)
		}
	}
	readers.Wait()
	if !reflect.DeepEqual(p.object(), want) {
		t.Errorf("the cache has\n%v\nof\n%v", p.object(), want)
	}
}

func TestManyUnpackAtOnce(t *testing.T) {
	p, want := packJSON(t, newCodec().newPacker(entriesOf), deploymentJSON(1))
	for range 20 {
		runtime.GC()
		got := make([]*unstructured.Unstructured, 8)
		var readers sync.WaitGroup
		for i := range got {
			readers.Go(func() { got[i] = p.object() })
		}
		readers.Wait()
		for _, u := range got {
			if u != got[0] || !reflect.DeepEqual(u, want) {
				t.Fatalf("one has %p, another %p: %v", got[0], u, u)
			}
		}
	}
}

// Almost every event is of no interest. To find that out takes no decoding.
func TestEventsDecodeNothing(t *testing.T) {
	slice := func(version string) *packed {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}}
		u.SetNamespace("test")
		u.SetName("podinfo-x7")
		u.SetResourceVersion(version)
		u.SetLabels(map[string]string{"kubernetes.io/service-name": "podinfo"})
		return packObject(u)
	}
	old, current := slice("1"), slice("2")
	runtime.GC()
	changed, deleted := eventOf(slicesResource(), old, current), eventOf(slicesResource(), old, nil)
	for _, e := range []Event{changed, deleted} {
		if e.ReadAs != KeyOfRef(SlicesRef("test", "podinfo")) {
			t.Errorf("an EndpointSlice is read as %v", e.ReadAs)
		}
	}
	if changed.Version != current.at() || deleted.Version.IsKnown() {
		t.Errorf("versions %v and %v", changed.Version, deleted.Version)
	}
	if old.present(nil) != nil || current.present(nil) != nil {
		t.Error("objects were decoded that nobody asked for")
	}
	if changed.Old().GetResourceVersion() != "1" || changed.Current().GetResourceVersion() != "2" || deleted.Current() != nil {
		t.Errorf("it became %v of %v, and %v", changed.Current(), changed.Old(), deleted.Current())
	}
}

// An object is found by its names and by what it belongs to, also when nothing of it is decoded any more.
func TestStoreOfPackedObjects(t *testing.T) {
	slice := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}}
	slice.SetNamespace("test")
	slice.SetName("podinfo-x7")
	slice.SetLabels(map[string]string{"kubernetes.io/service-name": "podinfo"})
	owned := service("1")
	owned.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Canary", UID: "canary", Controller: new(true)}})
	store := toolscache.NewIndexer(toolscache.DeletionHandlingMetaNamespaceKeyFunc, toolscache.Indexers{byOwner: indexByOwner, ofService: indexByService})
	for _, u := range []*unstructured.Unstructured{slice, owned, decodedDeployment(t, 1)} {
		if err := store.Add(packObject(u)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	for _, c := range []struct{ index, value, want string }{{byOwner, "canary", "podinfo"}, {ofService, "test/podinfo", "podinfo-x7"}} {
		items, err := store.ByIndex(c.index, c.value)
		if all := unpackAll(items); err != nil || len(all) != 1 || all[0].GetName() != c.want {
			t.Errorf("the index %s has %v, %v", c.index, all, err)
		}
	}
	for _, key := range []string{"test/podinfo", "test/podinfo-x7", "perf/app-1"} {
		item, _, _ := store.GetByKey(key)
		if u := unpack(item); u == nil || Key(u) != key {
			t.Errorf("%s is %v", key, u)
		}
		if err := store.Delete(toolscache.DeletedFinalStateUnknown{Key: key, Obj: item}); err != nil {
			t.Error(err)
		}
	}
	if left := store.List(); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func BenchmarkPack(b *testing.B) {
	k := newCodec().newPacker(entriesOf)
	u := decodedDeployment(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.transform(u); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	p := packObject(decodedDeployment(b, 1))
	b.Run("anew", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.packer.decode(p.text)
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		u := p.object()
		for b.Loop() {
			p.object()
		}
		runtime.KeepAlive(u)
	})
}
