package metrics

import (
	"context"
	"fmt"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Check asks every metrics provider that the Canary uses whether it answers, in parallel, each under a deadline of
// Timeout. It returns the first failure in the order of the metrics: that of the metrics server before those of templates.
func (e *Evaluator) Check(ctx context.Context, c *v1beta1.Canary) error {
	var checks []func(context.Context) error
	var templates []task
	needsServer := false
	for _, t := range tasksOf(c) {
		switch t.source {
		case analysis.Template:
			templates = append(templates, t)
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
	p, field, err := e.metricsServer(c)
	if err != nil {
		return err
	}
	if err := p.Online(ctx); err != nil {
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
	if err := p.Online(ctx); err != nil {
		field := fmt.Sprintf("spec.provider.address of MetricTemplate %s/%s", found.Namespace, found.Name)
		q := question{addressField: field, queryField: field}
		return fmt.Errorf("%s in metric template %s.%s not avaiable: %s", found.Spec.Provider.Type, found.Name, found.Namespace, q.remedy(err))
	}
	return nil
}
