package rollout

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// served is the analysis without the fields that the provider can't serve and that a rollout does as well without, and a
// warning about each of them. What would change the meaning of a rollout is refused before.
func served(f *Facts) (*v1beta1.CanaryAnalysis, []string) {
	a, can := *f.Canary.GetAnalysis(), f.Provider
	var ignored []string
	ignore := func(field, cause, remedy string) {
		ignored = append(ignored, "spec.analysis."+field+" is ignored, because provider "+can.Name+" "+cause+": "+remedy+
			", or set another spec.provider")
	}
	switch {
	case a.Mirror && !can.Mirror:
		a.Mirror = false
		ignore("mirror", "can't mirror traffic", "set it to false")
	case a.Mirror && a.MirrorWeight > 0 && !can.MirrorWeight:
		ignore("mirrorWeight", "can only mirror all requests", "remove it")
	}
	switch affinity := a.SessionAffinity; {
	case affinity == nil:
	case !can.SessionAffinity:
		a.SessionAffinity = nil
		ignore("sessionAffinity", "has no session affinity", "remove it")
	case affinity.PrimaryCookieName != "" && !can.PrimaryCookie:
		a.SessionAffinity = affinity.DeepCopy()
		a.SessionAffinity.PrimaryCookieName = ""
		ignore("sessionAffinity.primaryCookieName", "has no cookie for the primary", "remove it")
	}
	return &a, ignored
}

// notes are what users should know of a Canary that is healthy: what is ignored of its spec, a port that nobody declares, and what
// nobody reports.
func (p *pass) notes() []string {
	notes := slices.Clone(p.ignored)
	for _, note := range []string{p.f.Port.Undeclared, p.silence} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

// settleNotes keeps in sight what users should know of a Canary that is healthy otherwise.
func (p *pass) settleNotes() {
	old, notes, deletion := condition(p.next, v1beta1.HealthyType), p.notes(), p.onDeletion()
	if !p.c.DeletionTimestamp.IsZero() || p.f.Problem != nil || p.f.Provider.Name == "" ||
		old == nil && len(notes) == 0 && deletion == "" || old != nil && old.Status != corev1.ConditionTrue {
		return
	}
	p.tellNew(p.f.Port.Undeclared)
	p.tellNew(p.silence)
	reason := ReasonHealthy
	switch {
	case len(p.ignored) > 0:
		reason = ReasonUnsupportedFields
	case p.f.Port.Undeclared != "":
		reason = ReasonPortNotDeclared
	case len(notes) > 0:
		reason = ReasonRoutesNotReported
	}
	if deletion != "" {
		notes = append(notes, deletion)
	}
	p.setCondition(v1beta1.HealthyType, corev1.ConditionTrue, string(reason), strings.Join(notes, "; "))
}

// tellNew tells, in an event, a note that is new in the condition of a Canary that was healthy. In a run it may have been told with
// all else that users should know of the analysis.
func (p *pass) tellNew(note string) {
	old := condition(&p.c.Status, v1beta1.HealthyType)
	known := old != nil && (old.Status != corev1.ConditionTrue || strings.Contains(old.Message, note))
	if note == "" || known {
		return
	}
	if !slices.ContainsFunc(p.notices, func(n v1beta1.Notice) bool { return n.Message == note }) {
		p.warning("%s", note)
	}
}
