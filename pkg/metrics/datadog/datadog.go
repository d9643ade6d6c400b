// Package datadog asks Datadog for the newest complete value of a query.
//
// It uses two calls of the API, which take no more code than the official client would. That one would add 1,200 generated files and
// a C library to the build.
package datadog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "datadog"

// Client is a provider.Provider for one organization.
type Client struct {
	http   *httpapi.Client
	window provider.Window
}

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. The default address is https://api.datadoghq.com, other sites have others, such as
// https://api.datadoghq.eu. The Secret holds datadog_api_key and datadog_application_key.
func New(transports *outbound.Transports, clock clock.PassiveClock) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		window, err := cfg.Window(clock)
		if err != nil {
			return nil, err
		}
		keys, err := cfg.Keys("datadog_api_key", "datadog_application_key")
		if err != nil {
			return nil, err
		}
		client, err := httpapi.Build(transports, cfg, httpapi.Options{
			Name:      "Datadog",
			Default:   "https://api.datadoghq.com",
			Authorize: httpapi.Header("DD-API-KEY", keys[0], "DD-APPLICATION-KEY", keys[1]),
			Secrets:   keys,
		})
		if err != nil {
			return nil, err
		}
		return &Client{http: client, window: window}, nil
	}
}

// answer is that of /api/v1/query. A query with a mistake is answered with status 200 and an error.
type answer struct {
	Error  string   `json:"error"`
	Series []series `json:"series"`
}

type series struct {
	// Interval is the length of a bucket, in seconds.
	Interval float64 `json:"interval"`
	// Pointlist holds the start of a bucket, in milliseconds since 1970, and its value, oldest first.
	Pointlist [][]httpapi.Number `json:"pointlist"`
}

// Query returns the value of the newest complete bucket of the only series. Datadog chooses the length of buckets by the window. The
// bucket that is being filled says too little, and one that ended longer ago than an interval of the metric says nothing about now.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	from, now := c.window.Now()
	var a answer
	err := c.http.Get(ctx, "/api/v1/query", url.Values{
		"query": {strings.TrimSpace(query)},
		"from":  {strconv.FormatInt(from.Unix(), 10)},
		"to":    {strconv.FormatInt(now.Unix(), 10)},
	}, &a)
	switch {
	case err != nil:
		return 0, err
	case a.Error != "":
		return 0, fmt.Errorf("%w: Datadog: %.200s", provider.ErrInvalidQuery, a.Error)
	case len(a.Series) == 0:
		return 0, provider.ErrNoValues
	case len(a.Series) > 1:
		return 0, fmt.Errorf("%d series, remove by {…} or aggregate them: %w", len(a.Series), provider.ErrMultipleValues)
	}
	return c.newest(a.Series[0], now)
}

func (c *Client) newest(s series, now time.Time) (float64, error) {
	bucket := time.Duration(s.Interval * float64(time.Second))
	oldest := now.Add(-max(c.window.Period, bucket))
	for i := len(s.Pointlist) - 1; i >= 0; i-- {
		point := s.Pointlist[i]
		if len(point) != 2 {
			return 0, c.http.NotUnderstood(fmt.Errorf("a point has %d elements instead of 2", len(point)))
		}
		start, err := point[0].Value()
		if err != nil {
			return 0, c.http.NotUnderstood(errors.New("a point has no time"))
		}
		end := time.UnixMilli(int64(start)).Add(bucket)
		if end.Before(oldest) {
			break
		}
		if value, err := point[1].Value(); err == nil && !end.After(now) {
			return value, nil
		}
	}
	return 0, provider.ErrNoValues
}

// Online has both keys validated.
func (c *Client) Online(ctx context.Context) error {
	return c.http.Get(ctx, "/api/v1/validate", nil, &struct{}{})
}
