// Package dynatrace asks Dynatrace for the value of a metric selector.
package dynatrace

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "dynatrace"

// Client is a provider.Provider for one environment.
type Client struct {
	http   *httpapi.Client
	window provider.Window
}

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. The address is that of the environment, such as https://xxxxxxxx.live.dynatrace.com, and the Secret holds
// dynatrace_token, an access token that may read metrics.
func New(transports *outbound.Transports, clock clock.PassiveClock) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		window, err := cfg.Window(clock)
		if err != nil {
			return nil, err
		}
		keys, err := cfg.Keys("dynatrace_token")
		if err != nil {
			return nil, err
		}
		client, err := httpapi.Build(transports, cfg, httpapi.Options{
			Name:      "Dynatrace",
			Example:   "https://xxxxxxxx.live.dynatrace.com",
			Authorize: httpapi.Header("Authorization", "Api-Token "+keys[0]),
			Secrets:   keys,
		})
		if err != nil {
			return nil, err
		}
		return &Client{http: client, window: window}, nil
	}
}

type answer struct {
	Result []struct {
		Data []struct {
			Values []httpapi.Number `json:"values"`
		} `json:"data"`
	} `json:"result"`
}

// Query sends a metric selector of the Metrics API v2, for the last ten intervals as one point, and returns the value of the last
// series.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	if isDQL(query) {
		return 0, fmt.Errorf("%w: it looks like DQL, and Dynatrace is asked by metric selectors, such as builtin:service.errors.total.rate",
			provider.ErrInvalidQuery)
	}
	from, to := c.window.Now()
	from, to = from.Round(time.Second), to.Round(time.Second)
	var a answer
	err := c.http.Get(ctx, "/api/v2/metrics/query", url.Values{
		"metricSelector": {strings.TrimSpace(query)},
		"resolution":     {"Inf"},
		"from":           {strconv.FormatInt(from.UnixMilli(), 10)},
		"to":             {strconv.FormatInt(to.UnixMilli(), 10)},
	}, &a)
	if err != nil {
		return 0, err
	}
	if len(a.Result) == 0 || len(a.Result[0].Data) == 0 {
		return 0, provider.ErrNoValues
	}
	last := a.Result[0].Data[len(a.Result[0].Data)-1].Values
	if len(last) == 0 {
		return 0, provider.ErrNoValues
	}
	return last[0].Value()
}

// isDQL tells queries of the newer language, which begin with a command and its arguments. A selector begins with the key of a metric
// or a parenthesis.
var isDQL = regexp.MustCompile(`^\s*(fetch|timeseries|data|metrics|smartscapeNodes)\s+\w`).MatchString

// Online lists one metric.
func (c *Client) Online(ctx context.Context) error {
	return c.http.Get(ctx, "/api/v2/metrics", url.Values{"pageSize": {"1"}}, &struct{}{})
}
