package rollout

// contended holds the analysis while somebody else keeps changing what it relies on: requests do not go where the step at hand
// wants them. Whatever takes traffic away from the canary comes before this rule.
func contended(p *pass) bool {
	if !p.running() || p.f.Contended == nil {
		return false
	}
	p.problem = p.f.Contended
	p.pace()
	return true
}

// heldByOthers is whether routes wait for nothing but that somebody else lets them be. No deadline runs meanwhile: the canary
// is not what is at fault.
func (p *pass) heldByOthers() bool {
	if p.f.Contended == nil || p.f.ApplyError != "" {
		return false
	}
	p.clocks().Routes, p.clocks().Change = nil, nil
	return true
}

// tellContended says who is in the way where there is nothing worse to say. Pods that never were may be missing for that
// reason, and their deadline counts from the start of the step and not from the condition.
func (p *pass) tellContended() {
	if p.f.Contended == nil || p.keepHealth {
		return
	}
	if p.problem == nil || p.problem.Reason == ReasonCanaryNotReady && p.running() && p.st.Stage == "" {
		p.problem = p.f.Contended
	}
}
