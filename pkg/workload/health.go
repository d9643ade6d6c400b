package workload

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// healthLimits are the fields of a Canary that the health of its workloads is judged by.
type healthLimits struct {
	// threshold is the share of the pods, in percent, that must be available.
	threshold int32
	// deadline is how long pods may be unavailable.
	deadline time.Duration
}

func targetLimits(c *v1beta1.Canary) healthLimits {
	return healthLimits{threshold: c.GetAnalysisCanaryReadyThreshold(), deadline: progressDeadline(c)}
}

func primaryLimits(c *v1beta1.Canary) healthLimits {
	return healthLimits{threshold: c.GetAnalysisPrimaryReadyThreshold(), deadline: progressDeadline(c)}
}

func progressDeadline(c *v1beta1.Canary) time.Duration {
	return time.Duration(c.GetProgressDeadlineSeconds()) * time.Second
}

// deploymentHealth judges a Deployment. The second result is when the judgement turns from waiting to stuck if nothing
// happens before; zero means never.
func deploymentHealth(d *unstructured.Unstructured, limits healthLimits, now time.Time) (rollout.Health, time.Time) {
	if intAt(d.Object, 0, "status", "observedGeneration") < d.GetGeneration() {
		return waiting("waiting for rollout to finish: observed deployment generation less than desired generation"),
			time.Time{}
	}
	if intAt(d.Object, 1, "spec", "replicas") == 0 {
		return waiting(scaledToZero(intAt(d.Object, 0, "status", "replicas"))), time.Time{}
	}
	progressing := condition(d, "Progressing")
	if stringAt(progressing, "reason") == "ProgressDeadlineExceeded" {
		return rollout.Health{
			State:  rollout.Stuck,
			Reason: fmt.Sprintf("deployment %q exceeded its progress deadline", d.GetName()),
			Since:  timeAt(progressing, "lastUpdateTime"),
		}, time.Time{}
	}
	reason := unfinished(d, limits.threshold)
	if reason == "" {
		return rollout.Health{State: rollout.Ready}, time.Time{}
	}
	since, overdue := unavailableSince(d, progressing != nil), time.Time{}
	if !since.IsZero() {
		overdue = since.Add(limits.deadline)
		if !now.Before(overdue) {
			return rollout.Health{State: rollout.Stuck, Reason: reason, Since: since}, time.Time{}
		}
	}
	return waiting(reason), overdue
}

// deploymentStopping is whether the Deployment controller still counts pods of a Deployment without any. It counts what its
// ReplicaSets last reported, which may be older than the change that it has observed.
func deploymentStopping(d *unstructured.Unstructured) bool {
	return intAt(d.Object, 1, "spec", "replicas") == 0 && intAt(d.Object, 0, "status", "replicas") > 0
}

func scaledToZero(left int64) string {
	if left == 0 {
		return "waiting for rollout to finish: scaled to zero"
	}
	return fmt.Sprintf("waiting for rollout to finish: scaled to zero, %d old replicas are pending termination", left)
}

func waiting(reason string) rollout.Health {
	return rollout.Health{State: rollout.Waiting, Reason: reason}
}

// unfinished says what the newest revision of a Deployment lacks, and nothing when its pods serve.
func unfinished(d *unstructured.Unstructured, threshold int32) string {
	wanted := intAt(d.Object, 1, "spec", "replicas")
	updated := intAt(d.Object, 0, "status", "updatedReplicas")
	if updated < wanted {
		return fmt.Sprintf("waiting for rollout to finish: %d out of %d new replicas have been updated", updated, wanted)
	}
	if all := intAt(d.Object, 0, "status", "replicas"); all > updated {
		return fmt.Sprintf("waiting for rollout to finish: %d old replicas are pending termination", all-updated)
	}
	// At least one, however low the threshold: traffic is about to go to these pods, and one of two at 49 % would be none.
	needed := max(updated*int64(threshold)/100, 1)
	if available := intAt(d.Object, 0, "status", "availableReplicas"); available < needed {
		return fmt.Sprintf("waiting for rollout to finish: %d of %d (readyThreshold %d%%) updated replicas are available",
			available, updated, threshold)
	}
	return ""
}

// unavailableSince is since when the Deployment controller reports too few available pods. A Deployment without a progress
// deadline of its own has no Progressing condition, and no such time: its author lets it take as long as it takes.
func unavailableSince(d *unstructured.Unstructured, hasDeadline bool) time.Time {
	available := condition(d, "Available")
	if !hasDeadline || stringAt(available, "status") != "False" ||
		stringAt(available, "reason") != "MinimumReplicasUnavailable" {
		return time.Time{}
	}
	return timeAt(available, "lastUpdateTime")
}

func condition(d *unstructured.Unstructured, conditionType string) map[string]any {
	for _, item := range listAt(d.Object, "status", "conditions") {
		if c, ok := item.(map[string]any); ok && stringAt(c, "type") == conditionType {
			return c
		}
	}
	return nil
}

func timeAt(obj map[string]any, field string) time.Time {
	t, err := time.Parse(time.RFC3339, stringAt(obj, field))
	if err != nil {
		return time.Time{}
	}
	return t
}
