package rollout

import (
	"maps"

	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// unknownRevision stands for a revision that runs but can't be named: that of a primary which was there before us.
const unknownRevision = "unknown"

func refTo(r Revision) *v1beta1.RevisionRef {
	return &v1beta1.RevisionRef{
		Fingerprint: r.Fingerprint,
		UID:         types.UID(r.UID),
		Generation:  r.Generation,
		Counter:     r.Counter,
		Configs:     maps.Clone(r.Configs),
		FlaggerHash: r.FlaggerHash,
	}
}

func revisionOf(ref *v1beta1.RevisionRef) Revision {
	return Revision{
		Fingerprint: ref.Fingerprint,
		UID:         string(ref.UID),
		Generation:  ref.Generation,
		Counter:     ref.Counter,
		Configs:     maps.Clone(ref.Configs),
		FlaggerHash: ref.FlaggerHash,
	}
}

// same tells whether what was recorded is what the target asks for now. It takes every witness to call a revision changed:
// an object that was not written since, or whose controller counts the same revision, has not changed, even if a newer
// operator computes another hash for it, or a newer API server shows another default. What can't be read has not changed either.
// Whatever acts on a revision knows it by its fingerprint alone; rename keeps the two in step.
func same(now Revision, recorded *v1beta1.RevisionRef) bool {
	if now.Fingerprint == "" {
		return true
	}
	if recorded == nil || !sameConfigs(now, now.Configs, recorded.Configs) {
		return false
	}
	if now.Fingerprint == recorded.Fingerprint {
		return true
	}
	if recorded.UID == "" || string(recorded.UID) != now.UID {
		return false
	}
	return recorded.Generation == now.Generation || recorded.Counter != "" && recorded.Counter == now.Counter
}

// rename gives the revision that a rollout is about the fingerprint that it has by now, when it is the same with another one.
// Nothing could be copied under the former. At rest nothing is, and no write is worth it.
func (p *pass) rename() {
	now, was := p.f.Target.Revision.Fingerprint, p.st.Target
	if was == nil || now == "" || p.resting() || now == was.Fingerprint || !same(p.f.Target.Revision, was) {
		return
	}
	for _, record := range []*v1beta1.RevisionRef{p.st.Promoted, was} {
		if record != nil && record.Fingerprint == was.Fingerprint {
			record.Fingerprint = now
		}
	}
}

// recordCounter notes the number that the controller gave to a revision after it was recorded, with a change of the phase, so that
// it costs no write.
func (p *pass) recordCounter() {
	now := p.f.Target.Revision
	if now.Counter == "" || p.next.Phase == p.c.Status.Phase {
		return
	}
	for _, record := range []*v1beta1.RevisionRef{p.st.Target, p.st.Promoted} {
		if record != nil && record.Fingerprint == now.Fingerprint && string(record.UID) == now.UID {
			record.Counter = now.Counter
		}
	}
}

// identity names a revision to the outside.
func identity(template string, configs map[string]string) string {
	if len(configs) == 0 {
		return template
	}
	return fingerprint.Revision(template, configs)
}

// subject names the revision that the notices of this pass are about. One that waits for its approval is not yet what the
// status is about.
func (p *pass) subject() string {
	return p.checksum(p.st.Target == nil || p.next.Phase == v1beta1.CanaryPhaseWaiting)
}

// sameConfigs compares two sets of configs, of which the operator may keep no track by now.
func sameConfigs(now Revision, a, b map[string]string) bool {
	return now.Configs == nil || maps.Equal(a, b)
}

// isCopyOf is whether the primary was made from a revision, template and configs.
func (p *pass) isCopyOf(ref *v1beta1.RevisionRef) bool {
	primary := p.f.Primary
	return primary.Copy == ref.Fingerprint && sameConfigs(p.f.Target.Revision, primary.CopyConfigs, ref.Configs)
}

// moved is whether the target asks for something else than the revision that the status is about.
func (p *pass) moved() bool { return !same(p.f.Target.Revision, p.st.Target) }

// promotedKnown is whether the revision that was promoted last can be named.
func (p *pass) promotedKnown() bool {
	return p.st.Promoted != nil && p.st.Promoted.Fingerprint != unknownRevision
}

// identity names what the target asks for. Configs that can't be read are those that were recorded.
func (p *pass) identity() string {
	now := p.f.Target.Revision
	configs := now.Configs
	if configs == nil && p.st.Target != nil && !p.moved() {
		configs = p.st.Target.Configs
	}
	return identity(now.Fingerprint, configs)
}

// backToPromoted is whether the target asks for what the primary serves already.
func (p *pass) backToPromoted() bool {
	now := p.f.Target.Revision
	switch {
	case p.st.Promoted == nil || now.Fingerprint == "" || p.canaryServes():
		return false
	case p.st.Promoted.Fingerprint == unknownRevision:
		// Another operator promoted it. The primary tells what it was, unless it fails to run it.
		return p.f.Primary.Health.State == Ready && p.isCopyOf(refTo(now))
	case p.promotedUnnoticed():
		return true
	}
	// A primary of which nobody knows what it runs may run anything, for example what a promotion that was cut short copied.
	return now.Fingerprint == p.st.Promoted.Fingerprint && sameConfigs(now, now.Configs, p.st.Promoted.Configs) &&
		p.isCopyOf(p.st.Promoted)
}

// promotedUnnoticed is whether the primary serves what the target asks for and the status does not know, because it is that of an
// earlier day: only what has passed its analysis, or needs none, is ever copied to a primary.
func (p *pass) promotedUnnoticed() bool {
	return p.f.Primary.CopyRecorded && p.f.Primary.Health.State == Ready && p.isCopyOf(refTo(p.f.Target.Revision))
}

// returnToPromoted notes that the target is back at what the primary serves, which is known by now.
func (p *pass) returnToPromoted() {
	p.st.Target = p.present()
	if promoted := p.st.Promoted; promoted.Fingerprint != p.st.Target.Fingerprint ||
		!sameConfigs(p.f.Target.Revision, p.st.Target.Configs, promoted.Configs) {
		p.st.Promoted = p.st.Target.DeepCopy()
	}
}

func (p *pass) canaryServes() bool { return p.st.ServingSide == v1beta1.ServingCanary }
