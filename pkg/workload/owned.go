package workload

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// ScaleField is the field of a target by which it gets its pods and loses them.
func ScaleField(c *v1beta1.Canary) []string {
	if c.Spec.TargetRef.Kind == daemonSetKind().kind {
		return podSpec("nodeSelector")
	}
	return []string{"spec", "replicas"}
}

// PauseField is the field by which the autoscaler of a target is told to leave it alone. It is false for a target without an
// autoscaler that has to be told.
func PauseField(c *v1beta1.Canary) (router.Ref, []string, bool) {
	s := scalerOf(c)
	if s == nil || !s.pausable {
		return router.Ref{}, nil, false
	}
	return s.ref(c.Namespace, c.Spec.AutoscalerRef.Name), []string{"metadata", "annotations", pausedAnnotation}, true
}
