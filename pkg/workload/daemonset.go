package workload

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

const (
	// parkedKey is the node selector that no node has: a DaemonSet with it has no pods.
	parkedKey = "flagger.app/scale-to-zero"
	// generationAnnotation is where the API server counts the templates of a DaemonSet.
	generationAnnotation = "deprecated.daemonset.template.generation"
)

// daemonSet is the kind DaemonSet of apps/v1. It is copied and stored like a Deployment; instead of a number of replicas, a
// node selector says whether it has pods.
type daemonSet struct{ *deployment }

// Observe implements Target.
func (d *daemonSet) Observe(c *v1beta1.Canary, live router.Live, now time.Time) (Observation, *rollout.Problem) {
	o, problem := d.deployment.Observe(c, live, now)
	if problem != nil || !o.Target.Exists {
		return o, problem
	}
	target, err := live.Get(d.ref(c.Namespace, c.Spec.TargetRef.Name))
	if err != nil {
		return o, d.readFailed(c.Namespace, c.Spec.TargetRef.Name, err)
	}
	return o, checkUpdateStrategy(target)
}

// checkUpdateStrategy tells of a DaemonSet whose pods only change when somebody deletes them.
func checkUpdateStrategy(target *unstructured.Unstructured) *rollout.Problem {
	strategy := stringAt(target.Object, "spec", "updateStrategy", "type")
	if strategy == "" || strategy == "RollingUpdate" {
		return nil
	}
	return invalid("%s must have RollingUpdate strategy but have %s: set spec.updateStrategy.type of the DaemonSet to "+
		"RollingUpdate", described(target), strategy)
}

// ScaleUp implements Target.
func (d *daemonSet) ScaleUp(ctx context.Context, c *v1beta1.Canary) error {
	name := c.Spec.TargetRef.Name
	target, err := d.get(ctx, c.Namespace, name)
	if err != nil {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	if target == nil {
		return fmt.Errorf("scaling up %s.%s failed: %s", name, c.Namespace, targetNotFound(c).Message)
	}
	if !parked(target) {
		return nil
	}
	if err := d.park(ctx, c, nil); err != nil {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	return nil
}

// Restore implements Restorer: a DaemonSet has all its pods or none.
func (d *daemonSet) Restore(ctx context.Context, c *v1beta1.Canary) error { return d.ScaleUp(ctx, c) }

// ScaleToZero implements Target.
func (d *daemonSet) ScaleToZero(ctx context.Context, c *v1beta1.Canary) error {
	if err := d.park(ctx, c, "true"); err != nil {
		return fmt.Errorf("scaling down %s.%s to 0 failed: %w", c.Spec.TargetRef.Name, c.Namespace, err)
	}
	return nil
}

// park sets the one key of the node selector that is ours; nil removes it.
func (d *daemonSet) park(ctx context.Context, c *v1beta1.Canary, value any) error {
	podSpec := map[string]any{"nodeSelector": map[string]any{parkedKey: value}}
	return d.patch(ctx, c, c.Spec.TargetRef.Name, map[string]any{"spec": map[string]any{"template": map[string]any{"spec": podSpec}}})
}

func parked(d *unstructured.Unstructured) bool {
	_, ok := mapAt(d.Object, podSpec("nodeSelector")...)[parkedKey]
	return ok
}

// unpark changes a pod spec so that its pods run. Without another key the node selector goes, as the API server would have
// it.
func unpark(podSpec map[string]any) {
	selector := mapAt(podSpec, "nodeSelector")
	delete(selector, parkedKey)
	if len(selector) == 0 {
		delete(podSpec, "nodeSelector")
	}
}

// daemonSetReplicas is at least 1 unless the DaemonSet was parked: how many nodes there are for its pods is not known until
// its controller has counted them.
func daemonSetReplicas(d *unstructured.Unstructured) int64 {
	if parked(d) {
		return 0
	}
	return max(intAt(d.Object, 0, "status", "desiredNumberScheduled"), 1)
}

// daemonSetStopping is whether pods are left of a DaemonSet that no node is eligible for, or its controller has not looked yet. Pods that are
// being terminated count as pods of the template that they have.
func daemonSetStopping(d *unstructured.Unstructured) bool {
	return parked(d) && (leftOnNodes(d) > 0 || intAt(d.Object, 0, "status", "observedGeneration") < d.GetGeneration())
}

// leftOnNodes is the number of nodes with a pod of a parked DaemonSet.
func leftOnNodes(d *unstructured.Unstructured) int64 {
	return max(intAt(d.Object, 0, "status", "currentNumberScheduled"), intAt(d.Object, 0, "status", "numberMisscheduled"))
}

// daemonSetHealth judges a DaemonSet. It reports no time since when it lacks pods, so it is never stuck: the deadline of the
// step at hand applies.
func daemonSetHealth(d *unstructured.Unstructured, limits healthLimits, _ time.Time) (rollout.Health, time.Time) {
	if intAt(d.Object, 0, "status", "observedGeneration") < d.GetGeneration() {
		return waiting("waiting for rollout to finish: observed daemonset generation less than desired generation"),
			time.Time{}
	}
	if parked(d) {
		return waiting(scaledToZero(leftOnNodes(d))), time.Time{}
	}
	desired := intAt(d.Object, 0, "status", "desiredNumberScheduled")
	updated := intAt(d.Object, 0, "status", "updatedNumberScheduled")
	if desired == 0 {
		// Its controller has looked, and no node is eligible: such a DaemonSet lacks no pod.
		return rollout.Health{State: rollout.Ready}, time.Time{}
	}
	if updated < desired {
		return waiting(fmt.Sprintf("waiting for rollout to finish: %d out of %d new pods have been updated", updated, desired)),
			time.Time{}
	}
	// At least one, however low the threshold: traffic is about to go to these pods.
	needed := max(desired*int64(limits.threshold)/100, 1)
	if available := intAt(d.Object, 0, "status", "numberAvailable"); available < needed {
		return waiting(fmt.Sprintf("waiting for rollout to finish: %d of %d (readyThreshold %d%%) updated pods are available",
			available, desired, limits.threshold)), time.Time{}
	}
	return rollout.Health{State: rollout.Ready}, time.Time{}
}
