package workload

import (
	"context"
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Restorer is a Target that can be given as many pods as its primary has although it has some.
type Restorer interface {
	// Restore raises the target to the number of pods of the primary. One that has as many is left alone, and so is one
	// that does not exist.
	Restore(ctx context.Context, c *v1beta1.Canary) error
}

// Restore makes a target ready to take over from its primary.
func Restore(ctx context.Context, t Target, c *v1beta1.Canary) error {
	if r, ok := t.(Restorer); ok {
		return r.Restore(ctx, c)
	}
	return t.ScaleUp(ctx, c)
}

// Restore implements Restorer.
func (d *deployment) Restore(ctx context.Context, c *v1beta1.Canary) error {
	if err := d.ScaleUp(ctx, c); err != nil {
		return err
	}
	name := c.Spec.TargetRef.Name
	target, err := d.get(ctx, c.Namespace, name)
	if err != nil || target == nil {
		return err
	}
	primary, err := d.get(ctx, c.Namespace, PrimaryName(c))
	if err != nil || primary == nil {
		return err
	}
	replicas := intAt(primary.Object, 1, "spec", "replicas")
	if intAt(target.Object, 1, "spec", "replicas") >= replicas {
		return nil
	}
	if err := d.scale(ctx, c, replicas); err != nil {
		return fmt.Errorf("scaling up %s.%s to %d failed: %w", name, c.Namespace, replicas, err)
	}
	return nil
}
