package rollout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Stages are the progress inside a phase. They stand in status.rollout.stage.
const (
	// Of Initializing: the primary is being made, then traffic is led to it.
	stageCopying = "copying"
	stageRouting = "routing"
	// Of Progressing: the start was announced, the first step was taken, the promotion was confirmed and blue/green has
	// switched to the canary, the canary is being taken back because it failed or because the target returned to the promoted
	// revision.
	stagePreRollout = "pre-rollout"
	stageAnalysis   = "analysis"
	stageSwitched   = "switched"
	stageRollback   = "rollback"
	stageCancel     = "cancel"
	// Of Promoting and Finalising: the analysis was skipped.
	stageSkip = "skip"
	// Of Promoting: the primary was ready with the promoted revision and gets its traffic step by step.
	stageLeadingBack = "leading-back"
	// Of Terminating: the target gets its pods back, Services and routes are given back, and are seen to stay so.
	stageReturning = "returning"
	stageReverting = "reverting"
	stageDraining  = "draining"
)

// pass is one run of the rules: the facts, and the decision as it grows.
type pass struct {
	f *Facts
	c *v1beta1.Canary
	// a is the analysis as far as the provider can serve it, ignored tells of the rest.
	a       *v1beta1.CanaryAnalysis
	ignored []string
	// silence says that nobody reports on the routes, empty when somebody does.
	silence string
	next    *v1beta1.CanaryStatus
	st      *v1beta1.RolloutStatus

	needs    []Need
	standing []string
	// metrics is the ID of the question to the metrics, empty if this pass has not got to it.
	metrics string

	actions  []Action
	outcomes []Outcome
	notices  []v1beta1.Notice
	wake     time.Time

	problem *Problem
	// told is set when the problem was put into words already and needs no event of its own.
	told bool
	// keepHealth leaves the condition as it is: the rule learned nothing about it.
	keepHealth bool
	// promoted replaces the message of the Promoted condition where the phase alone says too little.
	promoted string
	// heard is set when the rollback hooks have let the rollout go on in this pass, unheard when they have not answered yet.
	heard, unheard bool
	// refused are rollback hooks that let the rollout go on, which is not told yet.
	refused []string
	// findsPrimary is set when the pass waits until proxies have found the primary.
	findsPrimary bool
	// unfoundCanary is set when the target has ready pods that its Service does not lead to. What they were sent before they may still
	// be at work on.
	unfoundCanary bool
	// providersAnswer is set when the metric providers answer, which is not told yet.
	providersAnswer bool
	// young is set when pods that are missing were asked for a moment ago. Nobody is told what is missing for want of them.
	young bool
	// frozen stops the repair of drifted objects.
	frozen bool
	// kept leaves Flagger's fields of the status as they are.
	kept bool
}

func newPass(f *Facts) *pass {
	p := &pass{f: f, c: f.Canary, next: f.Canary.Status.DeepCopy()}
	p.a, p.ignored = served(f)
	p.heedPort()
	p.heedSelectors()
	p.ignored = append(p.ignored, f.Provider.Warnings...)
	if p.next.Rollout == nil {
		p.next.Rollout = &v1beta1.RolloutStatus{}
	}
	p.st = p.next.Rollout
	p.recall()
	p.rename()
	if at := p.st.StageStartedAt; at != nil && at.After(f.Now) && !p.resting() {
		// The clock was set back, or is that of another process. What the stage waits for must not wait for the difference.
		p.st.StageStartedAt = micro(f.Now)
	}
	p.silence = p.unreported()
	if p.running() || p.inPhase(v1beta1.CanaryPhasePromoting) && p.sendsToCanary() {
		p.adoptAudience()
	}
	return p
}

func (p *pass) do(actions ...Action) { p.actions = append(p.actions, actions...) }

// wakeAt asks to be called at t at the latest.
func (p *pass) wakeAt(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

func (p *pass) fail(reason ProblemReason, format string, args ...any) {
	p.problem = &Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// failOnce records a problem that goes on. The first time it is told; what changes in the words later stands in the condition alone.
func (p *pass) failOnce(reason ProblemReason, message string) {
	if p.healthReason() == reason {
		p.failQuietly(reason, message)
		return
	}
	p.fail(reason, "%s", message)
}

// failQuietly records a problem that an event of this pass tells already.
func (p *pass) failQuietly(reason ProblemReason, message string) {
	p.problem = &Problem{Reason: reason, Message: message}
	p.told = true
}

func (p *pass) event(kind, format string, args ...any) *v1beta1.Notice {
	p.notices = append(p.notices, v1beta1.Notice{Type: kind, Message: fmt.Sprintf(format, args...), Phase: p.next.Phase})
	return &p.notices[len(p.notices)-1]
}

func (p *pass) normal(format string, args ...any) *v1beta1.Notice {
	return p.event("Normal", format, args...)
}

func (p *pass) warning(format string, args ...any) *v1beta1.Notice {
	return p.event("Warning", format, args...)
}

func alert(n *v1beta1.Notice, severity v1beta1.AlertSeverity, format string, args ...any) {
	n.Alert = &v1beta1.NoticeAlert{Severity: severity, Message: fmt.Sprintf(format, args...)}
}

func alertWithDetails(n *v1beta1.Notice, severity v1beta1.AlertSeverity, format string, args ...any) {
	alert(n, severity, format, args...)
	n.Alert.Details = true
}

// canaryName and the other names are in the form that messages use: object name, dot, namespace.
func (p *pass) canaryName() string  { return p.c.Name + "." + p.c.Namespace }
func (p *pass) targetName() string  { return p.c.Spec.TargetRef.Name + "." + p.c.Namespace }
func (p *pass) primaryName() string { return p.f.Primary.Name + "." + p.c.Namespace }

func (p *pass) interval() time.Duration { return p.c.GetAnalysisInterval(p.f.Settings.MinInterval) }

func (p *pass) deadline() time.Duration {
	return time.Duration(p.c.GetProgressDeadlineSeconds()) * time.Second
}

// inPhase is whether the status was in one of the phases when the pass began.
func (p *pass) inPhase(phases ...v1beta1.CanaryPhase) bool {
	for _, ph := range phases {
		if p.c.Status.Phase == ph {
			return true
		}
	}
	return false
}

func (p *pass) resting() bool {
	return p.inPhase(v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed)
}

func (p *pass) running() bool {
	return p.inPhase(v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseWaitingPromotion)
}

// enter begins a stage: the clock of its deadline starts now.
func (p *pass) enter(phase v1beta1.CanaryPhase, stage string) {
	p.next.Phase = phase
	p.st.Stage = stage
	p.st.StageStartedAt = micro(p.f.Now)
	p.st.CanaryDrainedAt = nil
	p.st.ToldHook = ""
	if phase != v1beta1.CanaryPhaseProgressing && phase != v1beta1.CanaryPhaseWaitingPromotion {
		p.st.NextRollbackCheckAt = nil
	}
}

// renewClock lets the deadline of a stage count from now when what the stage waits for is only about to be started: nobody
// may have been there to start it. Once in an interval is enough, and no reason to write the status more often.
func (p *pass) renewClock() {
	if at := p.st.StageStartedAt; at == nil || p.f.Now.Sub(at.Time) >= min(p.interval(), p.deadline()/4) {
		p.st.StageStartedAt = micro(p.f.Now)
	}
}

// due is whether the next analysis step may be taken. If not, it arranges to be called when it may.
func (p *pass) due() bool { return p.reached(&p.st.NextCheckAt) }

// reached is whether a time that was planned has come. If not, it arranges to be called when it has.
func (p *pass) reached(planned **metav1.MicroTime) bool {
	at := *planned
	if at == nil || !p.f.Now.Before(at.Time) {
		return true
	}
	// Nothing is put further off than this: the interval was shortened since, or the clock was set back.
	if latest := p.f.Now.Add(max(p.interval(), p.f.Settings.PropagationDelay)); at.After(latest) {
		at = micro(latest)
		*planned = at
	}
	p.wakeAt(at.Time)
	return false
}

// pace puts the next analysis step one interval off. The rollback hooks are asked right before it.
func (p *pass) pace() {
	p.st.NextCheckAt = micro(p.f.Now.Add(p.interval()))
	if p.st.NextRollbackCheckAt != nil {
		p.st.NextRollbackCheckAt = p.st.NextCheckAt.DeepCopy()
	}
	p.wakeAt(p.st.NextCheckAt.Time)
}

func (p *pass) hooks(t v1beta1.HookType) bool {
	for i := range p.a.Webhooks {
		if p.a.Webhooks[i].GetType() == t {
			return true
		}
	}
	return false
}

func micro(t time.Time) *metav1.MicroTime {
	m := metav1.NewMicroTime(t.Truncate(time.Microsecond))
	return &m
}
