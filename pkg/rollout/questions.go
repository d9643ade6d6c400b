package rollout

import (
	"fmt"
	"slices"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Nobody waits for an answer. A pass that lacks one comes to a decision all the same: its status and its actions are what
// holds in the meantime. The answer, when it is there, brings the next pass.

// Need is a question that costs I/O.
//
//sumtype:decl
type Need interface {
	need()
	// ID tells the question from every other one: about another revision, step or spec, or another check of the same step.
	ID() string
}

// NeedHooks asks to call the webhooks of one type in list order. All stop at the first failure, rollback hooks at the first
// success.
type NeedHooks struct {
	Type v1beta1.HookType
	// Phase is sent in the payload.
	Phase v1beta1.CanaryPhase
	// Revision identifies what the answer is about, Checksum names it in the payload.
	Revision, Checksum string
	// Key is the idempotency key of this effect, without the name of the hook.
	Key string
	// Generation is that of the Canary whose webhooks are to be called.
	Generation int64
}

// NeedMetrics asks to evaluate spec.analysis.metrics.
type NeedMetrics struct {
	Key        string
	Generation int64
	// Check is what the readings are judged for, but for the time at which they are taken.
	Check analysis.Check
}

// NeedProviders asks whether the metric providers answer.
type NeedProviders struct {
	Key        string
	Generation int64
}

func (NeedHooks) need()     {}
func (NeedMetrics) need()   {}
func (NeedProviders) need() {}

// ID implements Need.
func (n NeedHooks) ID() string { return questionID(n.Key, n.Generation) }

// ID implements Need.
func (n NeedMetrics) ID() string { return questionID(n.Key, n.Generation) }

// ID implements Need.
func (n NeedProviders) ID() string { return questionID(n.Key, n.Generation) }

func questionID(key string, generation int64) string { return fmt.Sprintf("%s@%d", key, generation) }

// Answer is the answer to one Need. The field that belongs to the type of the Need is set.
type Answer struct {
	Hooks     []HookResult
	Metrics   *analysis.Verdict
	Providers *ProvidersCheck
}

// Checks are the answers that a decision may rest on.
type Checks struct {
	// Hooks has an entry for each type that was asked for, in the order of the calls, up to the one that ended the
	// series.
	Hooks map[v1beta1.HookType][]HookResult
	// Metrics is nil as long as it is not known.
	Metrics *analysis.Verdict
	// Providers is nil as long as it is not known.
	Providers *ProvidersCheck
}

// Resolve decides with the answers that are there by now, by the IDs of their questions. Only those are used that the rules
// ask for with these facts: an answer about another revision, step or spec counts for nothing. It leaves in f.Checks what it
// used.
func Resolve(f *Facts, answers map[string]Answer) Decision {
	f.Checks = Checks{Hooks: map[v1beta1.HookType][]HookResult{}}
	// Each round adds the answer to a question of another kind.
	for {
		d, more := Decide(*f), false
		for _, n := range d.Needs {
			a, ok := answers[n.ID()]
			if !ok {
				continue
			}
			more = true
			switch n := n.(type) {
			case NeedHooks:
				f.Checks.Hooks[n.Type] = a.Hooks
			case NeedMetrics:
				f.Checks.Metrics = a.Metrics
			case NeedProviders:
				f.Checks.Providers = a.Providers
			}
		}
		if !more {
			return d
		}
	}
}

// answers returns what the hooks of a type said, asking for it first. The second result is false while it is not known.
func (p *pass) answers(t v1beta1.HookType) ([]HookResult, bool) {
	if got, ok := p.f.Checks.Hooks[t]; ok {
		return got, true
	}
	p.ask(p.hookQuestion(t))
	return nil, false
}

func (p *pass) ask(n Need) { p.needs = append(p.needs, n) }

func (p *pass) hookQuestion(t v1beta1.HookType) NeedHooks {
	phase := p.c.Status.Phase
	if phase == v1beta1.CanaryPhaseWaitingPromotion && t != v1beta1.RollbackHook {
		// Contract section 5.2: only rollback hooks are told that the rollout waits.
		phase = v1beta1.CanaryPhaseProgressing
	}
	return NeedHooks{
		Type: t, Phase: phase, Revision: p.askedAbout(), Checksum: p.checksum(true),
		Key: p.hookKey(t), Generation: p.c.Generation,
	}
}

func (p *pass) hookKey(t v1beta1.HookType) string { return p.questionKey(string(t), p.checkNumber(t)) }

// metricsVerdict returns what the metrics say, asking for it first. It is nil while it is not known.
func (p *pass) metricsVerdict() *analysis.Verdict {
	n := p.metricsQuestion()
	if p.f.Checks.Metrics == nil {
		p.ask(n)
	}
	p.metrics = n.ID()
	if p.st.NextCheckAt != nil {
		p.wakeAtNextCheck()
	}
	return p.f.Checks.Metrics
}

// wakeAtNextCheck arranges to be called when what was asked at the planned time, or since, is asked again.
func (p *pass) wakeAtNextCheck() {
	p.wakeAt(p.st.NextCheckAt.Add(time.Duration(p.overdueChecks()+1) * p.checkPeriod()))
}

func (p *pass) metricsQuestion() NeedMetrics {
	number := p.checkNumber("") + p.overdueChecks()
	return NeedMetrics{
		Key: p.questionKey("metrics", number), Generation: p.c.Generation,
		Check: analysis.Check{
			ID:  analysis.ID{Name: p.c.Name, Namespace: p.c.Namespace, Target: p.c.Spec.TargetRef.Name},
			Run: p.st.Run, Number: number, Interval: p.interval(), Limit: p.deadline(), Before: p.st.Checks, Split: p.split(),
		},
	}
}

// split is what the step at hand asks of the division of requests, nil if it asks for no share. Requests that are picked by what they
// are, sessions that stay where they are, and copies have none.
func (p *pass) split() *analysis.Split {
	policy, want := p.a.GetSplit(), Traffic(p.a, p.next)
	switch {
	case policy.Mode == v1beta1.SplitIgnore, p.a.NoShare() != "":
		return nil
	case !p.f.Provider.Weights, !p.f.Provider.Routes, p.canaryServes(), want.CanaryWeight == 0, want.Mirror, want.Matched:
		return nil
	}
	return &analysis.Split{SplitPolicy: policy, Weight: want.CanaryWeight, Settling: p.f.Settings.PropagationDelay}
}

// recordChecks keeps what the metrics said with this run. A verdict that is used again says the same again.
func (p *pass) recordChecks(v *analysis.Verdict) {
	if v.Record == nil || v.Record.Run != p.st.Run {
		return
	}
	if p.st.Checks == nil || p.st.Checks.Check != v.Record.Check {
		for _, message := range v.Observed {
			p.normal("%s", message)
		}
		for _, message := range v.Warned {
			p.warning("%s", message)
		}
	}
	p.st.Checks = v.Record.DeepCopy()
}

// noteTraffic keeps since when the canary has had requests in this run.
func (p *pass) noteTraffic() {
	if c := p.st.Checks; p.a.HasChecks() && (c == nil || c.Run != p.st.Run) {
		p.st.Checks = &v1beta1.ChecksStatus{Run: p.st.Run, TrafficSince: micro(p.f.Now)}
	}
}

// overdueChecks makes a verdict void that is older than an interval, as while a gate is slow to answer: it is asked for again.
func (p *pass) overdueChecks() int64 {
	at, period := p.st.NextCheckAt, p.checkPeriod()
	if at == nil || p.f.Now.Before(at.Add(period)) {
		return 0
	}
	return int64(p.f.Now.Sub(at.Time) / period)
}

// checkPeriod is how long an answer of a metric server counts. It is more than such a question may take.
func (p *pass) checkPeriod() time.Duration { return max(p.interval(), time.Minute) }

func (p *pass) providersQuestion() NeedProviders {
	return NeedProviders{Key: p.questionKey("providers", p.checkNumber("")+p.overdueChecks()), Generation: p.c.Generation}
}

// questionKey names the effect of an answer by revision, step and the time for which it was planned, so that a call that is
// repeated after a crash can be told from the next poll of a gate that stays closed.
func (p *pass) questionKey(what string, check int64) string {
	return fmt.Sprintf("%s/%d/%s/%s/%d.%d.%d/%d", p.c.UID, p.st.Run, what, p.askedAbout(),
		p.next.CanaryWeight, p.next.Iterations, p.next.FailedChecks, check)
}

// askedAbout names the revision that an answer is about. One that can't be read right now has not changed.
func (p *pass) askedAbout() string {
	if p.f.Target.Revision.Fingerprint == "" && p.st.Target != nil && p.analyzes() {
		return identity(p.st.Target.Fingerprint, p.st.Target.Configs)
	}
	return p.identity()
}

// checkNumber tells the checks of one step apart. It is the time at which the check was due, which stands in the status until
// the check has had its effect. A check that nobody planned is the first of its stage.
func (p *pass) checkNumber(t v1beta1.HookType) int64 {
	at := p.st.NextCheckAt
	if t == v1beta1.RollbackHook && p.analyzes() {
		at = p.st.NextRollbackCheckAt
	}
	switch {
	case at != nil:
		return at.Unix()
	case p.st.StageStartedAt != nil:
		return p.st.StageStartedAt.Unix()
	}
	return p.st.Sequence
}

// settleQuestions says which questions hold under the next status. What was asked about a step that this pass has left is not
// asked any more.
func (p *pass) settleQuestions() {
	for _, t := range p.openTypes() {
		if p.hooks(t) {
			p.standing = append(p.standing, questionID(p.hookKey(t), p.c.Generation))
		}
	}
	if id := p.metricsQuestion().ID(); p.metrics == id && p.analyzes() {
		p.standing = append(p.standing, id)
	}
	p.needs = slices.DeleteFunc(p.needs, func(n Need) bool {
		if _, ok := n.(NeedProviders); ok {
			p.standing = append(p.standing, n.ID())
			return false
		}
		return !slices.Contains(p.standing, n.ID())
	})
	if len(p.needs) > 0 {
		// The step is not over.
		p.outcomes = slices.DeleteFunc(p.outcomes, func(o Outcome) bool { return o == OutcomeAnalyzed })
	}
}

// openTypes are the types of webhooks whose answers may still count under the next status, although the rules do not get to
// them right now: a webhook that works for half an hour is not to begin anew because a pod was not ready for a moment.
func (p *pass) openTypes() []v1beta1.HookType {
	switch {
	case !p.c.DeletionTimestamp.IsZero() || p.c.Spec.Suspend:
		return nil
	case p.analyzes():
		return []v1beta1.HookType{
			v1beta1.RollbackHook, v1beta1.PreRolloutHook, v1beta1.RolloutHook, v1beta1.ConfirmTrafficIncreaseHook, v1beta1.ConfirmPromotionHook,
		}
	case p.waitsForOthers():
		// The gate may close meanwhile: it is asked again when the change can begin.
		return []v1beta1.HookType{v1beta1.RollbackHook}
	case p.waitsToStart():
		return []v1beta1.HookType{v1beta1.ConfirmRolloutHook, v1beta1.RollbackHook}
	default:
		return nil
	}
}

// analyzes is whether the next status is one in the analysis of a revision.
func (p *pass) analyzes() bool {
	running := p.next.Phase == v1beta1.CanaryPhaseProgressing || p.next.Phase == v1beta1.CanaryPhaseWaitingPromotion
	return running && p.st.Stage != stageRollback && p.st.Stage != stageCancel
}

// waitsForOthers is whether a change can't begin now whatever its gate says: others come first, or the Canary has to be corrected.
func (p *pass) waitsForOthers() bool {
	held := p.problem != nil && slices.Contains(beforeStart(), p.problem.Reason)
	return p.waitsToStart() && (held || p.f.Problem != nil && !p.f.Problem.Unknown)
}

// waitsToStart is whether the next status is one before the rollout of a change.
func (p *pass) waitsToStart() bool {
	switch p.next.Phase {
	case v1beta1.CanaryPhaseWaiting:
		return true
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed:
		return p.moved()
	default:
		return false
	}
}

// keepStepHealth leaves the condition of a step that goes on as it is, unless what it tells of is over.
func (p *pass) keepStepHealth() {
	switch p.healthReason() {
	case ReasonCheckFailed, ReasonNoCanaryTraffic, ReasonWaitingForGate, ReasonWaitingForMetrics, ReasonUnexpectedSplit:
		p.keepHealth = true
	case ReasonWaitingForSchedule:
		p.keepHealth = p.f.Schedule.Holds
	case ReasonPrimaryNotReady:
		p.keepHealth = p.f.Primary.Health.State == Waiting
	case ReasonCanaryNotReady:
		// What comes and goes is told of once, for as long as its clock runs.
		p.keepHealth = p.clocks().Canary != nil
	case ReasonRoutesNotSettled:
		p.keepHealth = p.clocks().Routes != nil
	case ReasonInvalidSpec:
		_, leadsOn := NextWeight(p.a, p.next.CanaryWeight)
		p.keepHealth = !leadsOn
	default:
		p.keepHealth = false
	}
}

// awaitRollbackHook takes no step as long as the rollback hooks, whose time has come, have not answered. Everything that
// protects users comes before.
func awaitRollbackHook(p *pass) bool {
	if !p.running() || !p.unheard {
		return false
	}
	p.keepStepHealth()
	return true
}

// refusal returns the answer that closes a gate, or nil when all passed.
func refusal(results []HookResult) *HookResult {
	for i := range results {
		if !results[i].Passed {
			return &results[i]
		}
	}
	return nil
}
