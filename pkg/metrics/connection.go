package metrics

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/metrics/sharing"
)

const (
	// freshness is the part of its analysis interval that an answer to somebody else may be old for a Canary. Canaries that began
	// together drift apart by up to a fiftieth with each step, so ten steps later they still ask within it. It is also so short
	// that no answer is from before the step that it is about: a step lasts an interval at the least.
	freshness = 5
	// lately is how long a back-end counts as online for others.
	lately = time.Second
)

// connection is a back-end as whoever has its address and credentials asks it.
type connection struct {
	Provider
	// server is whom the queries reach, id what they are asked by besides, credentials included.
	server string
	id     [sha256.Size]byte
}

// connect builds the back-end for cfg. Changed credentials make another connection, so no answer outlasts them.
func (e *Evaluator) connect(cfg provider.Config) (*connection, error) {
	p, err := e.registry().New(cfg)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", cfg.Spec.Type, err)
	}
	return &connection{Provider: p, server: serverOf(cfg.Spec), id: sha256.Sum256(text)}, nil
}

// serverOf is the host of an address, with its port. Back-ends without an address have one server in each region.
func serverOf(spec v1beta1.MetricTemplateProvider) string {
	address, err := url.Parse(spec.Address)
	if err != nil || address.Host == "" {
		return spec.Type + " " + cmp.Or(spec.Address, spec.Region)
	}
	return address.Host
}

// query is what to ask for text, under the limit of all or that of the back-end, whichever is longer.
func (c *connection) query(limit time.Duration, text string) sharing.Query {
	if p, ok := c.Provider.(provider.Patient); ok {
		limit = max(limit, p.Timeout())
	}
	return sharing.Query{
		ID: sha256.Sum256(append(c.id[:], text...)), Server: c.server, Limit: limit,
		Send: func(ctx context.Context) (float64, error) { return c.Query(ctx, text) },
	}
}

// online asks whether the back-end answers, or knows it from somebody who has just asked.
func (e *Evaluator) online(ctx context.Context, c *connection) error {
	_, err := e.desk().Ask(ctx, sharing.Query{
		ID: c.id, Server: c.server, Age: lately, Limit: e.limit(),
		Send: func(ctx context.Context) (float64, error) { return 0, c.Online(ctx) },
	})
	return err
}

// ageOf is how old the answer to somebody else's query may be for a task. What is counted for a sequential test is counted from
// check to check, so another time would count requests twice or not at all.
func (e *Evaluator) ageOf(c *v1beta1.Canary, t task) time.Duration {
	if analysis.Counted(t.metric) {
		return 0
	}
	return c.GetAnalysisInterval(e.MinInterval) / freshness
}

// askerOf tells the tasks of all Canaries apart. None of them is to judge by one answer twice.
func askerOf(c *v1beta1.Canary, t task) string {
	return fmt.Sprintf("%s/%s/%s/%d/%d/%t", c.Namespace, c.Name, c.UID, t.index, t.measure, t.vars.Primary)
}

func (e *Evaluator) desk() *sharing.Desk {
	e.opened.Do(func() { e.queries = &sharing.Desk{Clock: e.clock(), PerServer: e.PerServer} })
	return e.queries
}
