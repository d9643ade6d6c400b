// Package prometheus asks Prometheus, or what speaks its HTTP API, for the value of a query.
package prometheus

import (
	"context"
	"fmt"
	"net/http"
	"strings"

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
// path before /api/v1; its query string is dropped. Credentials hold token, or username and password.
func New(transports *outbound.Transports) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		authorize, secrets, err := authorization(cfg)
		if err != nil {
			return nil, err
		}
		client, err := httpapi.Build(transports, cfg, httpapi.Options{
			Name:       "prometheus",
			Example:    "http://prometheus:9090",
			Headers:    cfg.Spec.Headers,
			Authorize:  authorize,
			Secrets:    secrets,
			SkipVerify: cfg.Spec.InsecureSkipVerify,
		})
		if err != nil {
			return nil, err
		}
		return &Client{client}, nil
	}
}

// authorization returns what adds the credentials to a request, nil without a secretRef, and what must not be shown.
func authorization(cfg provider.Config) (func(*http.Request), []string, error) {
	if cfg.Spec.SecretRef == nil {
		return nil, nil, nil
	}
	if token, ok := cfg.Credentials["token"]; ok {
		text := strings.TrimSpace(string(token))
		return httpapi.Header("Authorization", "Bearer "+text), []string{text}, nil
	}
	username, hasUser := cfg.Credentials["username"]
	password, hasPassword := cfg.Credentials["password"]
	if !hasUser || !hasPassword {
		return nil, nil, fmt.Errorf("secret %s has neither the key token nor the keys username and password: add them, or remove provider.secretRef",
			cfg.Spec.SecretRef.Name)
	}
	return func(r *http.Request) { r.SetBasicAuth(string(username), string(password)) }, []string{string(password)}, nil
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
