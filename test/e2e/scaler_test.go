package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var scalers = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}

const scaler = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: podinfo}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 99}}}]
`

// TestScalerIsCopiedAndFollows gives the primary the autoscaler of the target, and what changes in it without a rollout.
func TestScalerIsCopiedAndFollows(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(2))
	t.apply(scaler)
	t.available("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary(func(c *v1beta1.Canary) {
		c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler", Name: "podinfo"}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	copied, err := t.kube.AutoscalingV2().HorizontalPodAutoscalers(t.ns).Get(t.Context(), "podinfo-primary", metav1.GetOptions{})
	t.must(err)
	if got := copied.Spec; got.ScaleTargetRef.Name != "podinfo-primary" || *got.MinReplicas != 2 || got.MaxReplicas != 4 || len(got.Metrics) != 1 {
		t.Errorf("the primary's autoscaler has %+v", got)
	}

	patch := []byte(`{"spec":{"minReplicas":3,"maxReplicas":5}}`)
	_, err = t.dynamic.Resource(scalers).Namespace(t.ns).Patch(t.Context(), "podinfo", types.MergePatchType, patch, metav1.PatchOptions{})
	t.must(err)
	t.untilObject(deployments, "podinfo-primary", func(u *unstructured.Unstructured) bool {
		replicas, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		return replicas == 3
	})
	c, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if c.Status.Phase != v1beta1.CanaryPhaseInitialized || c.Status.Rollout.Run != 0 {
		t.Errorf("phase %s after %d analyses: the autoscaler alone started a rollout", c.Status.Phase, c.Status.Rollout.Run)
	}
	if replicas, _ := t.replicas("podinfo"); replicas != 0 {
		t.Errorf("the target has %d replicas", replicas)
	}
}
