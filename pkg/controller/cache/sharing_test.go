package cache

import (
	"fmt"
	"reflect"
	"runtime"
	"testing"

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

// newCompactor has an empty store.
func newCompactor() toolscache.TransformFunc {
	return (&informers{shared: newSharing()}).compactor(toolscache.NewStore(toolscache.MetaNamespaceKeyFunc))
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

// Of what a Deployment takes as it is decoded, the cache keeps half.
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
	decoded, compacted := load(trim), load(newCompactor())
	t.Logf("a Deployment takes %d bytes as decoded, %d as cached", decoded, compacted)
	if compacted > decoded*6/10 {
		t.Errorf("a Deployment takes %d bytes as decoded and %d as cached, want 60 %% at the most", decoded, compacted)
	}
}

func TestCompactKeepsWhatIsThere(t *testing.T) {
	compact := newCompactor()
	for app := range 3 {
		want, err := trim(decodedDeployment(t, app))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := compact(decodedDeployment(t, app))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("error %v, the cache has\n%v\nof\n%v", err, got, want)
			}
			// Informers may ask for it twice, while others read what it shares: the race detector would tell.
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = got.(*unstructured.Unstructured).DeepCopy()
			}()
			if again, err := compact(got); err != nil || !reflect.DeepEqual(again, want) {
				t.Fatalf("error %v, the second time the cache has\n%v\nof\n%v", err, again, want)
			}
			<-done
		}
	}
}

// Values that print alike and mean something else are not taken for each other.
func TestSharingTellsValuesApart(t *testing.T) {
	s := newSharing()
	for range 2 {
		for _, value := range []any{
			int64(1), 1.0, "1", true, nil, []any{}, []any(nil), map[string]any{}, map[string]any(nil), []any{nil}, []any{map[string]any{}},
			map[string]any{"a": nil}, map[string]any{"a": int64(1)}, map[string]any{"a": 1.0}, map[string]any{"b": int64(1)}, []any{"a", "b"}, []any{"b", "a"},
		} {
			if got := s.object(nil, map[string]any{"v": map[string]any{"v": value}}); !reflect.DeepEqual(got["v"], map[string]any{"v": value}) {
				t.Errorf("%#v became %#v", value, got["v"])
			}
		}
	}
}

// Most events are about an object of which a part has changed.
func TestNextVersionSharesWhatStayed(t *testing.T) {
	store := toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)
	compact := (&informers{shared: newSharing()}).compactor(store)
	first, err := compact(decodedDeployment(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(first); err != nil {
		t.Fatal(err)
	}
	next := decodedDeployment(t, 1)
	next.SetResourceVersion("2")
	next.Object["status"].(map[string]any)["replicas"] = int64(2)
	kept, err := compact(next)
	if err != nil {
		t.Fatal(err)
	}
	spec := func(item any) uintptr {
		return reflect.ValueOf(item.(*unstructured.Unstructured).Object["spec"]).Pointer()
	}
	if spec(first) != spec(kept) {
		t.Error("the spec is there twice")
	}
	if got := kept.(*unstructured.Unstructured); got.GetResourceVersion() != "2" || got.Object["status"].(map[string]any)["replicas"] != int64(2) {
		t.Errorf("the cache has %v", got)
	}
	if got := first.(*unstructured.Unstructured); got.GetResourceVersion() == "2" || got.Object["status"].(map[string]any)["replicas"] != int64(1) {
		t.Errorf("the version before has become %v", got)
	}
}

func BenchmarkCompact(b *testing.B) {
	store := toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)
	compact := (&informers{shared: newSharing()}).compactor(store)
	objects := make([]*unstructured.Unstructured, 200)
	for app := range objects {
		objects[app] = decodedDeployment(b, app)
	}
	for _, name := range []string{"new", "known"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if _, err := compact(objects[n%len(objects)]); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, u := range objects {
			changed := u.DeepCopy()
			changed.SetResourceVersion("2")
			changed.Object["status"].(map[string]any)["replicas"] = int64(2)
			if err := store.Add(changed); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		decodedDeployment(b, 1)
	}
}
