package cache

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache/cachetest"
)

// A pass that follows one that has written the status decodes nothing, unless the API server has made something else of what it was sent.
func TestWrittenStatusIsWhatIsDecodedOfIt(t *testing.T) {
	field := func(value any, path ...string) func(*unstructured.Unstructured) {
		return func(u *unstructured.Unstructured) { _ = unstructured.SetNestedField(u.Object, value, path...) }
	}
	for name, test := range map[string]struct {
		server func(*unstructured.Unstructured)
		known  bool
	}{
		"stored as sent":       {server: func(*unstructured.Unstructured) {}, known: true},
		"with managed fields":  {server: field([]any{map[string]any{"manager": "flagger"}}, "metadata", "managedFields"), known: true},
		"status changed":       {server: field(int64(7), "status", "canaryWeight")},
		"status extended":      {server: field("x", "status", "other")},
		"spec changed":         {server: field(true, "spec", "suspend")},
		"label added":          {server: field("x", "metadata", "labels", "team")},
		"deleted meanwhile":    {server: field("2026-01-02T03:04:05Z", "metadata", "deletionTimestamp")},
		"field pruned":         {server: func(u *unstructured.Unstructured) { unstructured.RemoveNestedField(u.Object, "status", "failedChecks") }},
		"field outside unlike": {server: field("x", "other")},
	} {
		t.Run(name, func(t *testing.T) {
			c, stored, err := writeStatus(t, test.server)
			if err != nil {
				t.Fatal(err)
			}
			if (c != nil) != test.known {
				t.Fatalf("got %v, want known: %v", c, test.known)
			}
			if want, err := Decode(stored); test.known && (err != nil || !equality.Semantic.DeepEqual(want, c) || !IsAt(c, stored)) {
				t.Errorf("got %+v,\nand decoded is %+v, %v", c, want, err)
			}
		})
	}
}

// writeStatus writes a status to a server that changes what it stores, and returns what is known of it then and what is stored.
func writeStatus(t *testing.T, server func(*unstructured.Unstructured)) (*v1beta1.Canary, *unstructured.Unstructured, error) {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "flagger.app/v1beta1", "kind": "Canary",
		"metadata": map[string]any{"name": "podinfo", "namespace": "test", "uid": "1", "resourceVersion": "10", "generation": int64(2)},
		"spec":     map[string]any{"analysis": map[string]any{"interval": "10s"}, "unknown": map[string]any{"field": 1.5}},
	}}
	client := fake.NewSimpleDynamicClient(runtime.NewScheme())
	var stored *unstructured.Unstructured
	client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		stored = action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured).DeepCopy()
		stored.SetResourceVersion("11")
		server(stored)
		return true, stored.DeepCopy(), nil
	})
	canaries, err := NewCanaries(NewCluster(Config{
		Client: client, Discovery: cachetest.NewDiscovery(), Clock: clocktesting.NewFakeClock(time.Unix(0, 0)),
	}), toolscache.Indexers{}, func(*unstructured.Unstructured) any { return nil }, func(_, _ *unstructured.Unstructured) {})
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := Decode(u)
	if err != nil {
		t.Fatal(err)
	}
	next := decoded.Status.DeepCopy()
	next.Phase, next.CanaryWeight = v1beta1.CanaryPhaseProgressing, 10
	// Nobody stores parts of a second.
	next.LastTransitionTime = metav1.NewTime(time.Unix(1_700_000_000, 123_456_789))
	next.Rollout = &v1beta1.RolloutStatus{Stage: "rollback", Outbox: []v1beta1.Notice{}}
	changed, err := Changed(&decoded.Status, next)
	if err != nil || changed == nil {
		t.Fatalf("got %v, %v", changed, err)
	}
	c, err := canaries.WriteStatus(t.Context(), u, decoded, changed)
	dropManagedFields(stored)
	return c, stored, err
}

// A message that is no UTF-8 is stored as another one. It must not be written in each pass.
func TestStatusIsComparedAsItIsStored(t *testing.T) {
	status := func(message string) *v1beta1.CanaryStatus {
		return &v1beta1.CanaryStatus{Conditions: []v1beta1.CanaryCondition{{Type: v1beta1.HealthyType, Message: message}}}
	}
	if changed, err := Changed(status("caf\uFFFD"), status("caf\xe9")); changed != nil || err != nil {
		t.Errorf("changed: %+v, %v", changed, err)
	}
	changed, err := Changed(status("tea"), status("caf\xe9"))
	if err != nil || changed == nil || changed.decoded.Conditions[0].Message != "caf\uFFFD" {
		t.Errorf("changed: %+v, %v", changed, err)
	}
}
