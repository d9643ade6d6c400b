package metrics

import (
	"context"
	"errors"
	"fmt"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/prometheus"
	"flagger.app/flagger/pkg/metrics/provider"
)

// question is a rendered query, whom to ask, and which fields to name when it fails.
type question struct {
	provider *connection
	// backend is the type of the provider.
	backend string
	query   string
	// scale converts the answer to the unit of a reading.
	scale float64
	// addressField and queryField are where the user can mend the address and the query.
	addressField, queryField string
}

// read answers one task. An error before the query is sent carries the complete message of the event.
func (e *Evaluator) readOne(ctx context.Context, c *v1beta1.Canary, t task) analysis.Reading {
	q, err := e.question(ctx, c, t)
	if err != nil {
		return e.unusable(c, t, err)
	}
	r := e.reading(c, t)
	r.Query = q.query
	value, err := e.ask(ctx, c, t, q)
	switch {
	case err == nil:
		r.State, r.Value = analysis.Value, value*q.scale
	case errors.Is(err, ErrNoValues):
		r.State, r.Cause = analysis.NoData, ErrNoValues.Error()
	default:
		r.State, r.Cause = analysis.Failed, q.remedy(err)
	}
	return r
}

func (e *Evaluator) reading(c *v1beta1.Canary, t task) analysis.Reading {
	return analysis.Reading{
		Index:    t.index,
		Metric:   t.metric,
		Source:   t.source,
		Provider: ObserverName(e.FlagProvider, c),
	}
}

func (e *Evaluator) unusable(c *v1beta1.Canary, t task, err error) analysis.Reading {
	r := e.reading(c, t)
	r.State, r.Cause = analysis.Unusable, err.Error()
	return r
}

// remedy adds to the error the field that has to be looked at.
func (q question) remedy(err error) string {
	if errors.Is(err, ErrInvalidQuery) || errors.Is(err, ErrMultipleValues) {
		return fmt.Sprintf("%v; correct %s", err, q.queryField)
	}
	return fmt.Sprintf("%v; check that the server is up and the address in %s is right", err, q.addressField)
}

func (e *Evaluator) question(ctx context.Context, c *v1beta1.Canary, t task) (question, error) {
	switch t.source {
	case analysis.SuccessRate, analysis.Duration, analysis.Shares:
		return e.builtIn(ctx, c, t)
	case analysis.Inline:
		return e.inline(ctx, c, t)
	case analysis.Template:
		return e.template(ctx, c, t)
	default:
		return question{}, errors.New("Metric query failed for no usable metrics template and query were configured")
	}
}

func (e *Evaluator) builtIn(ctx context.Context, c *v1beta1.Canary, t task) (question, error) {
	name := ObserverName(e.FlagProvider, c)
	o, err := observerFor(name)
	if err != nil {
		return question{}, fmt.Errorf("Metric query failed for %s: %w", t.metric.Name, err)
	}
	q := question{backend: prometheus.Type, queryField: "spec.provider, which selects the built-in query", scale: 1}
	if o.mixed && t.vars.Primary {
		return question{}, fmt.Errorf("Metric query failed for %s: the built-in metrics of provider %s do not tell the primary from the canary: "+
			"remove %s.%s, or use templateRef", t.metric.Name, name, analysisField(c), t.bothSides())
	}
	if t.measure == measureValue && t.source == analysis.Duration && o.seconds {
		q.scale = 1000
	}
	text, err := o.text(t)
	if err == nil {
		q.query, err = render(text, builtInFunctions(t.vars))
	}
	if err != nil {
		return question{}, fmt.Errorf("Metric query failed for %s: %w", t.metric.Name, err)
	}
	q.provider, q.addressField, err = e.metricsServer(ctx, c)
	return q, err
}

func (e *Evaluator) inline(ctx context.Context, c *v1beta1.Canary, t task) (question, error) {
	query, field := t.written(c, t.metric.Query, fmt.Sprintf("%s.metrics[%d].query", analysisField(c), t.index))
	text, err := Render(query, t.vars)
	if err == nil {
		err = filledIn(text)
	}
	if err != nil {
		return question{}, fmt.Errorf("Metric query failed for %s: %s: %w", t.metric.Name, field, err)
	}
	q := question{backend: prometheus.Type, query: text, scale: 1, queryField: field}
	q.provider, q.addressField, err = e.metricsServer(ctx, c)
	return q, err
}

// written is the text of a query of the user and the field that it is in.
func (t task) written(c *v1beta1.Canary, query, field string) (string, string) {
	if t.measure == measureSamples {
		return t.metric.SamplesQuery, fmt.Sprintf("%s.metrics[%d].samplesQuery", analysisField(c), t.index)
	}
	return query, field
}

func analysisField(c *v1beta1.Canary) string {
	if c.Spec.Analysis == nil {
		return "spec.canaryAnalysis"
	}
	return "spec.analysis"
}

// template finds the MetricTemplate, builds its provider and renders its query.
func (e *Evaluator) template(ctx context.Context, c *v1beta1.Canary, t task) (question, error) {
	found, p, err := e.templateProvider(ctx, c, t)
	if err != nil {
		return question{}, err
	}
	id := found.Name + "." + found.Namespace
	query, field := t.written(c, found.Spec.Query, fmt.Sprintf("spec.query of MetricTemplate %s/%s", found.Namespace, found.Name))
	text, err := Render(query, t.vars)
	if err == nil && found.Spec.Provider.Type == prometheus.Type {
		err = filledIn(text)
	}
	if err != nil {
		return question{}, fmt.Errorf("Metric template %s query render error: %w", id, err)
	}
	return question{
		provider:     p,
		backend:      found.Spec.Provider.Type,
		query:        text,
		scale:        1,
		addressField: fmt.Sprintf("spec.provider.address of MetricTemplate %s/%s", found.Namespace, found.Name),
		queryField:   field,
	}, nil
}

func (e *Evaluator) templateProvider(ctx context.Context, c *v1beta1.Canary, t task) (*v1beta1.MetricTemplate, *connection, error) {
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	ref := t.metric.TemplateRef
	namespace := ref.NamespaceOr(c.Namespace)
	id := ref.Name + "." + namespace
	// Checked at every use, since a valid Canary can be changed into an invalid one while its rollout runs.
	if e.NoCrossNamespaceRefs && namespace != c.Namespace {
		return nil, nil, fmt.Errorf("can't access metric template %s, cross-namespace references are blocked", id)
	}
	found, err := e.Templates.MetricTemplate(namespace, ref.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("Metric template %s error: %w", id, err)
	}
	cfg := provider.Config{Spec: found.Spec.Provider, Interval: t.vars.Interval}
	if secret := found.Spec.Provider.SecretRef; secret != nil {
		if cfg.Credentials, err = e.Secrets.SecretData(ctx, namespace, secret.Name); err != nil {
			return nil, nil, fmt.Errorf("Metric template %s secret %s error: %w", id, secret.Name, err)
		}
	}
	p, err := e.connect(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("Metric template %s provider %s error: %w", id, found.Spec.Provider.Type, err)
	}
	return found, p, nil
}

// knativeRoute is the revision that the built-in queries of Knative are about, empty for any other target.
func (e *Evaluator) knativeRoute(ctx context.Context, c *v1beta1.Canary, wanted bool) (string, error) {
	if !wanted || !c.IsKnative() {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	err := errors.New("the operator has no access to Knative Services")
	if e.Knative != nil {
		var revision string
		if revision, err = e.Knative.LatestRevision(ctx, c.Namespace, c.Spec.TargetRef.Name); err == nil {
			return revision, nil
		}
	}
	return "", fmt.Errorf("Error fetching Knative service %s/%s %w", c.Namespace, c.Spec.TargetRef.Name, err)
}
