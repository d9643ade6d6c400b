package rollout

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// finish turns a pass into a decision. It is the one place where conditions, times and the outbox are derived.
func (p *pass) finish(rule string) Decision {
	if !p.frozen {
		if !p.f.Provider.Routes && p.sendsToCanary() {
			// It was set for another provider.
			p.routeToPrimary()
		}
		p.settleCookies()
		p.recordTarget()
		p.recordRouting()
		p.recordScaler()
		p.recordCounter()
	}
	p.repair()
	if !p.frozen {
		p.retire()
		p.restoreCopies()
		p.retireCopies()
		p.ownPrimary()
		p.watchDenied()
		p.watchPort()
	}
	p.settleHealth()
	p.settleWaiting()
	p.settleNotes()
	p.settlePromoted()
	p.settleReadiness()
	p.settleTransition()
	p.settleContract()
	p.settleClocks()
	p.settleFound()
	p.settleDrain()
	p.settleQuestions()
	sight := p.settleSight()
	p.settleOutbox(rule)
	if p.c.Status.Rollout == nil && p.st.Equal(&v1beta1.RolloutStatus{}) {
		p.next.Rollout = nil
	}
	return Decision{
		Rule: rule, Needs: p.needs, Standing: p.standing, Status: *p.next, Sight: sight, Actions: p.actions, Outcomes: p.outcomes, Wake: p.wake,
	}
}

// repair writes the routes of a new step, and mends what somebody else changed since the last one.
func (p *pass) repair() {
	if p.frozen || p.next.Phase == "" || p.c.Status.Phase == "" || p.inPhase(v1beta1.CanaryPhaseInitializing) {
		return
	}
	var fix []Action
	if !p.f.Services.BackendsInPlace {
		fix = append(fix, EnsureBackendServices{})
	}
	if !p.f.Services.ApexInPlace {
		if p.f.Primary.Available > 0 || p.f.Target.Available == 0 {
			fix = append(fix, EnsureApexService{})
		} else if p.problem == nil && p.f.Port.State == PortMissing {
			p.failPort()
		} else if p.problem == nil && !p.young {
			p.fail(ReasonNoReadyCapacity, "the Service of %s stays as it is: %s, which it is to lead to, has no ready pods", p.canaryName(), p.primaryName())
		}
	}
	if p.f.Provider.Routes && (!p.f.Routes.InPlace || Traffic(p.a, p.next) != Traffic(p.a, &p.c.Status)) {
		if p.hasCapacity() {
			fix = append(fix, EnsureRoutes{})
		} else if p.problem == nil && !p.young {
			p.fail(ReasonNoReadyCapacity, "routes of %s stay as they are: the side that is to get more traffic has no ready pods", p.canaryName())
		}
	}
	// Routes before workloads: traffic leaves a side before its pods do.
	p.actions = append(fix, p.actions...)
	if p.f.Primary.Exists {
		// Last, so that an autoscaler that can't be written holds up nothing else.
		p.ensureScaler()
	}
}

// ownPrimary goes before all else: the garbage collector does not wait.
func (p *pass) ownPrimary() {
	if p.f.Primary.Orphaned {
		p.actions = append([]Action{OwnPrimary{}}, p.actions...)
	}
}

// hasCapacity is false when writing the wanted weights would move traffic from a side with ready pods to one without. What
// the rules decided rested on ready pods; they may be gone since, or somebody else may have moved the traffic.
func (p *pass) hasCapacity() bool {
	live, want := p.f.Routes, Traffic(p.a, p.next)
	primary, canary := p.f.Primary.Available > 0, p.f.Target.Available > 0
	if !live.Known {
		// Those of another name come into being with what the status says of a canary that may be gone since.
		return want.CanaryWeight == 0 || canary || !primary
	}
	toPrimary := want.CanaryWeight < live.CanaryWeight || want.Matched && !live.Matched && live.CanaryWeight > 0
	toCanary := want.CanaryWeight > live.CanaryWeight || live.Matched && !want.Matched && want.CanaryWeight > 0
	return (!toPrimary || primary || !canary) && (!toCanary || canary || !primary)
}

func condition(status *v1beta1.CanaryStatus, t v1beta1.CanaryConditionType) *v1beta1.CanaryCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == t {
			return &status.Conditions[i]
		}
	}
	return nil
}

func (p *pass) healthReason() ProblemReason {
	c := condition(&p.c.Status, v1beta1.HealthyType)
	if c == nil || c.Status != corev1.ConditionFalse {
		return ReasonHealthy
	}
	return ProblemReason(c.Reason)
}

// settleHealth writes the Healthy condition, and tells about a problem when it is new or reads differently.
func (p *pass) settleHealth() {
	if p.problem == nil && p.f.ApplyError != "" && !p.keepHealth {
		p.problem = &Problem{Reason: ReasonApplyFailed, Message: p.f.ApplyError}
	}
	p.tellContended()
	if p.problem == nil {
		p.problem = p.f.Unanswered
	}
	if p.keepHealth && p.problem == nil && !p.saysStale() {
		return
	}
	old := condition(p.next, v1beta1.HealthyType)
	if p.problem == nil {
		if old != nil && old.Status != corev1.ConditionTrue {
			p.setCondition(v1beta1.HealthyType, corev1.ConditionTrue, string(ReasonHealthy), "")
		}
		return
	}
	known := old != nil && old.Status == corev1.ConditionFalse && old.Reason == string(p.problem.Reason) && old.Message == p.problem.Message
	if known || p.toldLately(old) {
		return
	}
	if !p.told {
		kind := "Warning"
		if p.problem.Reason == ReasonSuspended || p.problem.Reason == ReasonTargetPaused || slices.Contains(beforeStart(), p.problem.Reason) {
			kind = "Normal"
		}
		n := p.event(kind, "%s", p.problem.Message)
		n.Error = p.problem.Reason == ReasonApplyFailed || p.problem.Reason == ReasonMetrics || p.problem.Unknown
	}
	p.setCondition(v1beta1.HealthyType, corev1.ConditionFalse, string(p.problem.Reason), p.problem.Message)
}

// saysStale is whether the condition names a command that was taken back. As long as it stands there, each pass would take it for the
// first one after that.
func (p *pass) saysStale() bool {
	reason := p.healthReason()
	return reason == ReasonSuspended && !p.c.Spec.Suspend || reason == ReasonTargetPaused && !p.f.Target.Paused
}

// toldLately is whether a wait whose words change was told of within the last interval. Fifty pods that start one by one are no
// fifty events.
func (p *pass) toldLately(old *v1beta1.CanaryCondition) bool {
	counts := p.problem.Reason == ReasonCanaryNotReady || p.problem.Reason == ReasonPrimaryNotReady ||
		p.problem.Reason == ReasonApplyFailed || p.problem.Reason == ReasonRoutesNotSettled
	if !counts || p.told || old == nil || old.Status != corev1.ConditionFalse || old.Reason != string(p.problem.Reason) {
		return false
	}
	again := old.LastUpdateTime.Add(p.interval())
	if !p.f.Now.Before(again) || old.LastUpdateTime.After(p.f.Now) {
		return false
	}
	p.wakeAt(again)
	return true
}

// setCondition keeps the transition time of Promoted while only its reason changes, as the contract has it; that of Healthy
// says since when its reason holds.
func (p *pass) setCondition(t v1beta1.CanaryConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(p.f.Now)
	want := v1beta1.CanaryCondition{Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
	old := condition(p.next, t)
	if old == nil {
		p.next.Conditions = append(p.next.Conditions, want)
		return
	}
	if old.Status == status && old.Reason == reason && old.Message == message {
		return
	}
	if old.Status == status && (t == v1beta1.PromotedType || old.Reason == reason) {
		want.LastTransitionTime = old.LastTransitionTime
	}
	*old = want
}

func (p *pass) settlePromoted() {
	if p.next.Phase == "" || p.next.Phase == p.c.Status.Phase && condition(p.next, v1beta1.PromotedType) != nil && !p.endChanged() {
		return
	}
	kind, runs := p.c.Spec.TargetRef.Kind, p.f.Target.Replicas > 0
	status, message := promoted(p.next.Phase, kind, runs && p.next.CanaryWeight > 0)
	if p.next.Phase == v1beta1.CanaryPhaseFailed && runs && p.next.CanaryWeight == 0 {
		message = "Promotion failed, " + kind + " keeps its pods."
	}
	if p.promoted != "" {
		message = p.promoted
	}
	p.setCondition(v1beta1.PromotedType, status, string(p.next.Phase), message)
}

// endChanged is whether a failed run has another outcome than it had: the canary that served no longer does, or lost its pods.
func (p *pass) endChanged() bool {
	old := p.c.Status.Rollout
	return p.next.Phase == v1beta1.CanaryPhaseFailed && old != nil && (old.ServingSide != p.st.ServingSide || old.Stage != p.st.Stage)
}

// promoted is the table of contract section 1.4, with the text of a failed promotion made true.
func promoted(phase v1beta1.CanaryPhase, kind string, serving bool) (corev1.ConditionStatus, string) {
	switch phase {
	case v1beta1.CanaryPhaseInitialized:
		return corev1.ConditionTrue, kind + " initialization completed."
	case v1beta1.CanaryPhaseWaiting, v1beta1.CanaryPhaseWaitingPromotion:
		return corev1.ConditionUnknown, "Waiting for approval."
	case v1beta1.CanaryPhaseProgressing:
		return corev1.ConditionUnknown, "New revision detected, progressing canary analysis."
	case v1beta1.CanaryPhasePromoting:
		return corev1.ConditionUnknown, "Canary analysis completed, starting primary rolling update."
	case v1beta1.CanaryPhaseFinalising:
		return corev1.ConditionUnknown, "Canary analysis completed, routing all traffic to primary."
	case v1beta1.CanaryPhaseSucceeded:
		return corev1.ConditionTrue, "Canary analysis completed successfully, promotion finished."
	case v1beta1.CanaryPhaseFailed:
		if serving {
			return corev1.ConditionFalse, "Promotion failed, " + kind + " keeps serving."
		}
		return corev1.ConditionFalse, "Canary analysis failed, " + kind + " scaled to zero."
	case v1beta1.CanaryPhaseTerminating, v1beta1.CanaryPhaseTerminated:
		return corev1.ConditionUnknown, kind + " is being handed back."
	default:
		return corev1.ConditionUnknown, "New " + kind + " detected, starting initialization."
	}
}

// settleTransition moves the time of the last transition when the rollout moved, not when its record was touched.
func (p *pass) settleTransition() {
	old := &p.c.Status
	if p.next.Phase != old.Phase || p.next.CanaryWeight != old.CanaryWeight || p.next.Iterations != old.Iterations ||
		p.next.FailedChecks != old.FailedChecks {
		p.next.LastTransitionTime = metav1.NewTime(p.f.Now)
	}
}

// maxOutbox bounds the outbox below what the schema admits, so that notices nobody can deliver never stop a rollout.
const maxOutbox = 32

// settleOutbox numbers the new notices and drops the delivered ones, the latter only together with another change or at
// rest, so that telling costs no write of its own under way.
func (p *pass) settleOutbox(rule string) {
	var subject string
	if len(p.notices) > 0 {
		// A status that was lost must not lead to numbers that were told before.
		p.st.Sequence = max(p.st.Sequence, p.f.Delivered)
		// It hashes a dump, which a pass that tells nothing need not pay for.
		subject = p.subject()
	}
	for i := range p.notices {
		p.st.Sequence++
		p.notices[i].Sequence = p.st.Sequence
		p.notices[i].Rule = rule
		p.notices[i].Revision = subject
	}
	if len(p.st.Outbox) > 0 && (len(p.notices) > 0 || p.resting() || p.inPhase(v1beta1.CanaryPhaseWaiting) || p.differs()) {
		p.st.Outbox = slices.DeleteFunc(p.st.Outbox, func(n v1beta1.Notice) bool { return n.Sequence <= p.f.Delivered })
	}
	p.st.Outbox = append(p.st.Outbox, p.notices...)
	if over := len(p.st.Outbox) - maxOutbox; over > 0 {
		p.st.Outbox = slices.Delete(p.st.Outbox, 0, over)
	}
	if len(p.st.Outbox) == 0 {
		p.st.Outbox = nil
	}
}

// differs is whether the pass has changed the status so far.
func (p *pass) differs() bool {
	before := p.c.Status
	if before.Rollout == nil {
		before.Rollout = &v1beta1.RolloutStatus{}
	}
	return !p.next.Equal(&before)
}
