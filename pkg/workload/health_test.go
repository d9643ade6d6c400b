package workload

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/rollout"
)

func conditionOf(conditionType, status, reason string, age time.Duration) map[string]any {
	return map[string]any{
		"type": conditionType, "status": status, "reason": reason,
		"lastUpdateTime":     now.Add(-age).Format(time.RFC3339),
		"lastTransitionTime": now.Add(-100 * age).Format(time.RFC3339),
	}
}

// counts are replicas of a Deployment: wanted, and in its status all, updated and available ones.
type counts struct{ wanted, all, updated, available int64 }

func withCounts(n counts, conditions ...map[string]any) *unstructured.Unstructured {
	list := make([]any, 0, len(conditions))
	for _, c := range conditions {
		list = append(list, c)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "podinfo", "namespace": "test", "generation": int64(2)},
		"spec":     map[string]any{"replicas": n.wanted},
		"status": map[string]any{
			"observedGeneration": int64(2), "replicas": n.all, "updatedReplicas": n.updated,
			"availableReplicas": n.available, "conditions": list,
		},
	}}
}

func TestB16_DeploymentHealth(t *testing.T) {
	progressing := conditionOf("Progressing", "True", "ReplicaSetUpdated", time.Minute)
	unavailable := func(age time.Duration) map[string]any {
		return conditionOf("Available", "False", "MinimumReplicasUnavailable", age)
	}
	behind := withCounts(counts{3, 3, 3, 3})
	behind.SetGeneration(3)
	const prefix = "waiting for rollout to finish: "
	tests := []struct {
		name      string
		d         *unstructured.Unstructured
		threshold int32
		want      rollout.Health
		recheck   time.Time
	}{
		{name: "all there", d: withCounts(counts{3, 3, 3, 3}), threshold: 100, want: rollout.Health{State: rollout.Ready}},
		{name: "newest spec not seen yet", d: behind, threshold: 100,
			want: waiting(prefix + "observed deployment generation less than desired generation")},
		{name: "own deadline exceeded", threshold: 100,
			d: withCounts(counts{3, 3, 3, 3}, conditionOf("Progressing", "False", "ProgressDeadlineExceeded", 90*time.Second)),
			want: rollout.Health{State: rollout.Stuck, Reason: `deployment "podinfo" exceeded its progress deadline`,
				Since: now.Add(-90 * time.Second)}},
		{name: "not all updated", d: withCounts(counts{3, 3, 1, 3}), threshold: 100,
			want: waiting(prefix + "1 out of 3 new replicas have been updated")},
		{name: "old ones left", d: withCounts(counts{3, 5, 3, 3}), threshold: 100,
			want: waiting(prefix + "2 old replicas are pending termination")},
		{name: "not all available", d: withCounts(counts{3, 3, 3, 2}), threshold: 100,
			want: waiting(prefix + "2 of 3 (readyThreshold 100%) updated replicas are available")},
		{name: "threshold truncates", d: withCounts(counts{3, 3, 3, 2}), threshold: 99, want: rollout.Health{State: rollout.Ready}},
		{name: "below the threshold", d: withCounts(counts{3, 3, 3, 1}), threshold: 67,
			want: waiting(prefix + "1 of 3 (readyThreshold 67%) updated replicas are available")},
		{name: "scaled to zero", d: withCounts(counts{0, 0, 0, 0}), threshold: 100, want: waiting(prefix + "scaled to zero")},
		{name: "C-09 scaled to zero and not seen without pods yet", d: withCounts(counts{0, 2, 2, 2}), threshold: 100,
			want: waiting(prefix + "scaled to zero, 2 old replicas are pending termination")},
		{name: "scaled to zero after a failure", threshold: 100,
			d:    withCounts(counts{0, 0, 0, 0}, conditionOf("Progressing", "False", "ProgressDeadlineExceeded", time.Minute)),
			want: waiting(prefix + "scaled to zero")},
		{name: "none available at a low threshold", d: withCounts(counts{1, 1, 1, 0}), threshold: 50,
			want: waiting(prefix + "0 of 1 (readyThreshold 50%) updated replicas are available")},
		{name: "none available at threshold 0", d: withCounts(counts{2, 2, 2, 0}), threshold: 0,
			want: waiting(prefix + "0 of 2 (readyThreshold 0%) updated replicas are available")},
		{name: "unavailable within the deadline", threshold: 100,
			d:    withCounts(counts{2, 2, 2, 0}, progressing, unavailable(4*time.Minute)),
			want: waiting(prefix + "0 of 2 (readyThreshold 100%) updated replicas are available"), recheck: now.Add(time.Minute)},
		{name: "unavailable for as long as the deadline", threshold: 100,
			d: withCounts(counts{2, 2, 2, 0}, progressing, unavailable(5*time.Minute)),
			want: rollout.Health{State: rollout.Stuck,
				Reason: prefix + "0 of 2 (readyThreshold 100%) updated replicas are available", Since: now.Add(-5 * time.Minute)}},
		{name: "not updated past the deadline", threshold: 100,
			d: withCounts(counts{2, 2, 0, 0}, progressing, unavailable(time.Hour)),
			want: rollout.Health{State: rollout.Stuck,
				Reason: prefix + "0 out of 2 new replicas have been updated", Since: now.Add(-time.Hour)}},
		{name: "unavailable without a deadline of its own", threshold: 100,
			d:    withCounts(counts{2, 2, 2, 0}, unavailable(time.Hour)),
			want: waiting(prefix + "0 of 2 (readyThreshold 100%) updated replicas are available")},
		{name: "ready in spite of an old report", threshold: 50,
			d: withCounts(counts{2, 2, 2, 1}, progressing, unavailable(time.Hour)), want: rollout.Health{State: rollout.Ready}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, recheck := deploymentHealth(tt.d, healthLimits{threshold: tt.threshold, deadline: 5 * time.Minute}, now)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !recheck.Equal(tt.recheck) {
				t.Errorf("look again at %v, want %v", recheck, tt.recheck)
			}
		})
	}
}

// Pods that are counted of a workload without any are those that it had.
func TestStopping(t *testing.T) {
	down, up := withCounts(counts{0, 1, 1, 1}), withCounts(counts{1, 1, 1, 1})
	gone := withCounts(counts{0, 0, 0, 0})
	if !deploymentStopping(down) || deploymentStopping(up) || deploymentStopping(gone) {
		t.Error("a Deployment stops from when it is scaled to zero until its controller counts none")
	}
	for name, tt := range map[string]struct {
		parked           bool
		left, generation int64
		want             bool
	}{
		"a pod is on a node it does not belong on": {true, 1, 7, true},
		"not looked at":      {true, 0, 8, true},
		"gone":               {true, 0, 7, false},
		"it is to have pods": {false, 1, 7, false},
	} {
		d := daemon(t)
		if tt.parked {
			park(t, d)
		}
		d.SetGeneration(tt.generation)
		d.Object["status"] = map[string]any{"observedGeneration": int64(7), "numberMisscheduled": tt.left}
		if got := daemonSetStopping(d); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
