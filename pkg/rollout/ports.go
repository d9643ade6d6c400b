package rollout

// A Service that asks for a port by name leads to those ready pods alone that have a port of that name. No template need declare it,
// a webhook may add the container that has it; so it is the endpoints that tell whether requests would be lost.

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
