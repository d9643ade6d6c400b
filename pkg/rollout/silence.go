package rollout

import (
	"fmt"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A provider may report whether routes are in force. No report is waited for without an end: one that is missing counts as the
// propagation delay, one that says no holds an advance up to the progress deadline, and nothing that takes traffic back asks for
// one. It may say that a controller has seen the routes; that proxies follow takes the delay in any case.

// denied is whether somebody reports that the routes are not in force.
func (p *pass) denied() bool {
	r := p.f.Routes
	return p.f.Provider.Routes && p.f.Provider.ReportsSettled && r.InPlace && !r.Settled && !r.Silent
}

// heldByReport is whether what serves without the present routes has to stay, because somebody reports that they are not in
// force. It ends at the progress deadline: whoever reports may be gone.
func (p *pass) heldByReport() bool {
	if !p.denied() {
		return false
	}
	p.tellDenied()
	return !p.expired(&p.clocks().Routes)
}

// tellDenied tells of routes that are not in force, once they have had the time that any route needs. It reports whether they
// had.
func (p *pass) tellDenied() bool {
	if usual := p.routesDue(); p.f.Now.Before(usual) {
		p.keepHealth = true
		p.wakeAt(usual)
		return false
	}
	if p.problem == nil {
		p.fail(ReasonRoutesNotSettled, "%s", p.deniedText())
	}
	return true
}

func (p *pass) deniedText() string {
	return fmt.Sprintf("routes of %s are not in force: %s", p.canaryName(), p.f.Routes.Reason)
}

// watchDenied tells of routes that are not in force where nothing waits for them.
func (p *pass) watchDenied() {
	if !p.keepHealth && p.denied() {
		p.tellDenied()
	}
}

// routesDue is when a route that was written at the beginning of the stage is expected to be in force. Those of a bootstrap are written
// when its stage is as old as that.
func (p *pass) routesDue() time.Time {
	if p.st.StageStartedAt == nil {
		return p.f.Now
	}
	delay := p.f.Settings.PropagationDelay
	if p.inPhase(v1beta1.CanaryPhaseInitializing) {
		delay *= 2
	}
	return p.st.StageStartedAt.Add(delay)
}

// unreported says that nobody reports on the routes. It is empty when somebody does, or may be about to do so for the first time.
func (p *pass) unreported() string {
	r := p.f.Routes
	silent := p.f.Provider.Routes && p.f.Provider.ReportsSettled && r.InPlace && r.Silent
	if !silent || p.inPhase("", v1beta1.CanaryPhaseInitializing) || p.st.RetiringSince != nil {
		return ""
	}
	if due := p.routesDue(); p.inPhase(v1beta1.CanaryPhaseInitialized) && p.f.Now.Before(due) {
		p.wakeAt(due)
		return ""
	}
	return fmt.Sprintf("nobody reports whether the routes of %s are in force (%s): each change of them is relied on after %s (flag "+
		"-route-propagation-delay)", p.canaryName(), r.Reason, p.f.Settings.PropagationDelay)
}
