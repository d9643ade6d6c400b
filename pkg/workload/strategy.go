package workload

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// stopsFirst is whether an update of the primary may take its last ready pod away before a new one is ready. It gets the
// strategy and, without an autoscaler, the number of pods of the target together with the template, so either may apply.
func (k podKind) stopsFirst(c *v1beta1.Canary, target, primary *unstructured.Unstructured) bool {
	counts := []int64{k.replicas(primary)}
	if c.HasOwnPrimary() {
		// It gets the template alone.
		return k.unreadyInUpdate(primary, counts[0])
	}
	if n := k.replicas(target); k.counted && c.Spec.AutoscalerRef == nil && n > 0 {
		counts = append(counts, n)
	}
	for _, pods := range counts {
		if k.unreadyInUpdate(primary, pods) || k.unreadyInUpdate(target, pods) {
			return true
		}
	}
	return false
}

// deploymentUnready is whether a rolling update of a Deployment with so many pods may leave none ready. Percentages are rounded
// as the Deployment controller does: those that surge up, those that are missing down, but one or the other has to be allowed.
func deploymentUnready(d *unstructured.Unstructured, pods int64) bool {
	if stringAt(d.Object, "spec", "strategy", "type") == "Recreate" {
		return true
	}
	limits := mapAt(d.Object, "spec", "strategy", "rollingUpdate")
	surge, missing := scaledAt(limits, "maxSurge", "25%", pods, true), scaledAt(limits, "maxUnavailable", "25%", pods, false)
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return missing >= pods
}

// daemonSetUnready is the same of a DaemonSet, whose controller rounds up and replaces one pod at a time by default.
func daemonSetUnready(d *unstructured.Unstructured, pods int64) bool {
	limits := mapAt(d.Object, "spec", "updateStrategy", "rollingUpdate")
	if scaledAt(limits, "maxSurge", "0", pods, true) > 0 {
		return false
	}
	return max(scaledAt(limits, "maxUnavailable", "1", pods, true), 1) >= pods
}

// scaledAt reads a number of pods that may be written as a percentage.
func scaledAt(limits map[string]any, field, fallback string, pods int64, roundUp bool) int64 {
	value := intstr.Parse(fallback)
	if text := stringAt(limits, field); text != "" {
		value = intstr.Parse(text)
	} else if n := intAt(limits, -1, field); n >= 0 {
		value = intstr.FromInt32(int32(n))
	}
	scaled, err := intstr.GetScaledValueFromIntOrPercent(&value, int(pods), roundUp)
	if err != nil {
		// The API server admits no such value.
		return 0
	}
	return int64(scaled)
}
