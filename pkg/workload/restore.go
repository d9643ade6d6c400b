package workload

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Restorer is a Target that can be given as many pods as its primary has although it has some.
type Restorer interface {
	// Restore raises the target to the number of pods of the primary. One that has as many is left alone, and so is one
	// that does not exist.
	Restore(ctx context.Context, c *v1beta1.Canary) error
}

// Idler is a Target whose autoscaler may leave it, or its primary, without pods.
type Idler interface {
	// HoldTarget gives a target pods that its autoscaler took away, and makes that leave them.
	HoldTarget(ctx context.Context, c *v1beta1.Canary) error
	// RaisePrimary gives a primary without pods one.
	RaisePrimary(ctx context.Context, c *v1beta1.Canary) error
}

// Restore makes a target ready to take over from its primary.
func Restore(ctx context.Context, t Target, c *v1beta1.Canary) error {
	if r, ok := t.(Restorer); ok {
		return r.Restore(ctx, c)
	}
	return t.ScaleUp(ctx, c)
}

// Restore implements Restorer. Unlike ScaleUp it needs no autoscaler: one that is deleted along with the Canary must not hold
// it.
func (d *deployment) Restore(ctx context.Context, c *v1beta1.Canary) error {
	name := c.Spec.TargetRef.Name
	if err := resumeScaler(ctx, d.client, c); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	target, err := d.get(ctx, c.Namespace, name)
	if err != nil || target == nil {
		return err
	}
	primary, err := d.get(ctx, c.Namespace, PrimaryName(c))
	if err != nil {
		return err
	}
	replicas := int64(1)
	if primary != nil {
		replicas = max(intAt(primary.Object, 1, "spec", "replicas"), 1)
	}
	if intAt(target.Object, 1, "spec", "replicas") >= replicas {
		return nil
	}
	if err := d.scale(ctx, c, replicas); err != nil {
		return fmt.Errorf("scaling up %s.%s to %d failed: %w", name, c.Namespace, replicas, err)
	}
	return nil
}
