package simulate

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// former are the Services and routes that were made under former names.
type former struct {
	routes   map[v1beta1.RoutingRef]rollout.TrafficState
	services map[string]bool
	// presentSince is since when the present ones are complete, routesGoneSince since when no former routes are there.
	presentSince, routesGoneSince time.Time
}

// lead is whether former routes lead to the target.
func (f *former) lead() bool {
	for _, t := range f.routes {
		if t.SendsToCanary() {
			return true
		}
	}
	return false
}

func (w *World) names() v1beta1.RoutingRef {
	canary, _ := rollout.RolledOut(w.canary)
	apex, _, _ := canary.GetServiceNames()
	return v1beta1.RoutingRef{Service: apex, Provider: w.opts.Provider.Name}
}

// rename leaves what there is to its former name.
func (w *World) rename(before v1beta1.RoutingRef) {
	now := w.names()
	if now == before {
		return
	}
	w.note("service.name becomes %s", now.Service)
	if w.formers.routes == nil {
		w.formers = former{routes: map[v1beta1.RoutingRef]rollout.TrafficState{}, services: map[string]bool{}}
	}
	if w.routes {
		w.formers.routes[before] = w.routed
	}
	if w.backends || w.apex {
		w.formers.services[before.Service] = true
	}
	w.routed, w.routes = w.formers.routes[now], false
	delete(w.formers.routes, now)
	delete(w.formers.services, now.Service)
	w.backends, w.apex = false, false
	w.trackZero()
}

func (w *World) formerFacts() map[v1beta1.RoutingRef]rollout.FormerFact {
	if w.canary.Status.Rollout == nil {
		return nil
	}
	facts := map[v1beta1.RoutingRef]rollout.FormerFact{}
	for _, r := range w.canary.Status.Rollout.Routing {
		if r == w.names() {
			continue
		}
		_, routes := w.formers.routes[r]
		facts[r] = rollout.FormerFact{Routes: routes, Services: w.formers.services[r.Service]}
	}
	return facts
}

// trackFormer keeps the times from which the invariants of a retirement count.
func (w *World) trackFormer() {
	f := &w.formers
	keep := func(since *time.Time, holds bool) {
		if !holds {
			*since = time.Time{}
		} else if since.IsZero() {
			*since = w.now
		}
	}
	keep(&f.presentSince, w.apex && w.backends && (w.routes || !w.opts.Provider.Routes))
	keep(&f.routesGoneSince, len(f.routes) == 0)
}

func (w *World) retire(a rollout.Action) {
	switch a.(type) {
	case rollout.RetireRoutes:
		clear(w.formers.routes)
	case rollout.RetireServices:
		clear(w.formers.services)
	default:
	}
}

// checkRetirement holds a retirement against the invariant 2: the present ones serve, and have done so for long enough.
func (w *World) checkRetirement(a rollout.Action) {
	since := w.formers.presentSince
	if _, ok := a.(rollout.RetireServices); ok {
		if len(w.formers.routes) > 0 {
			w.violate(2, "former Services go before the routes that lead to them")
		}
		if w.formers.routesGoneSince.After(since) {
			since = w.formers.routesGoneSince
		}
	}
	if w.formers.presentSince.IsZero() || w.now.Sub(since) < Settings().PropagationDelay {
		w.violate(2, "%T before the proxies follow", a)
	}
}
