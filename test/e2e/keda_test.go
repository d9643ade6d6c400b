package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var scaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

const pausedReplicas = "autoscaling.keda.sh/paused-replicas"

// installKeda installs the CRD of ScaledObjects once.
var installKeda = sync.OnceValue(func() error {
	b, err := shared()
	if err != nil {
		return err
	}
	file, err := downloadedFile("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml")
	if err != nil {
		return err
	}
	return b.install(context.Background(), file)
})

// scaledObject has fields and annotations that Flagger does not know.
const scaledObject = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: podinfo
  labels: {team: shop}
  annotations: {scaledobject.keda.sh/transfer-hpa-ownership: "true", example.com/owner: shop}
spec:
  scaleTargetRef: {name: podinfo, envSourceContainerName: podinfod}
  minReplicaCount: 2
  maxReplicaCount: 4
  cooldownPeriod: 30
  initialCooldownPeriod: 120
  fallback: {failureThreshold: 3, replicas: 2, behavior: currentReplicasIfHigher}
  advanced:
    restoreToOriginalReplicaCount: true
    horizontalPodAutoscalerConfig: {name: podinfo-hpa, behavior: {scaleDown: {stabilizationWindowSeconds: 60}}}
    scalingModifiers: {formula: requests * 2, target: "5", metricType: AverageValue}
  triggers:
  - type: prometheus
    name: requests
    metricType: AverageValue
    useCachedMetrics: true
    authenticationRef: {name: prometheus, kind: ClusterTriggerAuthentication}
    metadata: {serverAddress: "http://prometheus.monitoring:9090", query: 'sum(rate(http_requests{pod=~"podinfo-canary.*|podinfo-[0-9a-f]+.*"}[1m]))', threshold: "5"}
`

// TestScaledObject scales by KEDA: the primary gets a copy of the ScaledObject with every field, and that of the target is told
// by one annotation to rest, and to work while a revision is analyzed. KEDA itself does not run here.
func TestScaledObject(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	if err := installKeda(); err != nil {
		tt.Skipf("the CRD of ScaledObjects can't be had: %v", err)
	}
	t.apply(podinfo(2))
	t.apply(scaledObject)
	t.available("podinfo")
	before := t.scaled("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary(func(c *v1beta1.Canary) {
		c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "podinfo"}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.expectPaused(before, "0")
	t.expectScaledCopy()

	t.ship(v2)
	t.untilObject(scaledObjects, "podinfo", func(u *unstructured.Unstructured) bool {
		_, paused := u.GetAnnotations()[pausedReplicas]
		return !paused
	})
	t.expectPaused(before, "")
	t.until("weight 40", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 40 })
	if n, _ := t.replicas("podinfo"); n != 2 {
		t.Errorf("the canary has %d pods, its ScaledObject wants 2 at least", n)
	}
	patch := []byte(`{"spec":{"maxReplicaCount":6,"pollingInterval":7}}`)
	_, err := t.dynamic.Resource(scaledObjects).Namespace(t.ns).Patch(t.Context(), "podinfo", types.MergePatchType, patch, metav1.PatchOptions{})
	t.must(err)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.untilObject(scaledObjects, "podinfo-primary", func(u *unstructured.Unstructured) bool {
		n, _, _ := unstructured.NestedInt64(u.Object, "spec", "maxReplicaCount")
		return n == 6
	})
	before = t.scaled("podinfo")
	t.expectPaused(before, "0")
	t.expectScaledCopy()
	if n, _ := t.replicas("podinfo"); n != 0 {
		t.Errorf("the target keeps %d replicas", n)
	}
}

// TestTakeoverOfAScaledObject takes over a Canary that Flagger left at rest with a ScaledObject: it writes the status alone.
func TestTakeoverOfAScaledObject(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	if err := installKeda(); err != nil {
		tt.Skipf("the CRD of ScaledObjects can't be had: %v", err)
	}
	t.leaveAll([]*flaggerApp{{name: "podinfo", phase: v1beta1.CanaryPhaseSucceeded, provider: "istio", replicas: 1, keda: true}})
	user, began := "takeover-"+t.ns, time.Now()
	o := t.operate("-kubeconfig", t.kubeconfigAs(user))
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.untilTold(o, 1)
	watched()
	if writes := t.writesOf(user, began, ""); len(writes) != 1 || !strings.HasSuffix(writes[0], " canaries/status podinfo") {
		t.Errorf("the takeover writes %q", writes)
	}
}

func (t *team) scaled(name string) *unstructured.Unstructured {
	t.Helper()
	u, err := t.dynamic.Resource(scaledObjects).Namespace(t.ns).Get(t.Context(), name, metav1.GetOptions{})
	t.must(err)
	return u
}

// expectPaused checks that the ScaledObject of the target is what it was but for one annotation.
func (t *team) expectPaused(before *unstructured.Unstructured, want string) {
	t.Helper()
	now := t.scaled("podinfo")
	annotations := now.GetAnnotations()
	if got := annotations[pausedReplicas]; got != want {
		t.Errorf("%s is %q, want %q", pausedReplicas, got, want)
	}
	then := before.GetAnnotations()
	delete(annotations, pausedReplicas)
	delete(then, pausedReplicas)
	for what, pair := range map[string][2]any{
		"annotations": {then, annotations}, "labels": {before.GetLabels(), now.GetLabels()},
		"spec": {before.Object["spec"], now.Object["spec"]}, "generation": {before.GetGeneration(), now.GetGeneration()},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s of the target's ScaledObject (-before +after):\n%s", what, diff)
		}
	}
}

// expectScaledCopy checks that the primary's ScaledObject differs in nothing but what has to differ.
func (t *team) expectScaledCopy() {
	t.Helper()
	source, copied := t.scaled("podinfo"), t.scaled("podinfo-primary")
	want := source.DeepCopy()
	t.must(unstructured.SetNestedField(want.Object, "podinfo-primary", "spec", "scaleTargetRef", "name"))
	t.must(unstructured.SetNestedField(want.Object, "podinfo-hpa-primary", "spec", "advanced", "horizontalPodAutoscalerConfig", "name"))
	triggers, _, _ := unstructured.NestedSlice(want.Object, "spec", "triggers")
	triggers[0].(map[string]any)["metadata"].(map[string]any)["query"] = `sum(rate(http_requests{pod=~"podinfo-primary.*|podinfo-primary-[0-9a-f]+.*"}[1m]))`
	want.Object["spec"].(map[string]any)["triggers"] = triggers
	if diff := cmp.Diff(want.Object["spec"], copied.Object["spec"]); diff != "" {
		t.Errorf("spec of the primary's ScaledObject (-want +got):\n%s", diff)
	}
	if owner := metav1.GetControllerOf(copied); owner == nil || owner.Kind != "Canary" {
		t.Errorf("the copy belongs to %v", owner)
	}
	annotations := copied.GetAnnotations()
	if _, paused := annotations[pausedReplicas]; paused || annotations["example.com/owner"] != "shop" || copied.GetLabels()["team"] != "shop" {
		t.Errorf("the copy has the labels %v and the annotations %v", copied.GetLabels(), annotations)
	}
	spec, _, _ := unstructured.NestedMap(copied.Object, "spec", "advanced", "scalingModifiers")
	if len(spec) != 3 {
		t.Errorf("scalingModifiers of the copy are %v: the CRD has dropped what the test is about", spec)
	}
}
