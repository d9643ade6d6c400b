package rollout

// hasPods is whether the target still has pods to take away, or an autoscaler that would give it new ones.
func (p *pass) hasPods() bool {
	return !p.f.Target.Unscalable && (p.f.Target.Replicas > 0 || p.f.Scaler.Pausable && !p.f.Scaler.Paused)
}

// keepWithoutPods tells an autoscaler that came after the target was scaled to zero to leave it so: pods of a target at rest get
// no requests. Pods that somebody gave it since are his business.
func (p *pass) keepWithoutPods() {
	if p.f.Target.Replicas == 0 && p.hasPods() && !p.canaryServes() {
		p.do(PauseTarget{})
	}
}

// stopping is whether to wait with new pods of the target until its controller has seen the last ones go. It counts pods by what
// it last heard of them, and would call a target ready that was scaled to zero and back between two reports. A tenth of the deadline ends
// the wait where reports don't come.
func (p *pass) stopping() bool {
	if !p.f.Target.Stopping || p.st.StageStartedAt == nil {
		return false
	}
	until := p.st.StageStartedAt.Add(p.deadline() / 10)
	if !p.f.Now.Before(until) {
		return false
	}
	p.wakeAt(until)
	return true
}

// lacksPods is whether the target has no pods, or an autoscaler that is about to take them away.
func (p *pass) lacksPods() bool {
	return p.f.Target.Replicas == 0 || p.f.Scaler.Paused
}
