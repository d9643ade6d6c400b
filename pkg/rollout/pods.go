package rollout

// hasPods is whether the target still has pods to take away, or an autoscaler that would give it new ones.
func (p *pass) hasPods() bool {
	return !p.f.Target.Unscalable && (p.f.Target.Replicas > 0 || p.f.Scaler.Pausable && !p.f.Scaler.Paused)
}

// keepWithoutPods leaves a target at rest without pods, since those get no requests. It tells an autoscaler that came later, and takes
// away what somebody else gave it, as a tool does that applies a number of replicas from Git: once in an interval, so that nobody is
// fought every second.
func (p *pass) keepWithoutPods() {
	since := p.st.StrayPodsSince
	p.st.StrayPodsSince = nil
	switch {
	case p.canaryServes() || !p.hasPods():
	case p.f.Target.Replicas == 0:
		p.do(PauseTarget{})
	default:
		p.st.StrayPodsSince = since
		p.takeStrayPods()
	}
}

// takeStrayPods takes the pods away that no rollout gave the target, an interval after they were first seen or last taken.
func (p *pass) takeStrayPods() {
	if p.f.Primary.Available == 0 || !p.drained() || !p.elapsed(&p.st.StrayPodsSince, p.interval()) {
		return
	}
	p.normal("%s has pods that no rollout gave it and that get no requests, scaling it to zero again", p.targetName())
	p.do(ScaleTargetToZero{})
	p.st.StrayPodsSince = micro(p.f.Now)
	p.wakeAt(p.f.Now.Add(p.interval()))
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
