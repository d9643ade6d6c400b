package e2e

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var kubeServices = schema.GroupVersionResource{Version: "v1", Resource: "services"}

const (
	opponent = "gitops"
	// fight is how long the other side goes on.
	fight = 20 * time.Second
)

// revert changes a field of the object named podinfo back to a value whenever somebody changes it, until stop is called.
func (t *team) revert(resource schema.GroupVersionResource, value any, path ...string) (stop func() (reverts int)) {
	t.Helper()
	objects := t.dynamic.Resource(resource).Namespace(t.ns)
	body := map[string]any{}
	t.must(unstructured.SetNestedField(body, value, path...))
	patch, err := json.Marshal(body)
	t.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := objects.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=podinfo"})
	t.must(err)
	reverts := 0
	var wait sync.WaitGroup
	wait.Go(func() {
		for e := range changes.ResultChan() {
			changed, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			if now, _, _ := unstructured.NestedFieldNoCopy(changed.Object, path...); reflect.DeepEqual(now, value) {
				continue
			}
			_, err := objects.Patch(ctx, "podinfo", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: opponent})
			if err != nil && ctx.Err() == nil {
				t.Errorf("reverting: %v", err)
			}
			reverts++
		}
	})
	stop = func() int {
		cancel()
		changes.Stop()
		wait.Wait()
		return reverts
	}
	t.Cleanup(func() { stop() })
	return stop
}

// fights waits until the operator has told with whom it contends in a phase, and lets that go on for a while in which the
// Canary does not. It returns what was told.
func (t *team) fights(phase v1beta1.CanaryPhase, names ...string) (message string) {
	t.Helper()
	before := t.until("the condition", func(c *v1beta1.Canary) bool {
		condition := healthy(c)
		return condition != nil && condition.Reason == "Contended"
	})
	message = healthy(before).Message
	for _, want := range append(names, `"`+opponent+`"`) {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not mention %s", message, want)
		}
	}
	letPass(fight)
	after, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	was, is := before.Status, after.Status
	if was.Phase != phase || is.Phase != phase || is.CanaryWeight != was.CanaryWeight {
		t.Errorf("%s with weight %d, and then %s with weight %d, while %s", was.Phase, was.CanaryWeight, is.Phase, is.CanaryWeight, message)
	}
	return message
}

// calledOff ends a contention about a resource, which must have cost the user few writes since a time, and have been told once.
func (t *team) calledOff(stop func() int, user string, from time.Time, resource, message string) {
	t.Helper()
	writes := len(slices.DeleteFunc(t.writesOf(user, from, "podinfo"), isNot(resource)))
	reverts := stop()
	t.Logf("%d writes of ours, %d of the other side in %s", writes, reverts, fight)
	if writes > 5 || reverts == 0 {
		t.Errorf("%d writes of ours, %d of the other side", writes, reverts)
	}
	t.wantToldOnce(message)
}

// isNot is whether a write, as writesOf lists it, is not to an object named podinfo of a resource.
func isNot(resource string) func(string) bool {
	return func(write string) bool { return !strings.HasSuffix(write, " "+resource+" podinfo") }
}

func (t *team) wantToldOnce(message string) {
	t.Helper()
	told := 0
	for _, e := range t.events() {
		if e == "W "+message {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%q was told %d times in\n%s", message, told, strings.Join(t.events(), "\n"))
	}
}

// TestIncidentB14_WeightsAreContended lets a GitOps tool set the weights back that the operator writes. The operator gives in
// for ever longer, takes no step, says who it is, and goes on when the other one stops.
func TestIncidentB14_WeightsAreContended(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	user := "contended-weights-" + t.ns
	t.operate("-kubeconfig", t.kubeconfigAs(user))
	// The contention is noticed well before the step after the first.
	t.create(canary(func(c *v1beta1.Canary) { c.Spec.Analysis.Interval = "4s" }))
	t.settled(v1beta1.CanaryPhaseInitialized)
	from := time.Now()
	routes, err := t.dynamic.Resource(virtualServices).Namespace(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	http, _, err := unstructured.NestedSlice(routes.Object, "spec", "http")
	t.must(err)
	stop := t.revert(virtualServices, http, "spec", "http")
	t.ship(v2)
	message := t.fights(v1beta1.CanaryPhaseProgressing, "VirtualService podinfo."+t.ns, "spec.http")
	t.calledOff(stop, user, from, "virtualservices", message)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("the primary runs %s", image)
	}
}

// TestIncidentB14_SelectorIsContended lets somebody lead the Service to the target, which has no pods.
func TestIncidentB14_SelectorIsContended(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	user := "contended-selector-" + t.ns
	t.operate("-kubeconfig", t.kubeconfigAs(user))
	t.create(canary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	from := time.Now()
	stop := t.revert(kubeServices, map[string]any{"app": "podinfo"}, "spec", "selector")
	message := t.fights(v1beta1.CanaryPhaseInitialized, "Service podinfo."+t.ns, "spec.selector")
	t.calledOff(stop, user, from, "services", message)
	t.until("the end of it", func(c *v1beta1.Canary) bool {
		condition := healthy(c)
		return condition != nil && condition.Status == corev1.ConditionTrue
	})
	u, err := t.dynamic.Resource(kubeServices).Namespace(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if selector, _, _ := unstructured.NestedString(u.Object, "spec", "selector", "app"); selector != "podinfo-primary" {
		t.Errorf("the Service selects %s", selector)
	}
}
