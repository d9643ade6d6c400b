// Package cloudwatch asks Amazon CloudWatch for the newest value of a query for metric data.
package cloudwatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "cloudwatch"

const (
	// maxDatapoints is how many values a query returns, as in Flagger.
	maxDatapoints = 20
	// action is what the operator must be allowed to do.
	action = "cloudwatch:GetMetricData"
)

// Client is a provider.Provider for one region.
type Client struct {
	api    func(context.Context) (*cloudwatch.Client, error)
	region string
	window provider.Window
}

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. Templates have a region and no address. Credentials are those that the AWS SDK finds by default: of the
// environment, of the service account of the operator, or of the node.
func New(clock clock.PassiveClock) provider.Factory {
	r := &regions{clients: map[string]*cloudwatch.Client{}}
	return func(cfg provider.Config) (provider.Provider, error) {
		if cfg.Spec.Region == "" {
			return nil, errors.New("region is empty: set provider.region to that of the metrics, for example eu-central-1")
		}
		window, err := cfg.Window(clock)
		if err != nil {
			return nil, err
		}
		client := func(ctx context.Context) (*cloudwatch.Client, error) { return r.client(ctx, cfg.Spec.Region) }
		return &Client{api: client, region: cfg.Spec.Region, window: window}, nil
	}
}

// regions keeps a client for each region, which keeps credentials until they expire.
type regions struct {
	mu      sync.Mutex
	clients map[string]*cloudwatch.Client
}

// client reads files and environment, and asks nobody for credentials yet.
func (r *regions) client(ctx context.Context, region string) (*cloudwatch.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if client := r.clients[region]; client != nil {
		return client, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithRetryMaxAttempts(3))
	if err != nil {
		return nil, fmt.Errorf("configuration of the AWS SDK: %w", err)
	}
	r.clients[region] = cloudwatch.NewFromConfig(cfg, func(o *cloudwatch.Options) { o.HTTPClient = limited{o.HTTPClient} })
	return r.clients[region], nil
}

// limited bounds the answers. The client below is that of the SDK, which users set up by its environment variables.
type limited struct{ cloudwatch.HTTPClient }

func (l limited) Do(req *http.Request) (*http.Response, error) {
	resp, err := l.HTTPClient.Do(req)
	if err == nil {
		outbound.Limit(resp)
	}
	return resp, err
}

// Query takes a JSON array of MetricDataQuery and returns the newest value of the first that returns data.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	var queries []types.MetricDataQuery
	if err := json.Unmarshal([]byte(query), &queries); err != nil {
		return 0, fmt.Errorf("%w: it is no JSON array of MetricDataQuery: %w", provider.ErrInvalidQuery, err)
	}
	from, now := c.window.Now()
	out, err := c.get(ctx, &cloudwatch.GetMetricDataInput{
		MetricDataQueries: queries,
		StartTime:         aws.Time(from),
		EndTime:           aws.Time(now),
		MaxDatapoints:     aws.Int32(maxDatapoints),
	})
	if err != nil {
		return 0, c.explain(ctx, err)
	}
	if len(out.MetricDataResults) == 0 || len(out.MetricDataResults[0].Values) == 0 {
		return 0, provider.ErrNoValues
	}
	return provider.Finite(out.MetricDataResults[0].Values[0])
}

// Online sends no query. That this is found to be a mistake shows that the credentials were accepted.
func (c *Client) Online(ctx context.Context) error {
	_, err := c.get(ctx, &cloudwatch.GetMetricDataInput{
		MetricDataQueries: []types.MetricDataQuery{}, StartTime: aws.Time(time.Unix(0, 0)), EndTime: aws.Time(time.Unix(0, 0)),
	})
	if err == nil || isMistake(err) {
		return nil
	}
	return c.explain(ctx, err)
}

func (c *Client) get(ctx context.Context, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	client, err := c.api(ctx)
	if err != nil {
		return nil, err
	}
	return client.GetMetricData(ctx, in)
}

// isMistake tells an error about the query.
func isMistake(err error) bool {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return false
	}
	code := e.ErrorCode()
	return strings.Contains(code, "Validation") || strings.Contains(code, "Parameter")
}

func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("CloudWatch in %s gave no answer in time: %w", c.region, ctx.Err())
	}
	var e smithy.APIError
	if !errors.As(err, &e) {
		return fmt.Errorf("CloudWatch in %s can't be asked: %w", c.region, err)
	}
	text := fmt.Sprintf("CloudWatch in %s: %s: %.200s", c.region, e.ErrorCode(), e.ErrorMessage())
	switch {
	case isMistake(err):
		return fmt.Errorf("%w: %s", provider.ErrInvalidQuery, text)
	case strings.HasPrefix(e.ErrorCode(), "AccessDenied"):
		return fmt.Errorf("%s: allow %s to the role of the operator", text, action)
	default:
		return errors.New(text)
	}
}
