package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// kedaHPA is what KEDA calls the autoscaler that it makes for a ScaledObject.
const kedaHPA = "keda-hpa-"

// scaledByKeda is an application that the operator of KEDA itself scales, by a number that the test sets.
type scaledByKeda struct {
	*loaded
	events atomic.Int64
}

// newScaledByKeda begins with an application of two pods that KEDA has taken over, between two numbers of pods. The pods are of no
// concern to KEDA before that: its operator is there in a testbed with --with keda alone.
func newScaledByKeda(tt *testing.T, low, high int) *scaledByKeda {
	tt.Helper()
	needsBed(tt)
	if _, err := os.Stat(filepath.Join(os.Getenv("TESTBED_STATE"), "programs", "keda")); err != nil {
		tt.Skip("KEDA does not run here: run make e2e-keda")
	}
	k := &scaledByKeda{loaded: newLoaded(tt, 2)}
	k.events.Store(1)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, `{"events": %d}`, k.events.Load()) }))
	k.Cleanup(source.Close)
	k.apply(fmt.Sprintf(`
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: podinfo, annotations: {example.com/owner: shop}}
spec:
  scaleTargetRef: {name: podinfo}
  pollingInterval: 1
  cooldownPeriod: 1
  minReplicaCount: %d
  maxReplicaCount: %d
  triggers: [{type: metrics-api, metadata: {url: %q, valueLocation: events, targetValue: "1"}}]
`, low, high, source.URL))
	k.untilKeda("podinfo", map[string]string{"Ready": "True", "Active": "True"})
	k.untilObject(scalers, kedaHPA+"podinfo", func(*unstructured.Unstructured) bool { return true })
	return k
}

// byKeda names the ScaledObject of the target in a Canary.
func byKeda(c *v1beta1.Canary) {
	c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "podinfo"}
}

// untilKeda waits until KEDA reports something on a ScaledObject.
func (k *scaledByKeda) untilKeda(name string, want map[string]string) {
	k.Helper()
	k.untilObject(scaledObjects, name, func(u *unstructured.Unstructured) bool {
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		is := map[string]string{}
		for _, c := range conditions {
			is[fmt.Sprint(c.(map[string]any)["type"])] = fmt.Sprint(c.(map[string]any)["status"])
		}
		for condition, status := range want {
			if is[condition] != status {
				return false
			}
		}
		return true
	})
}

// untilPods waits until a Deployment has a number of ready pods.
func (k *scaledByKeda) untilPods(name string, want int64) {
	k.Helper()
	k.untilObject(deployments, name, func(u *unstructured.Unstructured) bool {
		replicas, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		ready, _, _ := unstructured.NestedInt64(u.Object, "status", "readyReplicas")
		return replicas == want && ready == want
	})
}

// untilParked waits until KEDA has taken the target off its hands: it reports a pause, and its autoscaler is gone.
func (k *scaledByKeda) untilParked() {
	k.Helper()
	k.untilKeda("podinfo", map[string]string{"Paused": "True"})
	k.gone(scalers, kedaHPA+"podinfo")
	k.untilPods("podinfo", 0)
}

// TestKeda leads an application through its life while the operator of KEDA scales it. KEDA leaves the target without pods at rest,
// scales it while a revision is analyzed, and scales the primary at all times. Not one request is lost.
func TestKeda(tt *testing.T) {
	tt.Parallel()
	k := newScaledByKeda(tt, 2, 4)
	k.begin()
	k.operates()
	k.onboard(byKeda, revertOnDeletion, func(c *v1beta1.Canary) { c.Spec.Analysis.Interval = "2s" })
	k.untilParked()
	k.untilKeda("podinfo-primary", map[string]string{"Ready": "True", "Active": "True"})
	k.untilObject(scalers, kedaHPA+"podinfo-primary", func(u *unstructured.Unstructured) bool {
		low, _, _ := unstructured.NestedInt64(u.Object, "spec", "minReplicas")
		return low == 2
	})

	k.roll(v1beta1.CanaryPhaseSucceeded, func() { k.ship(v2) }, func() {
		k.untilKeda("podinfo", map[string]string{"Paused": "False", "Active": "True"})
		k.untilPods("podinfo", 2)
		k.untilObject(scalers, kedaHPA+"podinfo", func(*unstructured.Unstructured) bool { return true })
	})
	k.rests(v2)
	k.untilParked()

	// The primary goes by its own ScaledObject.
	k.edit(func(s *v1beta1.CanarySpec) {
		s.AutoscalerRef.PrimaryScalerReplicas = &v1beta1.ScalerReplicas{MinReplicas: new(int32(3))}
	})
	k.untilPods("podinfo-primary", 3)
	k.replicas = 3

	k.roll(v1beta1.CanaryPhaseFailed, func() {
		k.metric("0")
		k.ship(v3)
	}, func() { k.untilKeda("podinfo", map[string]string{"Paused": "False"}) })
	k.rests(v2)
	k.untilParked()

	if k.plane != nil {
		k.leadToService()
	}
	k.deleteCanary()
	k.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	k.untilKeda("podinfo", map[string]string{"Paused": "False", "Ready": "True"})
	k.gone(scaledObjects, "podinfo-primary")
	k.gone(scalers, kedaHPA+"podinfo-primary")
	k.load.end(k)
}

// TestKedaAtZero rolls out what KEDA has scaled to zero for want of work. Both sides have a pod for as long as the rollout takes, and
// KEDA takes them away afterwards. When there is work again the primary alone gets pods.
func TestKedaAtZero(tt *testing.T) {
	tt.Parallel()
	k := newScaledByKeda(tt, 0, 4)
	k.operates()
	// Without requests nobody has to be led anywhere.
	k.create(k.canary(byKeda, func(c *v1beta1.Canary) {
		c.Spec.Provider = "kubernetes"
		c.Spec.Analysis.StepWeight, c.Spec.Analysis.MaxWeight, c.Spec.Analysis.Iterations = 0, 0, steps
	}))
	k.settled(v1beta1.CanaryPhaseInitialized)
	k.untilParked()
	k.events.Store(0)
	k.untilPods("podinfo-primary", 0)

	k.ship(v2)
	k.settled(v1beta1.CanaryPhaseSucceeded)
	if _, image := k.team.replicas("podinfo-primary"); image != v2 {
		k.Errorf("the primary runs %s", image)
	}
	k.untilPods("podinfo-primary", 0)
	k.untilParked()
	k.events.Store(1)
	k.untilPods("podinfo-primary", 1)
	if n, _ := k.team.replicas("podinfo"); n != 0 {
		k.Errorf("the target has %d replicas", n)
	}
}
