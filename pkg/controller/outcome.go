package controller

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// observeOutcomes records a decision in the metrics. What it rests on was begun at since.
func (c *Controller) observeOutcomes(v *view, stored *v1beta1.Canary, d rollout.Decision, since time.Time) {
	c.Telemetry.Decision(d.Rule)
	if v.refused {
		// The series have the name of the target, on which the other Canary is at work.
		c.Telemetry.See(stored)
		return
	}
	c.Telemetry.Phase(stored, stored.Status.Phase)
	c.Telemetry.Spent(stored, v.facts.Now)
	c.Tracer.See(stored)
	if v.facts.Routes.Known {
		c.Telemetry.Weights(stored, 100-v.facts.Routes.CanaryWeight, v.facts.Routes.CanaryWeight)
	}
	c.Telemetry.Split(stored)
	if v.facts.Checks.Metrics != nil {
		c.Telemetry.Readings(stored, v.facts.Checks.Metrics.Readings)
	}
	for _, outcome := range d.Outcomes {
		switch outcome {
		case rollout.OutcomeSucceeded:
			c.Telemetry.Succeeded(stored, false)
		case rollout.OutcomeSkipped:
			c.Telemetry.Succeeded(stored, true)
		case rollout.OutcomeFailed:
			c.Telemetry.Failed(stored)
		case rollout.OutcomeAnalyzed:
			c.Telemetry.Duration(stored, c.Clock.Since(since))
			c.Tracer.Step(stored, c.Clock.Since(since))
			if v := v.facts.Checks.Metrics; v != nil && v.Record != nil {
				c.Telemetry.Checks(stored, v.Record.Metrics)
			}
		}
	}
}
