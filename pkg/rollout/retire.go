package rollout

import (
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// What was made under a previous service.name, for a previous provider or for a previous autoscalerRef is known by the record in the
// status, which is written before anything is made. It goes in this order: the present Services and routes are seen in force,
// the propagation delay passes, the previous routes go, the delay passes once more, the previous Services go.

// maxPrevious bounds the record below what the schema admits. Nobody renames faster than things are cleaned up.
const maxPrevious = 8

// recordRouting notes where Services and routes are to be found from now on.
func (p *pass) recordRouting() {
	present := p.presentRouting()
	if present.Provider == "" {
		return
	}
	old := p.st.Routing
	p.st.Routing = remembered(present, old, func(r v1beta1.RoutingRef) bool { return p.isPresent(r) })
	if len(old) > 0 && len(p.st.Routing) > 0 && old[0] != p.st.Routing[0] {
		p.st.RetiringSince = nil
	}
}

// remembered puts an entry at the front of a record, in place of those that it replaces.
func remembered[T comparable](present T, record []T, replaces func(T) bool) []T {
	if len(record) > 0 && record[0] == present && !slices.ContainsFunc(record[1:], replaces) {
		return record
	}
	rest := slices.DeleteFunc(slices.Clone(record), replaces)
	rest = append([]T{present}, rest...)
	return rest[:min(len(rest), maxPrevious)]
}

func (p *pass) presentRouting() v1beta1.RoutingRef {
	apex, _, _ := p.c.GetServiceNames()
	_, route := p.c.OwnRoute(p.f.Provider.Name)
	return v1beta1.RoutingRef{Service: apex, Provider: p.f.Provider.Name, Route: route}
}

// isPresent is whether nothing under an entry is previous.
func (p *pass) isPresent(r v1beta1.RoutingRef) bool {
	present := p.presentRouting()
	return r.Service == present.Service && (r.Provider == present.Provider && r.Route == present.Route || r.Provider == "")
}

// retire takes the next step of the removal of previous routes and Services.
func (p *pass) retire() {
	if !slices.ContainsFunc(p.st.Routing, func(r v1beta1.RoutingRef) bool { return !p.isPresent(r) && !r.Released }) || !p.presentInPlace() || p.heldByReport() {
		p.st.RetiringSince = nil
		p.forgetReleased()
		return
	}
	if !p.elapsed(&p.st.RetiringSince, p.f.Settings.PropagationDelay) {
		return
	}
	if p.previousRoutes() {
		p.retireRoutes()
	} else {
		p.retireServices()
	}
}

// presentInPlace is whether whoever still used the previous Services and routes has the present ones to go to.
func (p *pass) presentInPlace() bool {
	if !p.f.Services.BackendsInPlace || !p.f.Services.ApexInPlace {
		return false
	}
	r := p.f.Routes
	return !p.f.Provider.Routes || r.Known && r.InPlace
}

// leftByPreviousRoutes is whether no previous routes lead anywhere any more. Where they can't be read, nobody knows.
func (p *pass) leftByPreviousRoutes() bool {
	if !p.previousRoutes() {
		return true
	}
	for _, r := range p.st.Routing {
		if reason := p.f.Previous[r].Unknown; reason != "" && !p.isPresent(r) {
			p.fail(ReasonReadFailed, "former routes of %s may still be in force: %s", p.canaryName(), reason)
		}
	}
	return false
}

// previousRoutes is whether there may be previous routes. They may lead to a side that nothing else leads to.
func (p *pass) previousRoutes() bool {
	return slices.ContainsFunc(p.st.Routing, func(r v1beta1.RoutingRef) bool { return !p.isPresent(r) && r.Provider != "" })
}

func (p *pass) retireRoutes() {
	for _, r := range p.st.Routing {
		fact, known := p.f.Previous[r]
		switch {
		case p.isPresent(r) || r.Provider == "":
		case !known || fact.Unknown != "":
			return
		case fact.Routes:
			p.do(RetireRoutes{})
			return
		}
	}
	present := p.presentRouting()
	var left []v1beta1.RoutingRef
	for _, r := range p.st.Routing {
		switch {
		case p.isPresent(r):
		case r.Service == present.Service && r.Provider == present.Provider:
			p.normal("The former route leads nothing to %s any more, %s is routed by the present one", p.targetName(), p.canaryName())
			continue
		case r.Service == present.Service:
			p.normal("No routes of provider %s are left, %s is routed by %s", r.Provider, p.canaryName(), present.Provider)
			continue
		default:
			r.Provider, r.Route = "", ""
		}
		if !slices.Contains(left, r) {
			left = append(left, r)
		}
	}
	p.st.Routing = left
	p.st.RetiringSince = micro(p.f.Now)
	p.wakeAt(p.f.Now.Add(p.f.Settings.PropagationDelay))
}

func (p *pass) retireServices() {
	for _, r := range p.st.Routing {
		fact, known := p.f.Previous[r]
		switch {
		case p.isPresent(r) || r.Released:
		case !known || fact.Unknown != "":
			return
		case fact.Services:
			p.do(RetireServices{})
			return
		}
	}
	present := p.presentRouting()
	var left []v1beta1.RoutingRef
	for _, r := range p.st.Routing {
		switch {
		case p.isPresent(r) || r.Released:
		case !p.f.Previous[r].TakenOver:
			p.normal("No Services and routes of the former name %s are left, %s is served by %s", r.Service, p.canaryName(), present.Service)
			continue
		default:
			p.normal("Service %s.%s is left to its user and leads to the primary, %s is served by %s",
				r.Service, p.c.Namespace, p.canaryName(), present.Service)
			r.Released = true
		}
		left = append(left, r)
	}
	p.st.Routing = left
	p.st.RetiringSince = nil
}

// forgetReleased drops entries under which nothing leads to the primary any more.
func (p *pass) forgetReleased() {
	p.st.Routing = slices.DeleteFunc(slices.Clone(p.st.Routing), func(r v1beta1.RoutingRef) bool {
		fact, known := p.f.Previous[r]
		return r.Released && !p.isPresent(r) && known && fact.Unknown == "" && !fact.TakenOver
	})
}

// recordScaler notes of which autoscaler the primary gets a copy.
func (p *pass) recordScaler() {
	ref := p.c.Spec.AutoscalerRef
	if ref == nil {
		return
	}
	present := v1beta1.ScalerRef{Kind: ref.Kind, Name: ref.Name}
	p.st.Scalers = remembered(present, p.st.Scalers, func(s v1beta1.ScalerRef) bool { return s == present })
}

// retireScalers deletes what scales the primary on behalf of a previous autoscalerRef. Nothing else would give pods to a primary
// that was scaled to zero, so it has to have some. A HorizontalPodAutoscaler goes once its replacement stands; KEDA refuses a
// second one, so there the first has to go before. The previous autoscaler of the target is its user's again at once: left as it
// is, it would hold the next revision without pods.
func (p *pass) retireScalers() {
	previous := slices.DeleteFunc(slices.Clone(p.st.Scalers), func(s v1beta1.ScalerRef) bool {
		ref := p.c.Spec.AutoscalerRef
		return ref != nil && s == v1beta1.ScalerRef{Kind: ref.Kind, Name: ref.Name}
	})
	scaler := p.f.Scaler
	if len(previous) == 0 || !scaler.PreviousKnown {
		return
	}
	if scaler.PreviousPaused {
		p.do(ResumePreviousScalers{})
	}
	if !scaler.PreviousExist && !scaler.PreviousPaused {
		p.st.Scalers = slices.DeleteFunc(slices.Clone(p.st.Scalers), func(s v1beta1.ScalerRef) bool { return slices.Contains(previous, s) })
		return
	}
	if scaler.PreviousExist && p.f.Primary.Replicas > 0 && (!scaler.Wanted || scaler.InPlace || scaler.Pausable) {
		p.do(RetireScalers{})
	}
}

// restoreCopies gives new pods of the primary what those have that run. A promotion that is under way changes copies before
// the primary, and so does a bootstrap.
func (p *pass) restoreCopies() {
	switch p.next.Phase {
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseWaiting, v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseWaitingPromotion,
		v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed:
		if p.f.Copies.Restorable {
			p.do(RestoreCopies{})
		}
	default:
	}
}

// retireCopies deletes what pods of the primary read before the last promotion, once none of them is left.
func (p *pass) retireCopies() {
	if p.f.UnusedCopies && p.resting() && p.f.Primary.Health.State == Ready && !p.canaryServes() && p.st.Promoted != nil &&
		p.isCopyOf(p.st.Promoted) {
		p.do(RetireCopies{})
	}
}
