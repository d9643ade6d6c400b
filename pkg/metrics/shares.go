package metrics

import (
	"context"
	"fmt"
	"slices"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// noMetric is the index of what is counted for no metric.
const noMetric = -1

// bothSides is the field below the analysis that asks for the primary as well.
func (t task) bothSides() string {
	if t.source == analysis.Shares {
		return "split"
	}
	return fmt.Sprintf("metrics[%d].comparison", t.index)
}

// readsShares is whether the requests of both sides are counted at a check. Nobody who does not ask for it gets counts that
// include what no route led there, or of a metrics server that the Canary does not use for its traffic.
func (e *Evaluator) readsShares(c *v1beta1.Canary) bool {
	a := c.GetAnalysis()
	switch {
	case a.GetSplit().Mode == v1beta1.SplitIgnore, a.NoShare() != "", c.Status.CanaryWeight == 0:
		return false
	case a.Split != nil:
		return true
	}
	o, err := observerFor(ObserverName(e.FlagProvider, c))
	return err == nil && !o.mixed && !o.direct && slices.ContainsFunc(a.Metrics, func(m v1beta1.CanaryMetric) bool {
		source := analysis.Sources(m)[0]
		return source == analysis.SuccessRate || source == analysis.Duration
	})
}

// sharesTask counts for the interval of the analysis: since the check before.
func (e *Evaluator) sharesTask(c *v1beta1.Canary) task {
	m := v1beta1.CanaryMetric{Name: "split", Interval: fmt.Sprintf("%dms", c.GetAnalysisInterval(e.MinInterval).Milliseconds())}
	return task{index: noMetric, metric: m, source: analysis.Shares, measure: measureSamples, vars: NewVars(c, m)}
}

// readShares counts the requests of both sides. A side that had none since its proxy began to run has no series, which is nothing
// unusual for a canary. A primary without any can't be told from one that the query does not find.
func (e *Evaluator) readShares(ctx context.Context, c *v1beta1.Canary, t task) analysis.Reading {
	answers := e.readAll(ctx, c, []task{t, t.aboutPrimary(c)})
	r, primary := answers[0], answers[1]
	for _, a := range answers {
		if a.State != analysis.Value && a.State != analysis.NoData {
			return a
		}
	}
	r.Counts.Canary.Total, r.Counts.Primary.Total = whole(r.Value), whole(primary.Value)
	r.Value = 0
	if primary.State == analysis.NoData && r.Counts.Canary.Total > 0 && c.Status.CanaryWeight < 100 {
		r.State, r.Cause = analysis.NoData, "there are requests of the canary, and none of the primary are found: see whether the metrics server knows of it"
		return r
	}
	r.State, r.Cause = analysis.Value, ""
	return r
}
