package controller

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/schedule"
)

// Schedule is when rollouts of all Canaries may begin.
type Schedule struct {
	*schedule.Schedule
	// Holds is whether rollouts under way take no step at other times.
	Holds bool
	// By names the flags that say so.
	By string
}

// ownSchedule is that of a Canary as it was read last.
type ownSchedule struct {
	spec *v1beta1.RolloutSchedule
	*schedule.Schedule
}

// scheduleOf is the schedule in the spec of a Canary, nil if there is none that can be read. Reading one means looking up a time zone.
func (m *memory) scheduleOf(spec *v1beta1.RolloutSchedule) *schedule.Schedule {
	if m.schedule.spec != spec {
		m.schedule = ownSchedule{spec: spec}
		if spec != nil {
			// One that can't be read is a problem of the spec.
			m.schedule.Schedule, _ = spec.Parse()
		}
	}
	return m.schedule.Schedule
}

// observeSchedule finds out whether a rollout may begin or go on now. Only a change that waits to begin and a rollout under way ask for
// that. The schedule of the operator and that of the Canary both have to be open.
func (o *observer) observeSchedule() {
	underWay := rollout.UnderWay(o.v.canary.Status.Phase)
	if !underWay && !rollout.Pending(&o.v.facts) {
		return
	}
	spec, now := o.v.canary.GetAnalysis().Schedule, o.v.facts.Now
	fact := &o.v.facts.Schedule
	var all []*schedule.Schedule
	add := func(s *schedule.Schedule, holds bool, by string) {
		if s == nil {
			return
		}
		all = append(all, s)
		if s.Open(now) {
			return
		}
		if !fact.Closed {
			fact.By = by
		}
		fact.Closed, fact.Holds = true, fact.Holds || underWay && holds
	}
	add(o.v.memory.scheduleOf(spec), spec != nil && spec.UnderWay == v1beta1.UnderWayHold, o.scheduleField())
	add(o.c.Schedule.Schedule, o.c.Schedule.Holds, o.c.Schedule.By)
	if fact.Closed {
		fact.Opens = schedule.Opens(now, all...)
	}
}

func (o *observer) scheduleField() string {
	if o.v.canary.Spec.Analysis == nil {
		return "spec.canaryAnalysis.schedule"
	}
	return "spec.analysis.schedule"
}
