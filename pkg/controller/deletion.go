package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// handover is what remains to be given back before a Canary may go.
type handover struct {
	// services and routes are the objects of users as they were before they were taken over.
	services, routes []router.Object
	// remaining are the routing objects that the Canary made and that still exist.
	remaining []router.Ref
}

// observeReverted looks at what a Canary that is being deleted has to give back.
func (o *observer) observeReverted() {
	canary := o.v.canary
	if canary.DeletionTimestamp.IsZero() || !canary.Spec.RevertOnDeletion || o.asleep {
		return
	}
	var err error
	o.v.handover.services, err = services.Originals(canary, o.v.servicesInput(), o.main)
	o.failed(err)
	o.v.handover.services = append(o.v.handover.services, o.v.previous.services.Originals...)
	reverted := err == nil && o.inPlace(o.c.main, o.main, o.v.handover.services)
	// A provider whose resource is not installed has nothing to give back.
	o.v.handover.routes, err = router.Originals(canary, o.v.rendered, o.mesh)
	o.failed(err)
	o.v.handover.routes = append(o.v.handover.routes, o.v.previous.routes.Originals...)
	reverted = reverted && err == nil && o.inPlace(o.c.mesh, o.mesh, o.v.handover.routes)
	o.v.handover.remaining, err = router.Remaining(canary, o.v.rendered, o.mesh)
	o.failed(err)
	o.v.handover.remaining = append(o.v.handover.remaining, o.v.previous.routes.Ours...)
	o.checkPrevious()
	o.v.facts.Reverted = reverted && err == nil && !o.v.unrendered && len(o.v.handover.remaining) == 0
	if o.unknown != nil {
		// A fault of the spec does not matter any more, but what could not be read must not count as gone.
		o.v.facts.Problem = o.unknown
	}
}

// checkPrevious tells of what was taken over under a previous name or is left of a previous autoscaler, and can't be read.
func (o *observer) checkPrevious() {
	if o.v.canary.Status.Rollout == nil || o.v.unrendered {
		return
	}
	if !o.v.facts.Scaler.PreviousKnown {
		o.failed(errors.New("whether a former autoscaler holds the target without pods is not known"))
	}
	for _, r := range o.v.canary.Status.Rollout.Routing {
		if reason := o.v.facts.Previous[r].Unknown; reason != "" {
			o.failed(fmt.Errorf("what the Canary took over as %s for provider %s is not known: %s", r.Service, r.Provider, reason))
		}
	}
}

// revertRouting gives Services and routes back. Services come first: a route that is no longer there leads to them.
func (c *Controller) revertRouting(ctx context.Context, v *view) error {
	if err := c.main.applier.Apply(ctx, v.canary, v.handover.services); err != nil {
		return err
	}
	if err := c.mesh.applier.Apply(ctx, v.canary, v.handover.routes); err != nil {
		return err
	}
	return c.mesh.applier.Delete(ctx, v.canary, v.handover.remaining)
}

// setFinalizer adds or removes our finalizer; those of others stay. It fails with a conflict if somebody else has changed the
// Canary since it was last seen.
func (s *canaries) setFinalizer(ctx context.Context, key string, uid types.UID, present bool) error {
	_, u, err := s.get(key)
	if u == nil || u.GetUID() != uid {
		return err
	}
	finalizers := slices.DeleteFunc(slices.Clone(u.GetFinalizers()), func(f string) bool { return f == v1beta1.Finalizer })
	if present {
		finalizers = append(finalizers, v1beta1.Finalizer)
	}
	if slices.Equal(finalizers, u.GetFinalizers()) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": u.GetResourceVersion(),
	}})
	if err != nil {
		return err
	}
	_, err = s.resource(u).Patch(ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && (present || !apierrors.IsNotFound(err)) {
		return fmt.Errorf("canary %s.%s finalizers patch error: %w", u.GetName(), u.GetNamespace(), err)
	}
	return nil
}
