package metrics

import (
	"context"
	"errors"
	"fmt"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Check asks every metrics provider that the Canary uses whether it answers and whether it understands the queries of the
// user, in parallel, each under a deadline. It returns the first failure in the order of the metrics: that of the
// metrics server before those of templates before those of queries. A query without data yet is none.
func (e *Evaluator) Check(ctx context.Context, c *v1beta1.Canary) error {
	var checks []func(context.Context) error
	var templates, written []task
	needsServer := false
	for _, t := range e.tasksOf(c) {
		switch t.source {
		case analysis.Template:
			templates, written = append(templates, t), append(written, t)
		case analysis.Inline:
			needsServer, written = true, append(written, t)
		case analysis.None:
		default:
			needsServer = true
		}
	}
	if needsServer {
		checks = append(checks, func(ctx context.Context) error { return e.checkServer(ctx, c) })
	}
	for _, t := range templates {
		checks = append(checks, func(ctx context.Context) error { return e.checkTemplate(ctx, c, t) })
	}
	for _, t := range written {
		if t.metric.SamplesQuery != "" {
			checks = append(checks, func(ctx context.Context) error { return e.checkQuery(ctx, c, t.of(measureSamples)) })
		}
		checks = append(checks, func(ctx context.Context) error { return e.checkQuery(ctx, c, t) })
	}
	failures := make([]error, len(checks))
	inParallel(ctx, len(checks), func(ctx context.Context, i int) { failures[i] = checks[i](ctx) })
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Evaluator) checkServer(ctx context.Context, c *v1beta1.Canary) error {
	p, field, err := e.metricsServer(ctx, c)
	if err != nil {
		return err
	}
	if err := e.online(ctx, p); err != nil {
		q := question{addressField: field, queryField: field}
		// "avaiable" is what users search their logs for.
		return fmt.Errorf("prometheus not avaiable: %s", q.remedy(err))
	}
	return nil
}

func (e *Evaluator) checkTemplate(ctx context.Context, c *v1beta1.Canary, t task) error {
	found, p, err := e.templateProvider(ctx, c, t)
	if err != nil {
		return err
	}
	if err := e.online(ctx, p); err != nil {
		field := fmt.Sprintf("spec.provider.address of MetricTemplate %s/%s", found.Namespace, found.Name)
		q := question{addressField: field, queryField: field}
		return fmt.Errorf("%s in metric template %s.%s not avaiable: %s", found.Spec.Provider.Type, found.Name, found.Namespace, q.remedy(err))
	}
	return nil
}

// checkQuery finds mistakes in a query before a rollout depends on it. That it can't be asked now is for the other checks.
func (e *Evaluator) checkQuery(ctx context.Context, c *v1beta1.Canary, t task) error {
	q, err := e.question(ctx, c, t)
	if err != nil {
		return err
	}
	if _, err := e.ask(ctx, c, t, q); errors.Is(err, ErrInvalidQuery) {
		return fmt.Errorf("Metric query failed for %s: %s", t.metric.Name, q.remedy(err))
	}
	return nil
}
