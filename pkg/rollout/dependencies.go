package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A change of one commit may be one of several workloads. spec.dependsOn puts the rollouts of theirs in an order: a change begins once the
// newest changes of the Canaries that it depends on were promoted. What is newest is read off their targets, and not off their statuses
// alone, because nobody may have looked at a change yet that came at the same instant.

// ReasonWaitingForCanaries is the reason of the Healthy condition while others come first.
const ReasonWaitingForCanaries ProblemReason = "WaitingForCanaries"

// DependencyState is how far a Canary is that another one depends on.
type DependencyState string

// The states, those that somebody has to see to before those that pass by themselves.
const (
	DependencyMissing   DependencyState = "missing"
	DependencyFailed    DependencyState = "failed"
	DependencySuspended DependencyState = "suspended"
	DependencyUnknown   DependencyState = "unknown"
	DependencyNew       DependencyState = "new"
	DependencyUnderWay  DependencyState = "under-way"
	DependencyPromoted  DependencyState = "promoted"
)

// DependencyFact is what is known of a Canary that the one of the facts depends on.
type DependencyFact struct {
	// Name is that of the Canary, with its namespace.
	Name  string
	State DependencyState
}

// Dependency says how far a Canary is whose target asks for this revision. It is promoted when that is what the primary was promoted to and
// nothing is under way: one that never changed has nothing to wait for, and neither has one whose change was taken back.
func Dependency(c *v1beta1.Canary, target Revision) DependencyState {
	s := &c.Status
	switch {
	case !c.DeletionTimestamp.IsZero():
		return DependencyMissing
	case s.Phase == "" || s.Phase == v1beta1.CanaryPhaseInitializing || s.Rollout == nil:
		return DependencyNew
	case target.Fingerprint == "":
		return DependencyUnknown
	case promotedAt(s, target):
		return DependencyPromoted
	case c.Spec.Suspend:
		return DependencySuspended
	case s.Phase == v1beta1.CanaryPhaseFailed && same(target, s.Rollout.Target):
		return DependencyFailed
	default:
		return DependencyUnderWay
	}
}

func promotedAt(s *v1beta1.CanaryStatus, target Revision) bool {
	switch s.Phase {
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded:
		return same(target, s.Rollout.Target)
	case v1beta1.CanaryPhaseFailed:
		return s.Rollout.ServingSide != v1beta1.ServingCanary && s.Rollout.Promoted != nil && same(target, s.Rollout.Promoted)
	default:
		return false
	}
}

// unmet is a dependency that a change has to wait for, the one that needs somebody first. It is nil when there is none.
func (p *pass) unmet() *DependencyFact {
	order := []DependencyState{
		DependencyMissing, DependencyFailed, DependencySuspended, DependencyUnknown, DependencyNew, DependencyUnderWay,
	}
	for _, state := range order {
		for i := range p.f.Dependencies {
			if p.f.Dependencies[i].State == state {
				return &p.f.Dependencies[i]
			}
		}
	}
	return nil
}

// waitForCanaries puts the start of a rollout off until the Canaries that it depends on have nothing left to promote.
func waitForCanaries(p *pass) bool {
	d := p.c.Spec.DependsOn
	if d == nil || !p.mayStart() || p.urgent() {
		return false
	}
	record := p.waitingForCanaries()
	first := p.unmet()
	if first == nil {
		record.Since, record.Overdue = nil, false
		return p.awaitTheirChanges(record.SeenAt.Add(d.GetDelay()))
	}
	if record.Since == nil {
		record.Since = micro(p.f.Now)
	}
	deadline := record.Since.Add(d.GetDeadline())
	switch overdue := !p.f.Now.Before(deadline); {
	case overdue && d.AtDeadline == v1beta1.AtDeadlineBegin:
		if !record.Overdue {
			record.Overdue = true
			p.warning("New revision of %s begins without %s: %s", p.targetName(), first.Name, p.lateness(d, first))
		}
		return false
	case overdue:
		p.failDependent(d, first)
		return true
	}
	p.keepWaiting()
	p.wakeAt(deadline)
	p.fail(ReasonWaitingForCanaries, "New revision of %s detected, waiting to be rolled out: %s", p.targetName(), first.words())
	return true
}

// awaitTheirChanges lets changes of the others that come with this one be seen before nobody is waited for.
func (p *pass) awaitTheirChanges(until time.Time) bool {
	if !p.f.Now.Before(until) {
		return false
	}
	p.keepWaiting()
	p.keepHealth = true
	p.wakeAt(until)
	return true
}

// waitingForCanaries is the record of the wait for other Canaries, which belongs to one revision.
func (p *pass) waitingForCanaries() *v1beta1.WaitingForCanaries {
	w := p.waiting()
	if id := p.identity(); w.Canaries == nil || w.Canaries.Revision != id {
		w.Canaries = &v1beta1.WaitingForCanaries{Revision: id, SeenAt: *micro(p.f.Now)}
	}
	return w.Canaries
}

// failDependent gives a change up that others have kept from its start for too long.
func (p *pass) failDependent(d *v1beta1.DependsOn, first *DependencyFact) {
	n := p.warning("New revision of %s is given up, %s: %s", p.targetName(), p.lateness(d, first), first.words())
	alert(n, v1beta1.SeverityError, "New revision was given up before its rollout began, %s: %s.", p.lateness(d, first), first.words())
	p.st.Target = p.present()
	p.st.NextCheckAt = nil
	p.leaveDeadCanary()
	p.closeFailed()
}

func (p *pass) lateness(d *v1beta1.DependsOn, first *DependencyFact) string {
	return fmt.Sprintf("it has waited for %s as long as spec.dependsOn.deadline (%s)", first.Name, d.GetDeadline())
}

// words say what is waited for, and what can be done about it.
func (f *DependencyFact) words() string {
	before := f.Name + ", which comes first (spec.dependsOn), "
	switch f.State {
	case DependencyMissing:
		return before + "does not exist: create it, or remove it there"
	case DependencyFailed:
		return before + "failed: roll out another revision of it, or take its change back"
	case DependencySuspended:
		return before + "has a change and is suspended: set its spec.suspend to false"
	case DependencyUnknown:
		return before + "has a target that can't be read: see what its conditions say"
	case DependencyNew:
		return before + "is not initialized yet"
	default:
		return before + "has a change that is not promoted yet"
	}
}

// Cycle returns the way from a Canary over those that it depends on back to itself, with itself at both ends. It is nil if there is none.
func Cycle(start string, dependencies func(string) []string) []string {
	seen := map[string]bool{}
	var walk func(path []string) []string
	walk = func(path []string) []string {
		for _, next := range dependencies(path[len(path)-1]) {
			if next == start {
				return append(path, start)
			}
			if seen[next] {
				continue
			}
			seen[next] = true
			if found := walk(append(slices.Clone(path), next)); found != nil {
				return found
			}
		}
		return nil
	}
	return walk([]string{start})
}

// CycleProblem refuses a Canary that depends on itself over others, named in the order of Cycle.
func CycleProblem(names []string) *Problem {
	return &Problem{Reason: ReasonInvalidSpec, Message: fmt.Sprintf("spec.dependsOn: %s is a cycle, and none of its changes could ever begin: "+
		"remove one of these entries", strings.Join(names, " → "))}
}
