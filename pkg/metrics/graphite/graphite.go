// Package graphite asks Graphite for the last value that its render API returns.
package graphite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "graphite"

// Client is a provider.Provider for one server.
type Client struct{ http *httpapi.Client }

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. The Secret, which is optional, holds username and password.
func New(transports *outbound.Transports) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		o := httpapi.Options{Name: "Graphite", Example: "http://graphite:8080", SkipVerify: cfg.Spec.InsecureSkipVerify}
		if cfg.Spec.SecretRef != nil {
			keys, err := cfg.Keys("username", "password")
			if err != nil {
				return nil, err
			}
			o.Authorize = httpapi.Basic(keys[0], keys[1])
			o.Secrets = keys
		}
		client, err := httpapi.Build(transports, cfg, o)
		if err != nil {
			return nil, err
		}
		return &Client{client}, nil
	}
}

// series is one target of an answer. A datapoint is a value and a time, in seconds since 1970.
type series struct {
	Target     string             `json:"target"`
	Datapoints [][]httpapi.Number `json:"datapoints"`
}

// Query takes the query string of a URL of the render API, such as target=sumSeries(app.*.count)&from=-5min, in any number of lines.
// It returns the last value that is not null, over all targets in their order.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	// Whitespace means nothing in a target, and without this a line break would be part of a name.
	parameters, err := url.ParseQuery(strings.Join(strings.Fields(query), " "))
	if err != nil {
		return 0, fmt.Errorf("%w: it is not like the query string of a URL: %w", provider.ErrInvalidQuery, err)
	}
	clean := url.Values{}
	for name, values := range parameters {
		for _, value := range values {
			clean.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	if !clean.Has("target") {
		return 0, fmt.Errorf("%w: it has no target=", provider.ErrInvalidQuery)
	}
	clean.Set("format", "json")
	var answer seriesList
	if err := c.http.Get(ctx, "/render", clean, &answer); err != nil {
		return 0, explain(err)
	}
	return c.last(answer)
}

// explain tells an unknown function or a wrong argument, which Graphite answers with 400, from a server that can't be asked.
func explain(err error) error {
	var status *outbound.StatusError
	if errors.As(err, &status) && status.Code == http.StatusBadRequest {
		return fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	return err
}

// seriesList is an answer. Graphite behind some caches answers an empty object where there are no series.
type seriesList []series

func (l *seriesList) UnmarshalJSON(data []byte) error {
	if strings.Join(strings.Fields(string(data)), "") == "{}" {
		return nil
	}
	return json.Unmarshal(data, (*[]series)(l))
}

func (c *Client) last(answer seriesList) (float64, error) {
	value, err := 0.0, provider.ErrNoValues
	for _, s := range answer {
		for _, point := range s.Datapoints {
			if len(point) != 2 {
				return 0, c.http.NotUnderstood(fmt.Errorf("a datapoint of %s has %d elements instead of 2", s.Target, len(point)))
			}
			if v, noValue := point[0].Value(); noValue == nil {
				value, err = v, nil
			}
		}
	}
	return value, err
}

// Online asks for a target that need not exist.
func (c *Client) Online(ctx context.Context) error {
	_, err := c.Query(ctx, "target=test")
	if errors.Is(err, provider.ErrNoValues) {
		return nil
	}
	return err
}
