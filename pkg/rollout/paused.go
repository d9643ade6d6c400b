package rollout

import (
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A Deployment is paused in order to change it without effect. What is changed in it meanwhile is neither running nor asked for:
// its pods stay what they were, and no revision is counted until it is resumed.

// pausedChange is whether the target was changed while it is paused: what the status is about is gone from it, and what it says now
// is not to be rolled out yet.
func (p *pass) pausedChange() bool { return p.f.Target.Paused && p.moved() }

// superseded is whether a newer revision is to be rolled out.
func (p *pass) superseded() bool { return p.moved() && !p.f.Target.Paused }

// failPaused says what has to be done about a target that is paused.
func (p *pass) failPaused() {
	kind := strings.ToLower(p.c.Spec.TargetRef.Kind)
	p.fail(ReasonTargetPaused, "%s %s is paused (spec.paused): what was changed in it is rolled out once it is resumed, for example by "+
		"kubectl -n %s rollout resume %s/%s", kind, p.targetName(), p.c.Namespace, kind, p.c.Spec.TargetRef.Name)
}

// waitingPaused keeps a change waiting that nobody is to approve yet.
func waitingPaused(p *pass) bool {
	if !p.inPhase(v1beta1.CanaryPhaseWaiting) || !p.pausedChange() {
		return false
	}
	p.keepWaiting()
	p.failPaused()
	return true
}

// pausedUnderWay holds a run whose target was changed while it is paused. The pods of the canary are still what was analyzed, but
// that can't be promoted unless the change is undone, so they get no requests meanwhile. A run does not wait for ever: it is
// taken back after the progress deadline, and the resumption begins another.
func pausedUnderWay(p *pass) bool {
	if !p.running() || !p.pausedChange() || p.st.Stage == stageRollback || p.st.Stage == stageCancel {
		return false
	}
	p.holdPaused()
	return true
}

func (p *pass) holdPaused() {
	if p.st.Stage != "" && p.st.Stage != stagePreRollout || p.next.Phase != v1beta1.CanaryPhaseProgressing {
		p.next.Iterations = 0
		if p.next.Phase != v1beta1.CanaryPhaseProgressing || p.st.Stage != stageAnalysis {
			p.enter(v1beta1.CanaryPhaseProgressing, stageAnalysis)
		}
	}
	p.leaveUnfitCanary()
	p.failPaused()
	deadline := p.canaryDeadline()
	if p.f.Now.Before(deadline) {
		p.wakeAt(deadline)
		return
	}
	p.exceedDeadline(p.problem.Message)
}
