package rollout

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A primary that stops its pods before new ones are ready, as with the strategy Recreate, would lose the requests that it still
// gets while it is updated. The canary runs the revision that passed its analysis, so all requests go there before the copy.

// stopsUnderTraffic is whether a copy may take the last ready pod of a primary away.
func (p *pass) stopsUnderTraffic() bool { return p.f.Primary.StopsFirst && p.f.Primary.Available > 0 }

// leadsAllToCanary is whether the status asks for every request to go to the canary.
func (p *pass) leadsAllToCanary() bool {
	return Traffic(p.a, p.next) == TrafficState{CanaryWeight: 100}
}

// handedOver leads all requests to the canary if the primary would lose its ready pods, and reports whether the copy may be
// made: the proxies have had the time to follow.
func (p *pass) handedOver() bool {
	if !p.f.Provider.Routes || !p.stopsUnderTraffic() {
		return true
	}
	switch h := p.f.Target.Health; {
	case h.State != Ready:
		if p.takenDown() {
			p.do(HoldTarget{})
		}
		p.awaitHandover(&p.clocks().Canary, ReasonCanaryNotReady, p.canaryUnready(h.Reason, false))
		return false
	case !p.leadsAllToCanary():
		p.beginHandover()
		return false
	case !p.f.Routes.InPlace || p.f.Primary.SelectorDiffers != "" && !p.f.Services.ApexInPlace:
		p.st.NextCheckAt = nil
		return false
	case p.denied():
		p.awaitHandover(&p.clocks().Routes, ReasonRoutesNotSettled, p.deniedText())
		return false
	case p.st.NextCheckAt == nil && p.letProxiesLeave() || !p.due():
		return false
	}
	// The time stays on record: a copy that is refused is tried again without another wait.
	return true
}

// letProxiesLeave is whether the pods of the primary have to stay for as long as any that served.
func (p *pass) letProxiesLeave() bool {
	p.st.NextCheckAt = micro(p.f.Now.Add(p.drainTime()))
	p.wakeAt(p.st.NextCheckAt.Time)
	return p.drainTime() > 0
}

// beginHandover leads all requests to a canary that the proxies know by now.
func (p *pass) beginHandover() {
	p.clocks().Canary = nil
	if !p.sendsToCanary() && p.st.NextCheckAt == nil && p.letProxiesFind() || !p.due() {
		return
	}
	if by := p.f.Primary.SelectorDiffers; by != "" {
		p.normal("Routing all traffic to canary, %s is made anew: it selects its pods by %s, and %s by other labels", p.primaryName(), by, p.targetName())
	} else {
		p.normal("Routing all traffic to canary, %s has no ready pods while it is updated", p.primaryName())
	}
	p.leadAllToCanary()
	p.st.NextCheckAt = nil
}

// awaitHandover waits for what a handover lacks, up to the deadline. The primary serves what it always did until then.
func (p *pass) awaitHandover(clock **metav1.MicroTime, reason ProblemReason, message string) {
	p.st.NextCheckAt = nil
	if p.expired(clock) {
		p.giveUpCopy(message)
		return
	}
	p.fail(reason, "%s", message)
}

// coverPrimary leads all requests to a ready canary at once when the primary has nobody left to answer its share.
func (p *pass) coverPrimary() {
	lost := p.f.Primary.Exists && p.f.Primary.Available == 0 && p.f.Target.Health.State == Ready && p.f.Provider.Routes && !p.moved()
	if !lost || p.leadsAllToCanary() || p.st.Stage == stageLeadingBack || p.countsOneByOne() {
		return
	}
	p.warning("%s %s, routing all traffic to canary", p.primaryName(), p.noReadyPods(p.f.Port.State))
	p.leadAllToCanary()
	p.st.NextCheckAt = nil
}

// countsOneByOne is whether the count of ready pods says nothing of the primary while it is updated: the controller of a DaemonSet
// that surges looks at the pod on its way out, and not at the ready one beside it. What such a primary lacks in the end shows at the
// deadline.
func (p *pass) countsOneByOne() bool {
	return p.c.Spec.TargetRef.Kind == daemonSetKind && !p.f.Primary.StopsFirst
}

// LeadsApexToCanary is whether the Service that clients use leads to the canary, too: the primary is about to be replaced, or is gone
// meanwhile. Clients that no route looks after would lose their requests with its pods.
func LeadsApexToCanary(c *v1beta1.Canary, primary *Workload) bool {
	replaced := !primary.Exists || primary.SelectorDiffers != ""
	return replaced && c.Status.Phase == v1beta1.CanaryPhasePromoting && Traffic(c.GetAnalysis(), &c.Status) == TrafficState{CanaryWeight: 100}
}

// promotesAll is whether the canary has all requests and runs the revision that is to be copied. A primary that is gone then, as
// between the two writes that replace one, is made of that revision.
func (p *pass) promotesAll() bool {
	return p.inPhase(v1beta1.CanaryPhasePromoting) && p.leadsAllToCanary() && p.f.Routes.InPlace && !p.moved() && p.f.Target.Health.State == Ready
}

// Irreplaceable is the problem of a primary that selects its pods by other labels than a copy of the target would, where no routes could
// lead its requests to the canary while it is replaced. A bootstrap replaces one that nobody uses, or takes it as it is.
// Whoever observes for the rules asks for it.
func Irreplaceable(f *Facts) *Problem {
	by := f.Primary.SelectorDiffers
	unused := f.Canary.Status.Phase == "" || f.Canary.Status.Phase == v1beta1.CanaryPhaseInitializing || !f.Canary.DeletionTimestamp.IsZero()
	if by == "" || unused || f.Provider.Routes || f.Provider.Name == "" {
		return nil
	}
	target, primary := f.Canary.Spec.TargetRef.Name+"."+f.Canary.Namespace, f.Primary.Name+"."+f.Canary.Namespace
	return &Problem{Reason: ReasonInvalidSpec, Message: fmt.Sprintf("%s selects its pods by %s, which can't be changed, and %s by other labels now. "+
		"Provider %s can't lead its requests to the canary while it is made anew, so it goes on serving what it has. Set spec.provider to one that "+
		"has routes, create %[3]s with the former labels in spec.selector.matchLabels or restore the operator's flag -selector-labels, or delete "+
		"%[1]s when requests may be lost: it is made anew at once from the promoted revision", primary, by, target, f.Provider.Name)}
}

// warnOfLoss tells of requests that nobody will answer: there are no routes that could lead them to the canary.
func (p *pass) warnOfLoss() {
	if p.f.Provider.Routes || !p.stopsUnderTraffic() {
		return
	}
	field := "spec.strategy"
	if p.c.Spec.TargetRef.Kind == daemonSetKind {
		field = "spec.updateStrategy"
	}
	p.warning("%s has no ready pods while it is updated, and provider %s can't lead its requests to the canary: they are lost meanwhile. "+
		"Set %s of %s to a rolling update with maxUnavailable 0 and maxSurge 1, or set another spec.provider",
		p.primaryName(), p.f.Provider.Name, field, p.targetName())
}
