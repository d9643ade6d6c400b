package v1beta1

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Equal is whether two statuses say the same: times are compared as instants, and what is empty equals what is missing. Each pass over a
// Canary asks this, and hardly any finds a difference, so it is not left to reflection.
func (s *CanaryStatus) Equal(o *CanaryStatus) bool {
	return s.Phase == o.Phase && s.FailedChecks == o.FailedChecks && s.CanaryWeight == o.CanaryWeight && s.Iterations == o.Iterations &&
		s.PreviousSessionAffinityCookie == o.PreviousSessionAffinityCookie && s.SessionAffinityCookie == o.SessionAffinityCookie &&
		s.PrimarySessionAffinityCookie == o.PrimarySessionAffinityCookie &&
		same(s.TrackedConfigs, o.TrackedConfigs, func(a, b *map[string]string) bool { return maps.Equal(*a, *b) }) &&
		s.LastAppliedSpec == o.LastAppliedSpec && s.LastPromotedSpec == o.LastPromotedSpec &&
		s.LastTransitionTime.Equal(&o.LastTransitionTime) && s.ObservedGeneration == o.ObservedGeneration &&
		s.Rollout.Equal(o.Rollout) && slices.EqualFunc(s.Conditions, o.Conditions, sameCondition)
}

// same is whether two values are both missing, or both there and equal.
func same[T any](a, b *T, equal func(a, b *T) bool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return equal(a, b)
}

func sameValue[T comparable](a, b *T) bool {
	return same(a, b, func(a, b *T) bool { return *a == *b })
}

func sameCondition(a, b CanaryCondition) bool {
	return a.Type == b.Type && a.Status == b.Status && a.LastUpdateTime.Equal(&b.LastUpdateTime) &&
		a.LastTransitionTime.Equal(&b.LastTransitionTime) && a.Reason == b.Reason && a.Message == b.Message
}

// Equal is the same for a part of it, which may be nil.
func (s *RolloutStatus) Equal(o *RolloutStatus) bool { return same(s, o, (*RolloutStatus).equal) }

func (s *RolloutStatus) equal(o *RolloutStatus) bool {
	return sameValue(s.TargetRef, o.TargetRef) && sameValue(s.PrimaryRef, o.PrimaryRef) &&
		s.Target.Equal(o.Target) && s.Promoted.Equal(o.Promoted) &&
		s.Run == o.Run && s.Stage == o.Stage && s.StageStartedAt.Equal(o.StageStartedAt) && s.NextCheckAt.Equal(o.NextCheckAt) &&
		s.NextRollbackCheckAt.Equal(o.NextRollbackCheckAt) && same(s.Waiting, o.Waiting, (*WaitingStatus).equal) &&
		sameValue(s.Urgent, o.Urgent) && same(s.UnreadySince, o.UnreadySince, (*UnreadySince).equal) && s.ToldHook == o.ToldHook &&
		s.CanaryDrainedAt.Equal(o.CanaryDrainedAt) && s.StrayPodsSince.Equal(o.StrayPodsSince) && s.CanaryIdle == o.CanaryIdle &&
		s.PrimaryReadySince.Equal(o.PrimaryReadySince) && s.Mirror == o.Mirror && s.Audience == o.Audience &&
		s.ServingSide == o.ServingSide && slices.Equal(s.Routing, o.Routing) && slices.Equal(s.Scalers, o.Scalers) &&
		s.RetiringSince.Equal(o.RetiringSince) && same(s.Checks, o.Checks, (*ChecksStatus).equal) && s.Sequence == o.Sequence &&
		slices.EqualFunc(s.Outbox, o.Outbox, sameNotice)
}

// Equal is the same for a revision, which may be nil.
func (r *RevisionRef) Equal(o *RevisionRef) bool { return same(r, o, (*RevisionRef).equal) }

func (r *RevisionRef) equal(o *RevisionRef) bool {
	return r.Fingerprint == o.Fingerprint && r.UID == o.UID && r.Generation == o.Generation && r.Counter == o.Counter &&
		maps.Equal(r.Configs, o.Configs) && r.FlaggerHash == o.FlaggerHash
}

func (w *WaitingStatus) equal(o *WaitingStatus) bool {
	return w.Since.Equal(&o.Since) && w.Position == o.Position && w.PositionInNamespace == o.PositionInNamespace &&
		same(w.Canaries, o.Canaries, func(a, b *WaitingForCanaries) bool {
			return a.Revision == b.Revision && a.SeenAt.Equal(&b.SeenAt) && a.Since.Equal(b.Since) && a.Overdue == b.Overdue
		})
}

func (u *UnreadySince) equal(o *UnreadySince) bool {
	return u.Run == o.Run && u.Stage == o.Stage && u.Canary.Equal(o.Canary) && u.Primary.Equal(o.Primary) && u.Routes.Equal(o.Routes) &&
		u.Change.Equal(o.Change) && u.Blocked.Equal(o.Blocked)
}

func (c *ChecksStatus) equal(o *ChecksStatus) bool {
	return c.Run == o.Run && c.Check == o.Check && c.CheckedAt.Equal(o.CheckedAt) && c.TrafficSince.Equal(o.TrafficSince) &&
		slices.EqualFunc(c.Metrics, o.Metrics, sameVerdict) && same(c.Split, o.Split, (*SplitStatus).equal)
}

func sameVerdict(a, b MetricVerdict) bool {
	return a.Name == b.Name && a.Index == b.Index && a.Source == b.Source && a.Outcome == b.Outcome && a.Observed == b.Observed &&
		a.Value == b.Value && a.Primary == b.Primary && a.Bound == b.Bound && sameValue(a.Samples, b.Samples) && a.Query == b.Query &&
		a.Reason == b.Reason && a.NoDataSince.Equal(b.NoDataSince) && same(a.Evidence, b.Evidence, (*ComparisonEvidence).equal)
}

func (e *ComparisonEvidence) equal(o *ComparisonEvidence) bool {
	return e.CanaryBad == o.CanaryBad && e.CanaryTotal == o.CanaryTotal && e.PrimaryBad == o.PrimaryBad &&
		e.PrimaryTotal == o.PrimaryTotal && e.Peak == o.Peak && slices.Equal(e.LogWealth, o.LogWealth)
}

func (s *SplitStatus) equal(o *SplitStatus) bool {
	return s.Weight == o.Weight && s.Share == o.Share && s.CanaryRequests == o.CanaryRequests && s.PrimaryRequests == o.PrimaryRequests &&
		s.Bound == o.Bound && s.Outcome == o.Outcome && s.Observed == o.Observed && s.Reason == o.Reason && s.Since.Equal(o.Since) &&
		s.Begun == o.Begun && slices.Equal(s.Above, o.Above) && slices.Equal(s.Below, o.Below)
}

func sameNotice(a, b Notice) bool {
	return a.Sequence == b.Sequence && a.Type == b.Type && a.Message == b.Message && a.Rule == b.Rule && a.Error == b.Error &&
		sameValue(a.Alert, b.Alert) && a.Hooks == b.Hooks && a.Phase == b.Phase && a.Revision == b.Revision &&
		same(a.Verdict, b.Verdict, func(a, b *MetricVerdict) bool { return sameVerdict(*a, *b) })
}

// Stored returns a copy as it is read back after it was written: with times as fine as their format, which is seconds in what the
// contract has and microseconds in what it has not, and without what is empty.
func (s *CanaryStatus) Stored() *CanaryStatus {
	c := s.DeepCopy()
	if c.TrackedConfigs != nil && *c.TrackedConfigs == nil {
		c.TrackedConfigs = nil
	}
	toSeconds(&c.LastTransitionTime)
	for i := range c.Conditions {
		toSeconds(&c.Conditions[i].LastUpdateTime)
		toSeconds(&c.Conditions[i].LastTransitionTime)
	}
	dropEmpty(&c.Conditions)
	if c.Rollout != nil {
		c.Rollout.toStored()
	}
	return c
}

func (s *RolloutStatus) toStored() {
	toMicros(&s.StageStartedAt, &s.NextCheckAt, &s.NextRollbackCheckAt, &s.CanaryDrainedAt, &s.StrayPodsSince, &s.PrimaryReadySince, &s.RetiringSince)
	for _, revision := range []*RevisionRef{s.Target, s.Promoted} {
		if revision != nil && len(revision.Configs) == 0 {
			revision.Configs = nil
		}
	}
	if w := s.Waiting; w != nil {
		w.Since = micros(w.Since)
		if w.Canaries != nil {
			w.Canaries.SeenAt = micros(w.Canaries.SeenAt)
			toMicros(&w.Canaries.Since)
		}
	}
	if u := s.UnreadySince; u != nil {
		toMicros(&u.Canary, &u.Primary, &u.Routes, &u.Change, &u.Blocked)
	}
	dropEmpty(&s.Routing)
	dropEmpty(&s.Scalers)
	if s.Checks != nil {
		s.Checks.toStored()
	}
	for i := range s.Outbox {
		if v := s.Outbox[i].Verdict; v != nil {
			v.toStored()
		}
	}
	dropEmpty(&s.Outbox)
}

func (c *ChecksStatus) toStored() {
	toMicros(&c.CheckedAt, &c.TrafficSince)
	for i := range c.Metrics {
		c.Metrics[i].toStored()
	}
	dropEmpty(&c.Metrics)
	if c.Split != nil {
		toMicros(&c.Split.Since)
		dropEmpty(&c.Split.Above)
		dropEmpty(&c.Split.Below)
	}
}

func (v *MetricVerdict) toStored() {
	toMicros(&v.NoDataSince)
	if v.Evidence != nil {
		dropEmpty(&v.Evidence.LogWealth)
	}
}

func dropEmpty[T any](list *[]T) {
	if len(*list) == 0 {
		*list = nil
	}
}

func toSeconds(t *metav1.Time) {
	if !t.IsZero() {
		*t = metav1.NewTime(t.Truncate(time.Second).Local())
	}
}

func micros(t metav1.MicroTime) metav1.MicroTime {
	if t.IsZero() {
		return metav1.MicroTime{}
	}
	return metav1.NewMicroTime(t.Truncate(time.Microsecond).Local())
}

// toMicros drops zero times as well: they are written as none.
func toMicros(times ...**metav1.MicroTime) {
	for _, t := range times {
		switch {
		case *t == nil:
		case (*t).IsZero():
			*t = nil
		default:
			**t = micros(**t)
		}
	}
}
