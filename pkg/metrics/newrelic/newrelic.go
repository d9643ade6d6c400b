// Package newrelic asks New Relic for the value of a query in NRQL, by NerdGraph or by the older Insights API.
package newrelic

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "newrelic"

// Keys of the Secret. With a user key queries go to NerdGraph, else, with a query key, to the Insights API.
const (
	accountKey = "newrelic_account_id"
	queryKey   = "newrelic_query_key"
	userKey    = "newrelic_user_key"
)

// Client is a provider.Provider for one account.
type Client struct {
	send   func(ctx context.Context, nrql string) ([]map[string]json.RawMessage, error)
	http   *httpapi.Client
	period time.Duration
}

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. The default address is https://insights-api.newrelic.com, that of NerdGraph https://api.newrelic.com;
// accounts in the EU have https://insights-api.eu.newrelic.com and https://api.eu.newrelic.com.
func New(transports *outbound.Transports) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		period, err := cfg.Period()
		if err != nil {
			return nil, err
		}
		if len(cfg.Credentials[userKey]) > 0 {
			return newNerdGraph(transports, cfg, period)
		}
		return newInsights(transports, cfg, period)
	}
}

// Query adds SINCE <interval> seconds ago to the query, which must return one value.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	nrql := fmt.Sprintf("%s SINCE %s seconds ago", strings.TrimSpace(query), strconv.Itoa(int(c.period.Seconds())))
	results, err := c.send(ctx, nrql)
	if err != nil {
		return 0, err
	}
	switch len(results) {
	case 0:
		return 0, provider.ErrNoValues
	case 1:
		return c.value(results[0])
	default:
		return 0, fmt.Errorf("%d results, remove FACET, TIMESERIES and all functions but one: %w", len(results), provider.ErrMultipleValues)
	}
}

// Online asks whether there is any metric at all, which needs the key to be right.
func (c *Client) Online(ctx context.Context) error {
	_, err := c.send(ctx, "SELECT * FROM Metric LIMIT 1")
	return err
}

// value is that of the key result, which filter() and percentage() return, or of the one other key: functions like count and average
// name the value after themselves. That of percentile() is an object with one value in it.
func (c *Client) value(result map[string]json.RawMessage) (float64, error) {
	text, ok := result["result"]
	if !ok {
		if len(result) > 1 {
			return 0, fmt.Errorf("%d values in the result, select one: %w", len(result), provider.ErrMultipleValues)
		}
		for _, only := range result {
			text = only
		}
	}
	if len(text) == 0 {
		return 0, provider.ErrNoValues
	}
	if inner := map[string]json.RawMessage(nil); text[0] == '{' && json.Unmarshal(text, &inner) == nil {
		if len(inner) == 0 {
			return 0, provider.ErrNoValues
		}
		return c.value(inner)
	}
	var number httpapi.Number
	if err := json.Unmarshal(text, &number); err != nil {
		return 0, c.http.NotUnderstood(err)
	}
	return number.Value()
}
