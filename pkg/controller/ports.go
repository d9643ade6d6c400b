package controller

import (
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// observePort finds out whether ready pods of the primary have a port that no template declares and the Services ask for by name. Only
// such a Canary needs EndpointSlices: they are not watched before there is one.
func (o *observer) observePort() {
	port := &o.v.facts.Port
	if port.Name == "" || !o.v.selects() {
		return
	}
	_, primary, _ := services.Refs(o.v.canary)
	ref := cache.SlicesRef(primary.Namespace, primary.Name)
	if !o.ready(o.c.main, []router.Ref{services.Ref("", ""), ref}, "run the operator in a cluster that serves it") {
		return
	}
	o.main.Touch(ref)
	seen, err := services.EndpointsOf(o.v.canary, o.v.servicesInput(), o.main, o.c.main.Slices(ref.Namespace, ref.Name))
	o.failed(err)
	switch {
	case err != nil:
	case !seen.Wanted && seen.Used && seen.Served:
		// There is nothing to see before the Service is changed, and then its users would be the ones to find out.
		o.invalid("spec.service.targetPort: no container declares a TCP port named %q (of what %s declares, %s), and Service %s, which serves "+
			"by another port, is not changed before one does: name one that exists, or write the number of a port without quotes",
			port.Name, o.v.canary.Spec.TargetRef.Name, port.Declared, primary.Name)
	case seen.Wanted && seen.Served:
		port.State = rollout.PortServed
	case seen.Wanted && seen.Ready:
		port.State = rollout.PortMissing
	}
}
