package rollout

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// drainTime is how long pods that served have to stay once nothing leads to them any more. Proxies follow a route later than it
// was written, and where nobody looks at the proxies themselves, a controller that has accepted the route says nothing of them.
func (p *pass) drainTime() time.Duration {
	delay := p.f.Settings.PropagationDelay
	if p.f.Provider.ReportsDataPlane && p.f.Routes.Settled {
		return delay
	}
	return max(delay, p.interval())
}

// canaryDrainTime is how long the pods of the target have to stay. Those that answer nobody, and those that nobody takes away,
// are not waited for.
func (p *pass) canaryDrainTime() time.Duration {
	stays := p.f.Target.Unscalable || p.moved() && p.inPhase(v1beta1.CanaryPhaseFinalising)
	if p.st.CanaryIdle || stays || p.f.Target.Available == 0 && !p.unfoundCanary {
		return p.f.Settings.PropagationDelay
	}
	return p.drainTime()
}

// settleDrain notes traffic that was thought to be gone, whatever the pass was about.
func (p *pass) settleDrain() {
	if p.c.DeletionTimestamp.IsZero() && !p.routedAway() {
		p.st.CanaryDrainedAt, p.st.CanaryIdle = nil, false
	}
}
