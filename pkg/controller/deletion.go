package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// defaulted is a Canary with what the flags of the operator ask for where it does not say. Only the stored object tells a false
// from nothing.
func (c *Controller) defaulted(canary *v1beta1.Canary, object func() *unstructured.Unstructured) *v1beta1.Canary {
	if !c.Settings.RevertOnDeletion {
		return canary
	}
	_, says, err := unstructured.NestedFieldNoCopy(object().Object, "spec", "revertOnDeletion")
	if says || err != nil {
		return canary
	}
	// The rest is shared: nobody changes what was observed.
	asked := *canary
	asked.Spec.RevertOnDeletion = true
	return &asked
}

// observeReverted looks at what a Canary that is being deleted has to give back.
func (o *observer) observeReverted() {
	canary := o.v.canary
	if canary.DeletionTimestamp.IsZero() || o.asleep {
		return
	}
	if !canary.Spec.RevertOnDeletion {
		o.observeOutlasting()
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

// observeOutlasting looks for routes of a Canary that is being deleted without handing anything back, which the garbage
// collector would leave.
func (o *observer) observeOutlasting() {
	var marked []router.Object
	for i := range o.v.rendered {
		if o.v.rendered[i].Unowned {
			marked = append(marked, o.v.rendered[i])
		}
	}
	remaining, err := router.Remaining(o.v.canary, marked, o.mesh)
	o.failed(err)
	unread := err != nil || o.unreadOutlasting()
	o.v.handover.remaining = append(remaining, o.v.previous.routes.Ours...)
	o.v.facts.Routes.Outlasting = unread || len(o.v.handover.remaining) > 0
	if unread {
		// A fault of the spec does not matter any more, but what could not be read must not count as gone.
		o.v.facts.Problem = o.unknown
	}
}

// unreadOutlasting is whether there may be routes, under the present or a previous name, that can't be read and that nobody else
// would delete: their cluster may be away.
func (o *observer) unreadOutlasting() bool {
	if o.v.rendered == nil && o.unknown != nil && o.v.provider != nil && o.wouldOutlast(o.v.provider, router.NamesOf(o.v.canary).Apex) {
		return true
	}
	if o.v.canary.Status.Rollout == nil {
		return false
	}
	return slices.ContainsFunc(o.v.canary.Status.Rollout.Routing, func(r v1beta1.RoutingRef) bool {
		p, err := o.c.Providers.Provider(r.Provider)
		return err == nil && o.wouldOutlast(p, r.Service) && o.unreadPrevious(r)
	})
}

// wouldOutlast is whether the routes of a provider under a name would be there after the Canary.
func (o *observer) wouldOutlast(p router.Provider, name string) bool {
	// What they are called, and whose, depends on no object that there is.
	outline, err := router.Outline(o.v.canary, p, name, nowhere{})
	return err != nil || slices.ContainsFunc(outline, func(wanted router.Object) bool { return wanted.Unowned })
}

// nowhere is a cluster without objects.
type nowhere struct{}

// Get implements router.Live.
func (nowhere) Get(router.Ref) (*unstructured.Unstructured, error) { return nil, nil }

// outlasts is whether routes are there, or would be, that the garbage collector does not delete with the Canary. Where they are
// not known, that stays as it was.
func (o *observer) outlasts() bool {
	held := slices.Contains(o.v.canary.Finalizers, v1beta1.Finalizer) && !o.v.canary.Spec.RevertOnDeletion
	if held && (!o.v.outline.some && o.v.facts.Problem != nil || len(o.v.previous.routes.Ours) > 0) {
		return true
	}
	return slices.ContainsFunc(o.v.outline.unowned, func(ref router.Ref) bool {
		live, err := o.mesh.Get(ref)
		return err != nil || live == nil || router.ControlOf(o.v.canary, live) == router.Ours
	})
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
		o.unreadPrevious(r)
	}
}

// unreadPrevious tells of routes and Services of a previous name that can't be read. It reports whether that is so.
func (o *observer) unreadPrevious(r v1beta1.RoutingRef) bool {
	reason := o.v.facts.Previous[r].Unknown
	if reason != "" {
		o.failed(fmt.Errorf("what the Canary took over as %s for provider %s is not known: %s", r.Service, r.Provider, reason))
	}
	return reason != ""
}

// revertRouting gives Services and routes back. Services come first: a route that is no longer there leads to them.
func (c *Controller) revertRouting(ctx context.Context, v *view) error {
	if err := c.main.Apply(ctx, v.canary, v.handover.services); err != nil {
		return err
	}
	if err := c.mesh.Apply(ctx, v.canary, v.handover.routes); err != nil {
		return err
	}
	return c.mesh.Delete(ctx, v.canary, v.handover.remaining)
}
