package rollout

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A Service that asks for a port by name leads to those ready pods alone that have a port of that name. No template need declare it,
// a webhook may add the container that has it; so it is the endpoints that tell whether requests would be lost.

// heedPort treats a side whose ready pods have not the port that its Service asks for as one without ready pods: no request arrives
// there. What nobody has seen yet leads nothing to a side, and takes nothing away from it. A bootstrap, which leads to the primary
// for the first time, looks at the port itself.
func (p *pass) heedPort() {
	port := p.f.Port
	if port.Name == "" || p.inPhase("", v1beta1.CanaryPhaseInitializing) {
		return
	}
	_, primary, canary := p.c.GetServiceNames()
	p.behind(&p.f.Primary, primary, port.State, p.inPhase(v1beta1.CanaryPhasePromoting))
	p.behind(&p.f.Target, canary, port.Canary, p.running())
}

// behind makes a workload what it is behind its Service; awaited is whether more requests are about to be led there.
func (p *pass) behind(w *Workload, service string, port PortState, awaited bool) {
	switch {
	case w.Available == 0:
	case port == PortMissing:
		w.Available = 0
		w.Health = Health{State: Waiting, Reason: fmt.Sprintf("no ready pod has a TCP port named %q", p.f.Port.Name)}
	case port == PortUnknown && awaited && w.Health.State == Ready:
		w.Health = Health{State: Waiting, Reason: fmt.Sprintf("Service %s.%s has no ready endpoint with a port named %q yet", service,
			p.c.Namespace, p.f.Port.Name)}
	}
}

// noReadyPods says what a side lacks.
func (p *pass) noReadyPods(port PortState) string {
	if port == PortMissing {
		return fmt.Sprintf("has no ready pods with a TCP port named %q", p.f.Port.Name)
	}
	return "has no ready pods"
}

// heedSelectors treats a side whose pods its Service does not select as one without ready pods, too. That lasts only while a fault of the
// spec keeps the Services from following a workload that was made again with other labels.
func (p *pass) heedSelectors() {
	problem := p.f.Problem
	if problem == nil || problem.Unknown || p.inPhase("", v1beta1.CanaryPhaseInitializing) || !p.c.DeletionTimestamp.IsZero() {
		return
	}
	_, primary, canary := p.c.GetServiceNames()
	p.unfound(p.f.Services.PrimaryUnfound, &p.f.Primary, primary)
	p.unfoundCanary = p.unfound(p.f.Services.CanaryUnfound, &p.f.Target, canary)
}

// unfound reports whether it took ready pods of a workload for none.
func (p *pass) unfound(is bool, w *Workload, service string) bool {
	if !is || w.Available == 0 {
		return false
	}
	w.Available = 0
	w.Health = Health{State: Waiting, Reason: fmt.Sprintf("Service %s.%s does not select its pods", service, p.c.Namespace)}
	return true
}

// portServed is whether traffic may be led to the primary, as far as it depends on a port that no template declares.
func (p *pass) portServed() bool {
	port := p.f.Port
	if port.Name == "" || port.State == PortServed {
		return true
	}
	p.st.CanaryDrainedAt = nil
	if port.State == PortMissing {
		p.failPort()
	} else {
		// Endpoints follow ready pods at once, and wake whoever waits for them.
		p.keepHealth = true
	}
	return false
}

func (p *pass) failPort() {
	p.fail(ReasonInvalidSpec, "spec.service.targetPort: no ready pod of %s has a TCP port named %q (of what %s declares, %s): requests that "+
		"are led there would be lost. Name a port that the pods have, or write the number of one without quotes",
		p.primaryName(), p.f.Port.Name, p.targetName(), p.f.Port.Declared)
}

// watchPort tells of a primary that lost the port where there is nothing worse to tell.
func (p *pass) watchPort() {
	if p.problem == nil && !p.keepHealth && p.f.Port.State == PortMissing {
		p.failPort()
	}
}
