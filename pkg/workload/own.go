package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Keeper is a Target whose primary is an object that the Canary owns.
type Keeper interface {
	// OwnPrimary makes the Canary the owner of a primary, and of the copies that its pods read, where one of the same name was
	// that is gone. Nothing else is written.
	OwnPrimary(ctx context.Context, c *v1beta1.Canary) error
}

// OwnPrimary implements Keeper. The primary comes last: as long as it is not owned, all is done again.
func (d *deployment) OwnPrimary(ctx context.Context, c *v1beta1.Canary) error {
	primary, err := d.get(ctx, c.Namespace, PrimaryName(c))
	if err != nil || primary == nil {
		return err
	}
	if err := d.copies().own(ctx, c, primary); err != nil {
		return err
	}
	return ownAnew(ctx, d.workloads(c), c, primary)
}

// OwnPrimary implements Keeper.
func (s *coreService) OwnPrimary(ctx context.Context, c *v1beta1.Canary) error {
	primary, err := s.get(ctx, c, PrimaryName(c))
	if err != nil || primary == nil {
		return err
	}
	return ownAnew(ctx, s.services(c), c, primary)
}

// own makes the Canary the owner of the copies that a primary reads.
func (k configCopies) own(ctx context.Context, c *v1beta1.Canary, primary *unstructured.Unstructured) error {
	if !k.options.TrackConfigs {
		return nil
	}
	used := slices.SortedFunc(maps.Keys(mandatory(mapAt(primary.Object, podSpecPath()...))), func(a, b configKey) int {
		return slices.Compare([]string{a.kind, a.name}, []string{b.kind, b.name})
	})
	for _, key := range used {
		have, err := k.get(ctx, c, key)
		if err != nil {
			return err
		}
		if have == nil {
			continue
		}
		if err := ownAnew(ctx, k.resource(c, key), c, have); err != nil {
			return err
		}
	}
	return nil
}

func ownAnew(ctx context.Context, resource dynamic.ResourceInterface, c *v1beta1.Canary, obj *unstructured.Unstructured) error {
	if !orphaned(c, obj) {
		return nil
	}
	next := obj.DeepCopy()
	own(c, next)
	// The update carries the resourceVersion that was read, so it fails when anybody wrote in between.
	if _, err := resource.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("%s owner reference update error: %w", described(next), err)
	}
	return nil
}
