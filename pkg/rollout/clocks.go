package rollout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// What was under way when a clock was started.
const (
	clockAnalysis  = "analysis"
	clockPromotion = "promotion"
)

// clocks returns since when the things are missing that this stage of this revision waits for. Those of another stage or
// revision are void: nobody is judged by how long somebody else was waited for.
func (p *pass) clocks() *v1beta1.UnreadySince {
	stage := p.clockStage()
	if c := p.st.UnreadySince; c == nil || c.Run != p.st.Run || c.Stage != stage {
		p.st.UnreadySince = &v1beta1.UnreadySince{Run: p.st.Run, Stage: stage}
	}
	return p.st.UnreadySince
}

// clockStage is coarser than the stage of the record: a primary that is waited for is the same before and after a step.
func (p *pass) clockStage() string {
	switch p.next.Phase {
	case v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseWaitingPromotion:
		return clockAnalysis
	case v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising:
		return clockPromotion
	default:
		return ""
	}
}

// started is the time of a clock, which is started now unless it runs already. One that is ahead of us was set by another
// clock, or ours was set back: it starts anew.
func (p *pass) started(clock **metav1.MicroTime) time.Time {
	if since := *clock; since == nil || since.After(p.f.Now) {
		*clock = micro(p.f.Now)
	}
	return (*clock).Time
}

// expires is when a clock reaches the progress deadline.
func (p *pass) expires(clock **metav1.MicroTime) time.Time { return p.started(clock).Add(p.deadline()) }

// expired is whether a clock has reached the progress deadline. If not, it arranges to be called when it has.
func (p *pass) expired(clock **metav1.MicroTime) bool { return p.elapsed(clock, p.deadline()) }

// elapsed is whether a clock has run for as long as d. If not, it arranges to be called when it has.
func (p *pass) elapsed(clock **metav1.MicroTime, d time.Duration) bool {
	until := p.started(clock).Add(d)
	if !p.f.Now.Before(until) {
		return true
	}
	p.wakeAt(until)
	return false
}

// stop puts back the clock of something that is there. A clock that was just started runs on for a while, because what comes
// and goes all the time would cost two writes each time; never for so long that it could expire over what is there.
func (p *pass) stop(clock **metav1.MicroTime) {
	since := *clock
	if since == nil {
		return
	}
	until := since.Add(min(p.interval(), p.deadline()/2))
	if p.f.Now.Before(until) && !since.After(p.f.Now) {
		p.wakeAt(until)
		return
	}
	*clock = nil
}

// changeRefused is whether the change that the rollout waits for has been refused for as long as the progress deadline, and
// is refused still: nobody may have been there to try.
func (p *pass) changeRefused() bool {
	return p.f.ApplyError != "" && p.expired(&p.clocks().Change)
}

// settleClocks drops the clocks when none runs, or when what they were about is over.
func (p *pass) settleClocks() {
	c := p.st.UnreadySince
	if c == nil {
		return
	}
	if c.Routes != nil && !p.running() && !p.denied() {
		c.Routes = nil
	}
	over := c.Run != p.st.Run || c.Stage != p.clockStage()
	if over || c.Canary == nil && c.Primary == nil && c.Routes == nil && c.Change == nil && c.Blocked == nil {
		p.st.UnreadySince = nil
	}
}

// startGrace is how long nobody is told that pods are not ready which were just asked for. Most are by then.
const startGrace = 10 * time.Second

// justBegun is whether the stage is so young that what it waits for may well be there in a moment. If so, it arranges to be called when it
// is not. What was told already goes on to be true, and what can't be done is told at once.
func (p *pass) justBegun(told ProblemReason) bool {
	if p.healthReason() == told || p.f.ApplyError != "" || p.st.StageStartedAt == nil {
		return false
	}
	until := p.st.StageStartedAt.Add(min(startGrace, p.interval(), p.deadline()/4))
	if !p.f.Now.Before(until) {
		return false
	}
	p.wakeAt(until)
	p.young = true
	return true
}
