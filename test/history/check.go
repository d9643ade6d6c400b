package history

import (
	"fmt"
	"slices"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// The promises, by the word that a Violation has for them.
const (
	// unanalyzed: the primary was given something that had not passed its whole analysis.
	unanalyzed = "unanalyzed"
	// tooEarly: a step was taken before the one before it was due to be judged.
	tooEarly = "too-early"
	// invented: a status is about a revision that never was.
	invented = "invented"
	// unasked: a run began without a change.
	unasked = "unasked"
	// dropped: a run ended without a verdict on its revision although nothing had replaced it.
	dropped = "dropped"
	// untrue: a status claims what is not so.
	untrue = "untrue"
	// unnoticed: a change stood for too long without being taken up.
	unnoticed = "unnoticed"
	// lost: the history ends without a verdict on the revision that stands.
	lost = "lost"
)

// run is one analysis.
type run struct {
	target Content
	// began is the moment at which it was first seen.
	began int
	// steps are those taken so far, each once in a row.
	steps []Step
	// skip is whether the user wanted no analysis at any moment of it.
	skip bool
	// past is whether a check failed at the threshold.
	past bool
}

// checker goes along the moments.
type checker struct {
	rules   Rules
	moments []Moment
	run     *run
	// aimed is since which moment the status is about its target.
	aimed int
	// waiting is since when the target is not what the status is about, zero while it is.
	waiting time.Time
	told    bool

	violations []Violation
	summary    Summary
}

// Check goes along a history and returns each promise that was broken in it.
func Check(moments []Moment, rules Rules) ([]Violation, Summary) {
	c := &checker{rules: rules, moments: moments}
	for i := range moments {
		c.look(i)
	}
	if len(moments) > 0 {
		c.end()
	}
	return c.violations, c.summary
}

func (c *checker) broken(i int, rule, format string, args ...any) {
	c.violations = append(c.violations, Violation{
		Moment: i, Version: c.moments[i].Version, At: c.moments[i].At, Rule: rule, Text: fmt.Sprintf(format, args...),
	})
}

// look compares a moment with the one before.
func (c *checker) look(i int) {
	m := &c.moments[i]
	before := &Moment{}
	if i > 0 {
		before = &c.moments[i-1]
	}
	if !m.Target.Equal(before.Target) {
		c.summary.Revisions++
		if before.Status.Phase != "" {
			c.summary.met(before.Status.Phase, 1)
		}
	}
	if !m.Status.equal(&before.Status) {
		c.status(i, before, m)
	}
	if c.run != nil && m.Skip {
		c.run.skip = true
	}
	if !m.Primary.Equal(before.Primary) {
		c.primary(i, before, m)
	}
	c.notice(i, m)
}

// status judges a write of the status.
func (c *checker) status(i int, before, m *Moment) {
	old, now := &before.Status, &m.Status
	if !now.Target.Equal(old.Target) {
		defer func() { c.aimed = i }()
		if now.Target.Template != "" && !c.stood(0, i, func(t Content) bool { return t.Equal(now.Target) }) {
			c.broken(i, invented, "the status is about %v, which the target never was", now.Target)
		}
	}
	switch {
	case now.Run != old.Run:
		c.begin(i, old, now)
	case old.running() && !now.running():
		c.verdict(i, old, m)
	case old.running() && !now.Target.Equal(old.Target) && !now.Target.Equal(now.Promoted):
		c.broken(i, dropped, "run %d of %v goes on with %v, which was not analyzed from the start", now.Run, old.Target, now.Target)
	}
	c.step(i, old, m)
}

// begin judges the start of a run, which ends the one before.
func (c *checker) begin(i int, old, now *Status) {
	c.summary.Runs++
	asked := !now.Target.Equal(old.Target) ||
		c.stood(c.aimed, i, func(t Content) bool { return !t.Equal(now.Target) })
	if !asked {
		c.broken(i, unasked, "run %d of %v begins, but nothing changed since run %d of it", now.Run, now.Target, old.Run)
	}
	if old.running() {
		c.summary.Superseded++
		if c.run != nil && !c.stood(c.run.began, i, func(t Content) bool { return !t.Equal(old.Target) }) {
			c.broken(i, dropped, "run %d of %v gives way to run %d although nothing newer had come", old.Run, old.Target, now.Run)
		}
	}
	c.run = &run{target: now.Target, began: i}
}

// stood is whether the target was something at any moment between two.
func (c *checker) stood(from, to int, what func(Content) bool) bool {
	return slices.ContainsFunc(c.moments[from:to+1], func(m Moment) bool { return what(m.Target) })
}

// verdict judges the end of a run.
func (c *checker) verdict(i int, old *Status, m *Moment) {
	now := &m.Status
	switch now.Phase {
	case v1beta1.CanaryPhaseSucceeded:
		c.success(i, old, m)
	case v1beta1.CanaryPhaseFailed:
		c.summary.Failed++
		if !now.Target.Equal(old.Target) {
			c.broken(i, dropped, "run %d of %v ends with a verdict on %v", now.Run, old.Target, now.Target)
		}
	case v1beta1.CanaryPhaseTerminating:
	default:
		c.broken(i, dropped, "run %d of %v ends in phase %q, which is no verdict", now.Run, old.Target, now.Phase)
	}
	c.run = nil
}

func (c *checker) success(i int, old *Status, m *Moment) {
	now := &m.Status
	if !now.Promoted.Equal(now.Target) {
		c.broken(i, untrue, "success of %v is told with %v promoted", now.Target, now.Promoted)
	}
	if !m.Primary.Equal(now.Promoted) {
		c.broken(i, untrue, "%v is told to be promoted, but the primary runs %v", now.Promoted, m.Primary)
	}
	if old.analyzing() {
		c.summary.Canceled++
		if !now.Promoted.Equal(old.Promoted) {
			c.broken(i, dropped, "run %d of %v ends in success without a promotion", now.Run, old.Target)
		}
		return
	}
	c.summary.Promoted++
	if c.run != nil && !c.complete() {
		c.summary.Skipped++
	}
}

// step notes a step of an analysis, and judges whether its time had come.
func (c *checker) step(i int, old *Status, m *Moment) {
	now := &m.Status
	if c.run == nil || now.Run != old.Run {
		return
	}
	promotes := now.Phase == v1beta1.CanaryPhasePromoting && old.analyzing()
	grows := now.Step.Weight > old.Step.Weight || now.Step.Iteration > old.Step.Iteration
	if (promotes && !c.run.skip && !m.Skip || now.analyzing() && grows) && m.At.Before(old.Due) {
		c.broken(i, tooEarly, "run %d of %v leaves step %+v %s before it is due to be judged", now.Run, now.Target, old.Step, old.Due.Sub(m.At))
	}
	if !now.analyzing() {
		return
	}
	if n := len(c.run.steps); n == 0 || c.run.steps[n-1] != now.Step {
		c.run.steps = append(c.run.steps, now.Step)
	}
	c.run.past = c.run.past || c.rules.Threshold > 0 && now.FailedChecks >= c.rules.Threshold
}

// complete is whether a run has been through its whole analysis. Steps that were taken before traffic had to leave the canary
// do not count.
func (c *checker) complete() bool {
	n := len(c.run.steps) - len(c.rules.Steps)
	return !c.run.past && n >= 0 && slices.Equal(c.run.steps[n:], c.rules.Steps)
}

// primary judges a write of the primary or of one of the copies of configs that its pods read.
func (c *checker) primary(i int, before, m *Moment) {
	if m.Primary.Template == "" && before.Primary.Template != "" {
		// Somebody deleted it.
		return
	}
	allowed, why := c.allowed(m)
	if why != "" {
		c.broken(i, unanalyzed, "the primary is given %v in place of %v: %s", m.Primary, before.Primary, why)
		return
	}
	for name, sum := range m.Primary.Configs {
		if sum != before.Primary.Configs[name] && sum != allowed.Configs[name] {
			c.broken(i, unanalyzed, "the primary is given %s=%s, which is not that of %v", name, clipped(sum), allowed)
		}
	}
	// The configs are written first, so that no pod starts with old ones.
	if m.Primary.Template != before.Primary.Template && !m.Primary.Equal(allowed) {
		c.broken(i, unanalyzed, "the primary is given %v in place of %v, but %v was to be promoted", m.Primary, before.Primary, allowed)
	}
}

// allowed is what the primary may be given at a moment, or why nothing.
func (c *checker) allowed(m *Moment) (Content, string) {
	switch {
	case m.Status.Phase == v1beta1.CanaryPhaseInitializing:
		// The revision at creation becomes the primary as it is.
		return m.Status.Target, ""
	case m.Status.Phase == v1beta1.CanaryPhasePromoting && c.run == nil:
		return Content{}, "its run was not seen"
	case m.Status.Phase == v1beta1.CanaryPhasePromoting:
		if c.run.skip || c.complete() {
			return c.run.target, ""
		}
		return Content{}, fmt.Sprintf("its analysis only came through %+v", c.run.steps)
	case m.Status.Promoted.Template != "":
		// A primary that was deleted is made again.
		return m.Status.Promoted, ""
	}
	return Content{}, fmt.Sprintf("the phase is %q", m.Status.Phase)
}

// notice judges how long a change stands without being taken up. A promotion comes to its end first, and a gate may hold
// a change for as long as it likes.
func (c *checker) notice(i int, m *Moment) {
	if m.Target.Equal(m.Status.Target) || !m.Status.resting() && !m.Status.analyzing() {
		c.waiting, c.told = time.Time{}, false
		return
	}
	changed := i > 0 && !m.Target.Equal(c.moments[i-1].Target)
	if c.waiting.IsZero() || changed {
		c.waiting, c.told = m.At, false
		return
	}
	if over := m.At.Sub(c.waiting); over > c.rules.Notice && !c.told {
		c.told = true
		c.broken(i, unnoticed, "%v stands for %s, and the status in phase %s is still about %v", m.Target, over, m.Status.Phase, m.Status.Target)
	}
}

// end judges how the history ends: every revision before the last was superseded at the latest by the last, and that one
// needs a verdict.
func (c *checker) end() {
	i := len(c.moments) - 1
	m := &c.moments[i]
	switch {
	case !m.Status.resting():
		c.broken(i, lost, "the history ends in phase %q", m.Status.Phase)
	case !m.Target.Equal(m.Status.Target):
		c.broken(i, lost, "the history ends with a verdict on %v, but the target is %v", m.Status.Target, m.Target)
	case m.Status.Phase != v1beta1.CanaryPhaseFailed && !m.Primary.Equal(m.Target):
		c.broken(i, lost, "the history ends in phase %s, but the primary runs %v and not %v", m.Status.Phase, m.Primary, m.Target)
	case m.Status.Phase == v1beta1.CanaryPhaseFailed && m.Primary.Template != m.Status.Promoted.Template &&
		m.Primary.Template != m.Status.Target.Template:
		// A primary that did not come up with what was promoted keeps it.
		c.broken(i, untrue, "the history ends with %v promoted, but the primary runs %v", m.Status.Promoted, m.Primary)
	}
}
