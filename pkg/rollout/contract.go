package rollout

import (
	"maps"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// The fields lastAppliedSpec, lastPromotedSpec and trackedConfigs belong to Flagger. No rule goes by them once there is a record
// in status.rollout: they are written so that Flagger, should it be put back, finds what it would have written itself, and
// begins no rollout that nobody asked for. What Flagger wrote stays until the revision changes, since another version of it
// has other hashes for the same template.

// hashFor is what Flagger is told of a revision. One that it can't have a hash of is told as what it is not: a change.
func hashFor(r *v1beta1.RevisionRef) string {
	if r.FlaggerHash != "" {
		return r.FlaggerHash
	}
	return r.Fingerprint
}

// foreignHash is whether Flagger wrote a hash.
func foreignHash(hash string) bool {
	return hash != "" && hash != unknownRevision && !fingerprint.IsOurs(hash)
}

// outdated is whether Flagger has been at work since the record was written, which then says nothing any more.
func outdated(s *v1beta1.CanaryStatus) bool {
	differs := func(r *v1beta1.RevisionRef, hash string) bool {
		return r != nil && r.FlaggerHash != "" && foreignHash(hash) && r.FlaggerHash != hash
	}
	return s.Rollout != nil && (differs(s.Rollout.Target, s.LastAppliedSpec) || differs(s.Rollout.Promoted, s.LastPromotedSpec))
}

// dropRecord forgets what an outdated record says about a rollout. What was made and told stays known.
func (p *pass) dropRecord() {
	old := *p.st
	*p.st = v1beta1.RolloutStatus{
		TargetRef: old.TargetRef, Run: old.Run, Routing: old.Routing, Scalers: old.Scalers, Sequence: old.Sequence, Outbox: old.Outbox,
	}
}

// promotedByFlagger is whether the target is what Flagger says it promoted, whatever others have made of the primary since.
func (p *pass) promotedByFlagger() bool {
	now, s := p.f.Target.Revision, &p.c.Status
	return foreignHash(now.FlaggerHash) && now.FlaggerHash == s.LastPromotedSpec &&
		(now.Configs == nil || s.TrackedConfigs != nil && maps.Equal(*s.TrackedConfigs, now.FlaggerConfigs))
}

// present refers to what the target asks for now. A template that was recorded before keeps the hash that it has there.
func (p *pass) present() *v1beta1.RevisionRef {
	now := refTo(p.f.Target.Revision)
	for _, known := range []*v1beta1.RevisionRef{p.st.Target, p.st.Promoted} {
		if known != nil && known.Fingerprint == now.Fingerprint && known.FlaggerHash != "" {
			now.FlaggerHash = known.FlaggerHash
		}
	}
	return now
}

// keepContract makes a new record go with what Flagger wrote, which stays. What it did not write is filled in.
func (p *pass) keepContract() {
	keep := func(r *v1beta1.RevisionRef, hash *string) {
		if foreignHash(*hash) {
			r.FlaggerHash = *hash
		} else if r.FlaggerHash != "" {
			*hash = r.FlaggerHash
		}
	}
	keep(p.st.Target, &p.next.LastAppliedSpec)
	keep(p.st.Promoted, &p.next.LastPromotedSpec)
	p.kept = true
}

// settleContract writes Flagger's fields when the record that they go with has changed.
func (p *pass) settleContract() {
	if p.st.Target == nil || p.kept {
		return
	}
	p.nameForFlagger()
	old := p.c.Status.Rollout
	if old == nil {
		old = &v1beta1.RolloutStatus{}
	}
	if !old.Target.Equal(p.st.Target) {
		p.next.LastAppliedSpec = hashFor(p.st.Target)
		p.trackConfigs()
	}
	if p.st.Promoted != nil && !old.Promoted.Equal(p.st.Promoted) {
		p.next.LastPromotedSpec = hashFor(p.st.Promoted)
	}
}

// nameForFlagger fills in what an earlier version of this program, which wrote hashes of its own, left open.
func (p *pass) nameForFlagger() {
	if p.frozen {
		return
	}
	now, target, promoted := p.f.Target.Revision, p.st.Target, p.st.Promoted
	if target.FlaggerHash == "" && !p.moved() {
		target.FlaggerHash = now.FlaggerHash
	}
	if promoted != nil && promoted.FlaggerHash == "" && promoted.Fingerprint == target.Fingerprint {
		promoted.FlaggerHash = target.FlaggerHash
	}
}

// trackConfigs notes the configs of the revision that lastAppliedSpec names. Those of a revision that is gone are known by no
// checksum of Flagger.
func (p *pass) trackConfigs() {
	now := p.f.Target.Revision
	if now.Configs != nil && !p.moved() {
		p.next.TrackedConfigs = fingerprint.FlaggerConfigs(now.FlaggerConfigs)
	}
}

// checksum is what webhooks are told of the revision that the status is about, or of what the target asks for.
func (p *pass) checksum(ofTarget bool) string {
	configs, hash := p.next.TrackedConfigs, p.next.LastAppliedSpec
	if ofTarget && (p.st.Target == nil || p.moved()) {
		hash = hashFor(p.present())
		if now := p.f.Target.Revision; now.Configs != nil {
			configs = fingerprint.FlaggerConfigs(now.FlaggerConfigs)
		}
	}
	return fingerprint.FlaggerChecksum(configs, hash)
}
