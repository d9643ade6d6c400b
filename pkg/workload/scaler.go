package workload

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// scaler is a kind of autoscaler.
type scaler struct {
	kind     string
	resource schema.GroupVersionResource
	// min and max are the paths of the least and the greatest number of pods.
	min, max []string
	// idle is the path of the number of pods that a workload without work has, if that may differ from the least number.
	idle []string
	// least is the least number of pods where none is set.
	least int64
	// pausable is whether it has to be told to leave a workload without pods alone.
	pausable bool
}

func scalers() []scaler {
	return []scaler{
		{
			kind:     "HorizontalPodAutoscaler",
			resource: schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
			min:      []string{"spec", "minReplicas"},
			max:      []string{"spec", "maxReplicas"},
			least:    1,
		},
		{
			kind:     "ScaledObject",
			resource: schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"},
			min:      []string{"spec", "minReplicaCount"},
			max:      []string{"spec", "maxReplicaCount"},
			idle:     []string{"spec", "idleReplicaCount"},
			pausable: true,
		},
	}
}

// admitsZero is whether an autoscaler leaves a workload without work without pods.
func (s *scaler) admitsZero(obj map[string]any) bool {
	return intAt(obj, s.least, s.min...) == 0 || s.idle != nil && intAt(obj, 1, s.idle...) == 0
}

// keepUp makes the spec of an autoscaler, which is changed in place, leave its workload at least one pod.
func (s *scaler) keepUp(spec map[string]any) {
	if !s.admitsZero(map[string]any{"spec": spec}) {
		return
	}
	if s.idle != nil {
		delete(spec, s.idle[len(s.idle)-1])
	}
	name := s.min[len(s.min)-1]
	spec[name] = max(intAt(spec, 0, name), 1)
}

// minReplicas is the least number of pods that the autoscaler of a Canary wants, at least 1.
func minReplicas(ctx context.Context, client dynamic.Interface, c *v1beta1.Canary) (int64, error) {
	ref := c.Spec.AutoscalerRef
	for _, s := range scalers() {
		if s.kind != ref.Kind {
			continue
		}
		obj, err := client.Resource(s.resource).Namespace(c.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return 0, fmt.Errorf("%s %s.%s get query error: %w", ref.Kind, ref.Name, c.Namespace, err)
		}
		return max(intAt(obj.Object, 1, s.min...), 1), nil
	}
	return 0, fmt.Errorf("spec.autoscalerRef.kind: %s is not served: use HorizontalPodAutoscaler or ScaledObject", ref.Kind)
}
