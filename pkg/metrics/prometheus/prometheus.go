// Package prometheus asks Prometheus, or what speaks its HTTP API, for the value of a query.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"flagger.app/flagger/pkg/metrics/provider"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "prometheus"

// Client is a provider.Provider for one server.
type Client struct {
	address string
	api     promv1.API
}

var _ provider.Provider = (*Client)(nil)

// Query sends the query, with each run of whitespace as one space, by GET to <address>/api/v1/query. The answer must be a
// vector; of several series the last counts, as in Flagger. An empty vector, NaN and infinity are ErrNoValues, a matrix is
// ErrMultipleValues.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	result, _, err := c.api.Query(ctx, strings.Join(strings.Fields(query), " "), time.Time{})
	if err != nil {
		return 0, c.explain(ctx, err)
	}
	switch v := result.(type) {
	case model.Vector:
		return last(v)
	case model.Matrix:
		return 0, fmt.Errorf("the query returns a range of values, remove the [range] selector around it: %w",
			provider.ErrMultipleValues)
	default:
		return 0, fmt.Errorf("%w: it returns a %s, wrap it in vector()", provider.ErrInvalidQuery, result.Type())
	}
}

// Online asks for vector(1).
func (c *Client) Online(ctx context.Context) error {
	value, err := c.Query(ctx, "vector(1)")
	if err != nil {
		return err
	}
	if value != 1 {
		return fmt.Errorf("prometheus at %s: vector(1) returned %v instead of 1", c.address, value)
	}
	return nil
}

func last(v model.Vector) (float64, error) {
	if len(v) == 0 {
		return 0, provider.ErrNoValues
	}
	sample := v[len(v)-1]
	if sample.Histogram != nil {
		return 0, fmt.Errorf("%w: it returns a native histogram, wrap it in histogram_quantile() or a similar function",
			provider.ErrInvalidQuery)
	}
	return provider.Finite(float64(sample.Value))
}

// explain says what went wrong in terms of the server that was asked.
func (c *Client) explain(ctx context.Context, err error) error {
	var apiError *promv1.Error
	if errors.As(err, &apiError) {
		text := apiError.Msg
		if detail := strings.TrimSpace(apiError.Detail); detail != "" {
			text += ": " + abbreviate(detail)
		}
		switch apiError.Type {
		case promv1.ErrBadData, promv1.ErrExec:
			return fmt.Errorf("%w: prometheus at %s: %s", provider.ErrInvalidQuery, c.address, text)
		case promv1.ErrBadResponse:
			return fmt.Errorf("prometheus at %s gave an answer that is not understood: %s", c.address, abbreviate(text))
		default:
			return fmt.Errorf("prometheus at %s: %s: %s", c.address, apiError.Type, text)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("prometheus at %s gave no answer in time: %w", c.address, ctx.Err())
	}
	// The url.Error around the cause repeats method, address and the whole query.
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return fmt.Errorf("prometheus at %s is unreachable: %w", c.address, urlError.Err)
	}
	return fmt.Errorf("prometheus at %s gave an answer that is not understood: %w", c.address, err)
}

func abbreviate(s string) string {
	const limit = 512
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// getClient sends as GET what the official client sends as POST: proxies in front of Prometheus often allow reads only,
// and tell them by the method.
type getClient struct{ api.Client }

func (g getClient) Do(ctx context.Context, req *http.Request) (*http.Response, []byte, error) {
	if req.Method != http.MethodPost || req.Body == nil {
		return g.Client.Do(ctx, req)
	}
	form, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, nil, err
	}
	target := *req.URL
	target.RawQuery = string(form)
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	return g.Client.Do(ctx, get)
}
