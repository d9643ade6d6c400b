// Package influxdb asks InfluxDB 2 for the first value of a query in Flux.
package influxdb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "influxdb"

// timeout is how long a query in Flux may take, as in Flagger.
const timeout = 15 * time.Second

// Client is a provider.Provider for one organization on one server.
type Client struct {
	server outbound.Server
	query  api.QueryAPI
}

var (
	_ provider.Provider = (*Client)(nil)
	_ provider.Patient  = (*Client)(nil)
)

// New returns the Factory. The Secret holds token and org; without a Secret the server must ask for neither.
func New(transports *outbound.Transports) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		address, err := outbound.ParseAddress(cfg.Spec.Address, "http://influxdb:8086")
		if err != nil {
			return nil, err
		}
		keys := []string{"", ""}
		if cfg.Spec.SecretRef != nil {
			if keys, err = cfg.Keys("token", "org"); err != nil {
				return nil, err
			}
		}
		to := outbound.Destination{Host: address.Host}
		if keys[0] != "" {
			to.Authorize = httpapi.Header("Authorization", "Token "+keys[0])
		}
		server := outbound.Server{Name: "InfluxDB", Host: address.Host, Secrets: keys[:1]}
		strict := &httpapi.Strict{Server: server, Base: transports.To(to)}
		options := influxdb2.DefaultOptions().SetHTTPClient(&http.Client{Transport: strict})
		return &Client{
			server: server,
			// The token is added by the transport, which gives it to this server alone.
			query: influxdb2.NewClientWithOptions(address.String(), "", options).QueryAPI(keys[1]),
		}, nil
	}
}

// Timeout is 15 seconds.
func (*Client) Timeout() time.Duration { return timeout }

// Query returns the value of the first record. No record, as well as a record without value, is provider.ErrNoValues: nothing would
// pass any upper bound.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	result, err := c.query.Query(ctx, query)
	if err != nil {
		return 0, c.explain(ctx, err)
	}
	defer func() { _ = result.Close() }()
	if !result.Next() {
		if result.Err() != nil {
			return 0, c.explain(ctx, result.Err())
		}
		return 0, provider.ErrNoValues
	}
	switch value := result.Record().Value().(type) {
	case nil:
		return 0, provider.ErrNoValues
	case float64:
		return provider.Finite(value)
	case int64:
		return float64(value), nil
	case uint64:
		return float64(value), nil
	default:
		return 0, fmt.Errorf("%w: its value is a %T, convert it with toFloat()", provider.ErrInvalidQuery, value)
	}
}

// Online runs a query of the bucket default, which need not hold anything.
func (c *Client) Online(ctx context.Context) error {
	result, err := c.query.Query(ctx, `from(bucket: "default") |> range(start: -2h)`)
	if err != nil {
		return c.explain(ctx, err)
	}
	return result.Close()
}

func (c *Client) explain(ctx context.Context, err error) error {
	var status *outbound.StatusError
	var urlError *url.Error
	switch {
	case errors.As(err, &status) && status.Code == http.StatusBadRequest:
		return fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	case status != nil, ctx.Err() != nil, errors.As(err, &urlError):
		return c.server.Explain(ctx, err)
	default:
		return c.server.NotUnderstood(err)
	}
}
