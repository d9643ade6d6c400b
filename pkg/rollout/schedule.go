package rollout

import (
	"fmt"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// ReasonWaitingForSchedule is the reason of the Healthy condition while rollouts neither begin nor, if that is asked for, go on.
const ReasonWaitingForSchedule ProblemReason = "WaitingForSchedule"

// ScheduleFact tells when rollouts may begin. The zero value is a time at which they may.
type ScheduleFact struct {
	// Closed is whether none may begin now, and Opens when one may, zero for never.
	Closed bool
	Opens  time.Time
	// Holds is whether one under way takes no step now.
	Holds bool
	// By names the field or the flags that say so.
	By string
}

// urgentLength bounds what is recorded of the annotation.
const urgentLength = 253

// Urgent is the value of the annotation that lets one change through, empty if there is none or if it has let one through already.
func Urgent(annotations map[string]string, used string) string {
	value := annotations[v1beta1.UrgentAnnotation]
	if len(value) > urgentLength {
		value = value[:urgentLength]
	}
	if value == used {
		return ""
	}
	return value
}

// urgent is whether somebody lets the next change, or the one under way, through. An annotation that stays on the object lets no other
// through: each rollout that begins uses it up.
func (p *pass) urgent() bool {
	if used := p.st.Urgent; used != nil {
		return Urgent(p.c.Annotations, used.Value) != "" || p.running() && used.Run == p.st.Run && Urgent(p.c.Annotations, "") == used.Value
	}
	return Urgent(p.c.Annotations, "") != ""
}

// useUrgency records the annotation with the rollout that it is for.
func (p *pass) useUrgency() {
	used := ""
	if p.st.Urgent != nil {
		used = p.st.Urgent.Value
	}
	if value := Urgent(p.c.Annotations, used); value != "" {
		p.st.Urgent = &v1beta1.UrgentStatus{Value: value, Run: p.st.Run}
	}
}

// waitForSchedule puts the start of a rollout off until a window opens.
func waitForSchedule(p *pass) bool {
	s := p.f.Schedule
	if !s.Closed || !p.mayStart() || p.urgent() {
		return false
	}
	p.keepWaiting()
	if w := p.waiting(); w.Canaries != nil {
		// Neither may those begin that come first.
		w.Canaries.Since, w.Canaries.Overdue = nil, false
	}
	p.failOnce(ReasonWaitingForSchedule, fmt.Sprintf("New revision of %s detected, waiting to be rolled out: rollouts begin %s",
		p.targetName(), s.words()))
	if !s.Opens.IsZero() {
		p.wakeAt(s.Opens)
	}
	return true
}

// outsideSchedule keeps a rollout under way at its step until a window opens. What is checked and what protects users goes on.
func outsideSchedule(p *pass) bool {
	if !p.running() || !p.heldBySchedule() {
		return false
	}
	p.pace()
	return true
}

// heldBySchedule is whether a rollout under way may take no step now.
func (p *pass) heldBySchedule() bool {
	s := p.f.Schedule
	if !s.Holds {
		return false
	}
	if p.urgent() {
		p.useUrgency()
		return false
	}
	p.failOnce(ReasonWaitingForSchedule, fmt.Sprintf("%s is held at canary weight %d: rollouts go on %s", p.canaryName(), p.next.CanaryWeight, s.words()))
	if !s.Opens.IsZero() {
		p.wakeAt(s.Opens)
	}
	return true
}

func (s ScheduleFact) words() string {
	if s.Opens.IsZero() {
		return "only within " + s.By + ", which is never open: correct it"
	}
	return fmt.Sprintf("only within %s, next at %s", s.By, s.Opens.Format("Mon 2006-01-02 15:04 MST"))
}
