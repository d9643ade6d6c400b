package controller

import (
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// observePort finds out whether ready pods of both sides have a port that no template declares and the Services ask for by name. Only
// such a Canary needs EndpointSlices: they are not watched before there is one.
func (o *observer) observePort() {
	port := &o.v.facts.Port
	if port.Name == "" || !o.v.selects() {
		return
	}
	slices := cache.SlicesRef("", "")
	if !o.ready(o.c.main, []router.Ref{services.Ref("", ""), slices}, "run the operator in a cluster that serves it") {
		return
	}
	_, primary, canary := services.Refs(o.v.canary)
	seen := o.endpointsOf(primary)
	if !seen.Wanted && seen.Used && seen.Served {
		// There is nothing to see before the Service is changed, and then its users would be the ones to find out.
		o.invalid("spec.service.targetPort: no container declares a TCP port named %q (of what %s declares, %s), and Service %s, which serves "+
			"by another port, is not changed before one does: name one that exists, or write the number of a port without quotes",
			port.Name, o.v.canary.Spec.TargetRef.Name, port.Declared, primary.Name)
		return
	}
	port.State, port.Canary = portState(seen), portState(o.endpointsOf(canary))
}

// endpointsOf is what is known of the pods behind a Service. All is false for one that can't be read.
func (o *observer) endpointsOf(service router.Ref) services.Endpoints {
	ref := cache.SlicesRef(service.Namespace, service.Name)
	o.main.Touch(ref)
	seen, err := services.EndpointsOf(o.v.canary, service, o.v.servicesInput(), o.main, o.c.main.Slices(ref.Namespace, ref.Name))
	o.failed(err)
	return seen
}

func portState(seen services.Endpoints) rollout.PortState {
	switch {
	case seen.Wanted && seen.Served:
		return rollout.PortServed
	case seen.Wanted && seen.Ready:
		return rollout.PortMissing
	}
	return rollout.PortUnknown
}
