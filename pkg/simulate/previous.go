package simulate

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// previous are the Services and routes that were made under previous names.
type previous struct {
	routes   map[v1beta1.RoutingRef]rollout.TrafficState
	services map[string]bool
	// presentSince is since when the present ones are complete, routesGoneSince since when no previous routes are there.
	presentSince, routesGoneSince time.Time
}

// lead is whether previous routes lead to the target.
func (f *previous) lead() bool {
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

// rename leaves what there is to its previous name.
func (w *World) rename(before v1beta1.RoutingRef) {
	now := w.names()
	if now == before {
		return
	}
	w.note("service.name becomes %s", now.Service)
	if w.previous.routes == nil {
		w.previous = previous{routes: map[v1beta1.RoutingRef]rollout.TrafficState{}, services: map[string]bool{}}
	}
	if w.routes {
		w.previous.routes[before] = w.routed
	}
	if w.backends || w.apex {
		w.previous.services[before.Service] = true
	}
	w.routed, w.routes = w.previous.routes[now], false
	delete(w.previous.routes, now)
	delete(w.previous.services, now.Service)
	w.backends, w.apex = false, false
	w.trackZero()
}

func (w *World) previousFacts() map[v1beta1.RoutingRef]rollout.PreviousFact {
	if w.canary.Status.Rollout == nil {
		return nil
	}
	facts := map[v1beta1.RoutingRef]rollout.PreviousFact{}
	for _, r := range w.canary.Status.Rollout.Routing {
		if r == w.names() {
			continue
		}
		_, routes := w.previous.routes[r]
		facts[r] = rollout.PreviousFact{Routes: routes, Services: w.previous.services[r.Service]}
	}
	return facts
}

// trackPrevious keeps the times from which the invariants of a retirement count.
func (w *World) trackPrevious() {
	f := &w.previous
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
		clear(w.previous.routes)
	case rollout.RetireServices:
		clear(w.previous.services)
	default:
	}
}

// checkRetirement holds a retirement against the invariant 2: the present ones serve, and have done so for long enough.
func (w *World) checkRetirement(a rollout.Action) {
	since := w.previous.presentSince
	if _, ok := a.(rollout.RetireServices); ok {
		if len(w.previous.routes) > 0 {
			w.violate(2, "former Services go before the routes that lead to them")
		}
		if w.previous.routesGoneSince.After(since) {
			since = w.previous.routesGoneSince
		}
	}
	if w.previous.presentSince.IsZero() || w.now.Sub(since) < Settings().PropagationDelay {
		w.violate(2, "%T before the proxies follow", a)
	}
}
