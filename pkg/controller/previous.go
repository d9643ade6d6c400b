package controller

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/workload"
)

// previous is what is left under the previous names and providers of a Canary, and of its previous autoscalers.
type previous struct {
	routes   router.Previous
	services services.Previous
	// scalers are copies of previous autoscalers that the primary still has, paused the previous autoscalers of the target that still
	// leave it without pods on our behalf.
	scalers, paused []router.Ref
	// copies are those of ConfigMaps and Secrets that the primary does not read.
	copies []router.Ref
}

// keptCopies are copies that stored revisions refer to. That changes with a promotion only.
type keptCopies struct {
	promoted string
	copies   []router.Ref
}

// observeCopies looks at the copies of ConfigMaps and Secrets: those that the primary reads, and those that it does not read any
// more.
func (o *observer) observeCopies() {
	copier, ok := o.v.target.(workload.Copier)
	if !ok || o.asleep {
		return
	}
	find := func(r *recorder) (copiesFound, []router.Object, bool) {
		changed, err := copier.ChangedCopies(shown(o.v.canary, v1beta1.CanaryStatus{}), r)
		o.failed(err)
		return copiesFound{changed}, nil, err == nil && len(changed) == 0
	}
	found, _ := recall(o, &o.v.memory.findings.copies, o.c.main, o.main, &copiesInputs{}, find)
	o.v.copies = found.changed
	for _, copied := range o.v.copies {
		if fact := &o.v.facts.Copies; copied.Restorable {
			fact.Restorable = true
		} else if fact.Lost == "" {
			fact.Lost, fact.Source = copied.Ref.String(), copied.Source.String()
		}
	}
	o.observeUnusedCopies(copier)
}

// observeUnusedCopies leaves out those that were looked at since the last promotion.
func (o *observer) observeUnusedCopies(copier workload.Copier) {
	owned := func(ref router.Ref) []*unstructured.Unstructured {
		return o.c.main.Owned(ref.Resource, o.v.canary.UID)
	}
	unused, err := copier.UnusedCopies(o.v.canary, owned, o.main)
	o.failed(err)
	if kept := o.v.memory.kept; len(unused) > 0 && kept.promoted == promotedIdentity(o.v.canary) {
		unused = slices.DeleteFunc(unused, func(ref router.Ref) bool { return slices.Contains(kept.copies, ref) })
	}
	o.v.previous.copies = unused
	o.v.facts.UnusedCopies = len(unused) > 0
}

// promotedIdentity changes with each promotion.
func promotedIdentity(c *v1beta1.Canary) string {
	if c.Status.Rollout == nil || c.Status.Rollout.Promoted == nil {
		return ""
	}
	promoted := c.Status.Rollout.Promoted
	return fmt.Sprint(promoted.Fingerprint, promoted.Configs)
}

// retireCopies carries out rollout.RetireCopies.
func (c *Controller) retireCopies(ctx context.Context, v *view, stored *v1beta1.Canary) error {
	copier, ok := v.target.(workload.Copier)
	if !ok {
		return nil
	}
	kept, err := copier.DeleteCopies(ctx, stored, v.previous.copies)
	if err != nil {
		return named(stored, err)
	}
	if at := promotedIdentity(stored); v.memory.kept.promoted != at {
		v.memory.kept = keptCopies{promoted: at}
	}
	v.memory.kept.copies = append(v.memory.kept.copies, kept...)
	return nil
}

// observePrevious looks at what was made under the entries of the record that are not the present one.
func (o *observer) observePrevious() {
	record := o.v.canary.Status.Rollout
	if record == nil || o.asleep {
		return
	}
	o.observePreviousScalers(record.Scalers)
	apex := router.NamesOf(o.v.canary).Apex
	for _, r := range o.previousRouting(o.v.facts.Provider.Name) {
		if o.v.facts.Previous == nil {
			o.v.facts.Previous = map[v1beta1.RoutingRef]rollout.PreviousFact{}
		}
		o.v.facts.Previous[r] = o.previousFact(r, apex)
	}
}

// previousRouting are the entries of the record that are not the present one, which is for a provider.
func (o *observer) previousRouting(provider string) []v1beta1.RoutingRef {
	c := o.v.canary
	if c.Status.Rollout == nil {
		return nil
	}
	var previous []v1beta1.RoutingRef
	apex := router.NamesOf(c).Apex
	_, route := c.OwnRoute(provider)
	for _, r := range c.Status.Rollout.Routing {
		if r.Service != apex || (r.Provider != provider || r.Route != route) && r.Provider != "" {
			previous = append(previous, r)
		}
	}
	return previous
}

func (o *observer) previousFact(r v1beta1.RoutingRef, apex string) rollout.PreviousFact {
	fact := rollout.PreviousFact{}
	if o.v.unrendered {
		fact.Unknown = "the present routes are not known"
		return fact
	}
	// What another Canary has taken over by now is its own.
	taken, err := o.c.canaries.LeadsService(o.v.object(), r.Service)
	if err == nil && r.Provider != "" {
		fact.Routes, err = o.previousRoutes(r, taken)
	}
	if err == nil && r.Service != apex {
		fact.Services, fact.TakenOver, err = o.previousServices(r, taken)
	}
	if err != nil {
		return rollout.PreviousFact{Unknown: err.Error()}
	}
	return fact
}

// previousRoutes reports whether there are routes to delete or to give back. A provider that is gone, or whose resources are not
// installed any more, has none.
func (o *observer) previousRoutes(r v1beta1.RoutingRef, taken bool) (bool, error) {
	p, err := o.c.Providers.Provider(r.Provider)
	if err != nil || o.v.canary.IsKnative() {
		return false, nil //nolint:nilerr // what no provider knows nobody routes by
	}
	gone := map[string]bool{}
	for _, ref := range p.Resources() {
		state, _ := o.c.mesh.Ensure(ref.Resource, o.v.key)
		if state == cache.Missing {
			gone[ref.Kind] = true
		} else if err := o.c.mesh.Ready(ref.Resource); err != nil {
			return false, err
		}
	}
	if r.Route != "" {
		return o.previousRoute(p, r)
	}
	served := func(ref router.Ref) bool { return !gone[ref.Kind] }
	f, err := router.PreviousOf(o.v.canary, p, r.Service, o.v.rendered, served, o.mesh)
	if err != nil {
		return false, err
	}
	if taken {
		f.Originals = nil
	}
	o.v.previous.routes.Ours = append(o.v.previous.routes.Ours, f.Ours...)
	o.v.previous.routes.Originals = append(o.v.previous.routes.Originals, f.Originals...)
	changes, err := o.c.mesh.Diff(o.v.canary, f.Originals)
	return len(f.Ours)+len(changes) > 0, err
}

// previousRoute reports whether a route of the user's that the Canary names no more still leads to the canary, which has no pods most of
// the time. What is left to its user leads to the primary.
func (o *observer) previousRoute(p router.Provider, r v1beta1.RoutingRef) (bool, error) {
	former := o.v.canary.DeepCopy()
	former.Spec.Service.Name = r.Service
	former.Spec.RouteRef = &v1beta1.LocalObjectReference{Kind: v1beta1.RouteKind(r.Provider), Name: r.Route}
	left, err := router.Leave(former, p, o.mesh)
	if err != nil {
		return false, err
	}
	o.v.previous.routes.Originals = append(o.v.previous.routes.Originals, left...)
	changes, err := o.c.mesh.applier.Diff(o.v.canary, left)
	return len(changes) > 0, err
}

// previousServices reports whether there are Services to delete or to leave to their users, and whether there are any of users.
func (o *observer) previousServices(r v1beta1.RoutingRef, taken bool) (left, takenOver bool, err error) {
	f, err := services.PreviousOf(o.v.canary, r.Service, o.v.servicesInput(), o.main)
	if err != nil {
		return false, false, err
	}
	if taken {
		f.Released, f.Originals = nil, nil
	}
	o.v.previous.services.Originals = append(o.v.previous.services.Originals, f.Originals...)
	if r.Released {
		return false, len(f.Originals) > 0, nil
	}
	o.v.previous.services.Ours = append(o.v.previous.services.Ours, f.Ours...)
	o.v.previous.services.Released = append(o.v.previous.services.Released, f.Released...)
	changes, err := o.c.main.Diff(o.v.canary, f.Released)
	return len(f.Ours)+len(changes) > 0, len(f.Originals) > 0, err
}

// observePreviousScalers looks for what is left of the autoscalers that the Canary no longer refers to.
func (o *observer) observePreviousScalers(record []v1beta1.ScalerRef) {
	o.v.facts.Scaler.PreviousKnown = true
	for _, s := range record {
		source, copied, ok := workload.PreviousScaler(o.v.canary, s)
		if !ok {
			continue
		}
		state, _ := o.c.main.Ensure(copied.Resource, o.v.key)
		if state == cache.Missing {
			continue
		}
		if err := o.observePreviousScaler(s, source, copied); err != nil {
			o.v.facts.Scaler.PreviousKnown = false
			return
		}
	}
	o.v.facts.Scaler.PreviousExist = len(o.v.previous.scalers) > 0
	o.v.facts.Scaler.PreviousPaused = len(o.v.previous.paused) > 0
}

func (o *observer) observePreviousScaler(previous v1beta1.ScalerRef, source, copied router.Ref) error {
	live, err := o.main.Get(copied)
	if err != nil {
		return err
	}
	if live != nil && live.GetDeletionTimestamp() == nil && workload.ScalesPrimary(o.v.canary, live) {
		o.v.previous.scalers = append(o.v.previous.scalers, copied)
	}
	if live, err = o.main.Get(source); err != nil || live == nil || !workload.HoldsAtZero(live) {
		return err
	}
	// What another Canary refers to by now is told what to do by that one.
	taken, err := o.c.canaries.RefersToScaler(o.v.object(), previous)
	if err == nil && !taken {
		o.v.previous.paused = append(o.v.previous.paused, source)
	}
	return err
}

// resumePreviousScalers carries out rollout.ResumePreviousScalers.
func (c *Controller) resumePreviousScalers(ctx context.Context, v *view) error {
	for _, ref := range v.previous.paused {
		if err := workload.ResumePreviousScaler(ctx, c.main.Client(), ref); err != nil {
			return err
		}
	}
	return nil
}

// retireRoutes carries out rollout.RetireRoutes.
func (c *Controller) retireRoutes(ctx context.Context, v *view) error {
	if err := c.mesh.Delete(ctx, v.canary, v.previous.routes.Ours); err != nil {
		return err
	}
	return c.mesh.Apply(ctx, v.canary, v.previous.routes.Originals)
}

// retireServices carries out rollout.RetireServices.
func (c *Controller) retireServices(ctx context.Context, v *view) error {
	if err := c.main.Apply(ctx, v.canary, v.previous.services.Released); err != nil {
		return err
	}
	return c.main.Delete(ctx, v.canary, v.previous.services.Ours)
}
