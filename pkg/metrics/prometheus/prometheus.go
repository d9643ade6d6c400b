// Package prometheus asks Prometheus, or what speaks its HTTP API, for the value of a query.
package prometheus

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/googletoken"
	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/promapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "prometheus"

// Client is a provider.Provider for one server.
type Client struct{ http *httpapi.Client }

var _ provider.Provider = (*Client)(nil)

// New returns the Factory of Clients that share their connections. The address of a Client is that of the server with an optional
// path before /api/v1; its query string is dropped. See access for the keys of the Secret. With a region the requests are signed for
// Amazon, with the identity that the AWS SDK finds for the operator; those to Google carry a token.
func New(transports *outbound.Transports, clock clock.PassiveClock) provider.Factory {
	return newFactory(transports, clock, googleHost)
}

func newFactory(transports *outbound.Transports, clock clock.PassiveClock, google string) provider.Factory {
	identities := &identities{clock: clock, google: googletoken.New(transports), googleHost: google, regions: map[string]aws.CredentialsProvider{}}
	return func(cfg provider.Config) (provider.Provider, error) {
		a, err := accessOf(cfg, identities)
		if err != nil {
			return nil, err
		}
		client, err := httpapi.Build(transports, cfg, httpapi.Options{
			Name:       "prometheus",
			Example:    "http://prometheus:9090",
			Headers:    a.headers,
			Authorize:  a.authorize,
			Secrets:    a.secrets,
			SkipVerify: cfg.Spec.InsecureSkipVerify,
			TLS:        a.tls,
		})
		if err != nil {
			return nil, err
		}
		return &Client{client}, nil
	}
}

// Query sends the query by GET to <address>/api/v1/query. Of several series the last counts, as in Flagger. See promapi.Query for
// what comes of other answers.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	value, _, err := promapi.Query(ctx, c.http, "/api/v1/query", query)
	return value, err
}

// Online asks for vector(1).
func (c *Client) Online(ctx context.Context) error {
	value, err := c.Query(ctx, "vector(1)")
	if err != nil {
		return err
	}
	if value != 1 {
		return fmt.Errorf("prometheus at %s: vector(1) returned %v instead of 1", c.http.Host, value)
	}
	return nil
}
