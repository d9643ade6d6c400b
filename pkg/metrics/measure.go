package metrics

import (
	"context"
	"fmt"
	"math"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func (t task) of(m measure) task {
	t.measure = m
	return t
}

func (t task) aboutPrimary(c *v1beta1.Canary) task {
	t.vars = t.vars.aboutPrimary(c)
	return t
}

// read answers one task with all that its metric asks for: its value, that of the primary, and how many requests they rest on.
func (e *Evaluator) read(ctx context.Context, c *v1beta1.Canary, t task) analysis.Reading {
	switch {
	case t.source == analysis.Shares:
		return e.readShares(ctx, c, t)
	case analysis.Counted(t.metric):
		return e.readCounts(ctx, c, t)
	}
	asked := []task{t}
	if t.metric.Comparison != nil {
		asked = append(asked, t.aboutPrimary(c))
	}
	if t.metric.MinSamples > 0 {
		asked = append(asked, t.of(measureSamples))
	}
	answers := e.readAll(ctx, c, asked)
	r := answers[0]
	for i := 1; i < len(asked); i++ {
		switch a := answers[i]; {
		case a.State == analysis.Value && asked[i].measure == measureSamples:
			r.Samples = new(whole(a.Value))
		case a.State == analysis.Value:
			r.Primary = a.Value
		case a.State == analysis.NoData && asked[i].measure == measureSamples:
			r.Samples = new(int64)
		case a.State == analysis.NoData:
			r.Primary = math.NaN()
		case r.State == analysis.Value:
			r.State, r.Cause, r.Query = a.State, a.Cause, a.Query
		}
	}
	return r
}

// readAll answers tasks in parallel.
func (e *Evaluator) readAll(ctx context.Context, c *v1beta1.Canary, tasks []task) []analysis.Reading {
	answers := make([]analysis.Reading, len(tasks))
	inParallel(ctx, len(tasks), func(ctx context.Context, i int) { answers[i] = e.readOne(ctx, c, tasks[i]) })
	return answers
}

// readCounts counts the requests of both sides, and the bad ones of them.
func (e *Evaluator) readCounts(ctx context.Context, c *v1beta1.Canary, t task) analysis.Reading {
	counted := t.of(measureGood)
	if t.source == analysis.Inline || t.source == analysis.Template {
		// The user's query counts what is bad.
		counted = t
	}
	all := t.of(measureSamples)
	answers := e.readAll(ctx, c, []task{counted, all, counted.aboutPrimary(c), all.aboutPrimary(c)})
	r := answers[0]
	for _, a := range answers {
		if a.State != analysis.Value && a.State != analysis.NoData {
			return a
		}
	}
	for i, side := range []*sequential.Counts{&r.Counts.Canary, &r.Counts.Primary} {
		counts, problem := countsOf(t, answers[2*i], answers[2*i+1])
		if problem != "" {
			r.State, r.Cause = analysis.Failed, problem
			return r
		}
		*side = counts
	}
	r.State, r.Cause, r.Value = analysis.Value, "", 100*r.Counts.Canary.Share()
	if t.source == analysis.SuccessRate {
		r.Value = 100 - r.Value
	}
	return r
}

// countsOf makes counts of two answers. Where there are requests, the other query has to have an answer, too: one that never has
// one would pass every canary.
func countsOf(t task, counted, all analysis.Reading) (counts sequential.Counts, problem string) {
	if all.State == analysis.Value {
		counts.Total = whole(all.Value)
	}
	n := min(whole(counted.Value), counts.Total)
	switch missing := counted.State != analysis.Value && counts.Total > 0; {
	case missing && t.source == analysis.Duration:
		return counts, fmt.Sprintf("there are requests and none of their buckets ends at %s: set comparison.slowerThan to the bound of a bucket",
			t.metric.Comparison.SlowerThan)
	case missing:
		return counts, `there are requests and no value for the bad ones: let the query give 0 where none is bad, for example by "or vector(0)"`
	case t.source == analysis.SuccessRate || t.source == analysis.Duration:
		counts.Bad = counts.Total - n
	default:
		counts.Bad = n
	}
	return counts, ""
}

// whole rounds a count: rates over a window are extrapolated to its ends.
func whole(v float64) int64 {
	const most = 1e15
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return int64(math.Round(min(v, most)))
}
