package simulate

import (
	"slices"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// maxQuestions is more than the rules may have open at a time: one for each type of webhook, and one for metrics.
const maxQuestions = 8

// question is one that the rules have asked, with what it was about.
type question struct {
	need rollout.Need
	// due is when the answer comes.
	due      time.Time
	answer   *rollout.Answer
	template string
	// counted is whether a passed check was counted.
	counted bool
	// step is the status at the time of the question.
	step       v1beta1.CanaryStatus
	generation int64
}

// answers lets those questions be answered whose time has come, and returns all answers that are there.
func (w *World) answers() map[string]rollout.Answer {
	there := map[string]rollout.Answer{}
	for _, q := range w.questions {
		if q.answer == nil && !q.due.After(w.now) {
			q.answer = w.answer(q)
		}
		if q.answer != nil {
			there[q.need.ID()] = *q.answer
		}
	}
	return there
}

// answersReady is whether there are answers that no pass has seen.
func (w *World) answersReady() bool {
	return slices.ContainsFunc(w.questions, func(q *question) bool { return q.answer == nil && !q.due.After(w.now) })
}

// gateIsAsked is whether a change waits for what is said of its rollout.
func (w *World) gateIsAsked() bool {
	return slices.ContainsFunc(w.questions, func(q *question) bool {
		n, ok := q.need.(rollout.NeedHooks)
		return ok && n.Type == v1beta1.ConfirmRolloutHook
	})
}

// ask forgets the questions that are void by now, and asks those that are new.
func (w *World) ask(f *rollout.Facts, d *rollout.Decision) {
	w.questions = slices.DeleteFunc(w.questions, func(q *question) bool { return !slices.Contains(d.Standing, q.need.ID()) })
	for _, n := range d.Needs {
		if slices.ContainsFunc(w.questions, func(q *question) bool { return q.need.ID() == n.ID() }) {
			continue
		}
		q := &question{need: n, due: w.now, template: w.target.template, step: *w.canary.Status.DeepCopy(), generation: w.canary.Generation}
		if w.opts.Delay != nil {
			q.due = w.now.Add(w.opts.Delay(w, n))
		}
		if hooks, ok := n.(rollout.NeedHooks); ok {
			w.checkQuestion(f, hooks)
			w.asked = append(w.asked, hooks)
		}
		w.questions = append(w.questions, q)
	}
	if len(w.questions) > maxQuestions {
		w.violate(6, "%d questions at a time", len(w.questions))
	}
}

func (w *World) answer(q *question) *rollout.Answer {
	switch n := q.need.(type) {
	case rollout.NeedMetrics:
		v := analysis.Verdict{Outcome: analysis.Pass}
		switch {
		case w.opts.Readings != nil:
			n.Check.Now = w.now
			v = analysis.Evaluate(n.Check, w.opts.Readings(w, q.template))
		case w.opts.Metrics != nil:
			v = w.opts.Metrics(w, q.template)
		}
		return &rollout.Answer{Metrics: &v}
	case rollout.NeedProviders:
		check := &rollout.ProvidersCheck{}
		if w.opts.Providers != nil {
			check.Error = w.opts.Providers(w)
		}
		return &rollout.Answer{Providers: check}
	case rollout.NeedHooks:
		return &rollout.Answer{Hooks: w.callHooks(n)}
	}
	return &rollout.Answer{}
}

func (w *World) callHooks(n rollout.NeedHooks) []rollout.HookResult {
	out := []rollout.HookResult{}
	hooks := w.canary.GetAnalysis().Webhooks
	for i := range hooks {
		h := &hooks[i]
		if h.GetType() != n.Type {
			continue
		}
		r := rollout.HookResult{Name: h.Name, Passed: true}
		if w.opts.Hooks != nil {
			r = w.opts.Hooks(w, n.Type, h.Name)
			r.Name = h.Name
		}
		out = append(out, r)
		if r.Passed == (n.Type == v1beta1.RollbackHook) {
			break
		}
	}
	return out
}

// checkAnswers demands that an answer is used for nothing but the revision, the step and the spec that it was asked for.
func (w *World) checkAnswers(f *rollout.Facts) {
	for _, q := range w.questions {
		if q.answer == nil || !q.usedIn(&f.Checks) {
			continue
		}
		if v := q.answer.Metrics; v != nil && v.Outcome == analysis.Pass && !q.counted {
			q.counted = true
			w.judged[q.template]++
		}
		then, now := &q.step, &f.Canary.Status
		if n, ok := q.need.(rollout.NeedHooks); ok && n.Revision != f.Target.Revision.Fingerprint && f.Target.Revision.Fingerprint != "" {
			w.violate(3, "what hooks of type %s said about %s was used for %s", n.Type, n.Revision, f.Target.Revision.Fingerprint)
		}
		if then.CanaryWeight != now.CanaryWeight || then.Iterations != now.Iterations || then.FailedChecks != now.FailedChecks ||
			runOf(then) != runOf(now) {
			w.violate(3, "the answer to %s of step %d.%d.%d in run %d was used in step %d.%d.%d of run %d", q.need.ID(), then.CanaryWeight,
				then.Iterations, then.FailedChecks, runOf(then), now.CanaryWeight, now.Iterations, now.FailedChecks, runOf(now))
		}
		if q.generation != f.Canary.Generation {
			w.violate(3, "the answer to %s of another spec was used", q.need.ID())
		}
	}
}

func runOf(s *v1beta1.CanaryStatus) int64 {
	if s.Rollout == nil {
		return 0
	}
	return s.Rollout.Run
}

// usedIn is whether a decision rests on the answer.
func (q *question) usedIn(c *rollout.Checks) bool {
	switch n := q.need.(type) {
	case rollout.NeedHooks:
		used := c.Hooks[n.Type]
		return len(used) > 0 && len(q.answer.Hooks) > 0 && &used[0] == &q.answer.Hooks[0]
	case rollout.NeedMetrics:
		return c.Metrics != nil && c.Metrics == q.answer.Metrics
	case rollout.NeedProviders:
		return c.Providers != nil && c.Providers == q.answer.Providers
	}
	return false
}
