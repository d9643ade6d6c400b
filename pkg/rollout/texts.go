package rollout

import (
	"fmt"
	"strings"
)

const daemonSetKind = "DaemonSet"

// primaryUnready says that the primary is not ready, in the words of contract section 3.8: they differ for a DaemonSet.
func (p *pass) primaryUnready(reason string) string {
	name := p.primaryName()
	if p.c.Spec.TargetRef.Kind == daemonSetKind {
		name = "primary daemonset " + name
	}
	return name + " not ready: " + reason
}

// canaryUnready says the same of the canary; final is whether it is given up.
func (p *pass) canaryUnready(reason string, final bool) string {
	kind := p.c.Spec.TargetRef.Kind
	if kind == daemonSetKind {
		// "damonset" is what users search their events for.
		return fmt.Sprintf("canary damonset %s not ready with retryable %v: %s", p.targetName(), !final, reason)
	}
	return "canary " + strings.ToLower(kind) + " " + p.targetName() + " not ready: " + reason
}

// overdue is the reason of a canary that has had all its time.
func (p *pass) overdue() string {
	kind := p.c.Spec.TargetRef.Kind
	if kind == daemonSetKind {
		return fmt.Sprintf("exceeded its progressDeadlineSeconds: %d", p.c.GetProgressDeadlineSeconds())
	}
	return fmt.Sprintf("%s %q exceeded its progress deadline", strings.ToLower(kind), p.f.Target.Name)
}

// withSubject names the workload in a reason that leaves it out, as that of a DaemonSet does.
func (p *pass) withSubject(reason string) string {
	if !strings.HasPrefix(reason, "exceeded ") {
		return reason
	}
	return fmt.Sprintf("%s %q %s", strings.ToLower(p.c.Spec.TargetRef.Kind), p.f.Target.Name, reason)
}
