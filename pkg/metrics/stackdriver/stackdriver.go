// Package stackdriver asks Google Cloud Monitoring for the newest value of a query in MQL or PromQL.
//
// It speaks the REST form of the API. The client of Google speaks gRPC alone and would add that, and a few dozen modules, to the
// operator for one call.
package stackdriver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"

	"flagger.app/flagger/pkg/metrics/googletoken"
	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/promapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "stackdriver"

// endpoint is the address of the API.
const endpoint = "https://monitoring.googleapis.com"

// Client is a provider.Provider for one project.
type Client struct {
	connect func(context.Context) (*connection, error)
}

// connection is a client with credentials, and the project that its queries are about.
type connection struct {
	*httpapi.Client
	project string
}

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. The address of a template is ignored. The Secret holds project and, if it is not the identity of the
// operator that may read the metrics, serviceAccountKey, the JSON of a key. Without a Secret the project is that of the credentials.
func New(transports *outbound.Transports) provider.Factory {
	return newFactory(transports, func(provider.Config) string { return endpoint })
}

func newFactory(transports *outbound.Transports, endpoint func(provider.Config) string) provider.Factory {
	c := &connector{accounts: googletoken.New(transports), transports: transports}
	return func(cfg provider.Config) (provider.Provider, error) {
		var project string
		if cfg.Spec.SecretRef != nil {
			keys, err := cfg.Keys("project")
			if err != nil {
				return nil, err
			}
			project = keys[0]
		}
		key := cfg.Credentials["serviceAccountKey"]
		if err := googletoken.Check(key); err != nil {
			return nil, fmt.Errorf("key serviceAccountKey of the Secret: %w", err)
		}
		cfg.Spec.Address = endpoint(cfg)
		return &Client{connect: func(ctx context.Context) (*connection, error) {
			return c.connect(ctx, cfg, key, project)
		}}, nil
	}
}

type connector struct {
	accounts   *googletoken.Accounts
	transports *outbound.Transports
}

func (c *connector) connect(ctx context.Context, cfg provider.Config, key []byte, project string) (*connection, error) {
	token, own, err := c.accounts.Token(ctx, key)
	if err != nil {
		return nil, err
	}
	if project = cmp.Or(project, own); project == "" {
		return nil, errors.New("the project is unknown: set provider.secretRef to a Secret with the key project")
	}
	client, err := httpapi.Build(c.transports, cfg, httpapi.Options{
		Name:      "Google Cloud Monitoring",
		Example:   endpoint,
		Authorize: httpapi.Header("Authorization", token.Type()+" "+token.AccessToken),
		Secrets:   []string{token.AccessToken},
	})
	return &connection{Client: client, project: project}, err
}

// isMQL tells the two languages apart: in MQL a query begins with fetch, or with definitions or braces before that.
var isMQL = regexp.MustCompile(`^\s*(def\s|\{?\s*fetch\b)`).MatchString

// Query returns the first value of the newest point of the first series in MQL, and the value of the only series in PromQL.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return 0, err
	}
	if isMQL(query) {
		return conn.mql(ctx, query)
	}
	return conn.promQL(ctx, query)
}

// Online sends an empty query. That this is found to be a mistake shows that the credentials were accepted.
func (c *Client) Online(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err == nil {
		_, err = conn.mql(ctx, "")
	}
	if isMistake(err) || errors.Is(err, provider.ErrNoValues) {
		return nil
	}
	return err
}

// mqlAnswer is that of projects.timeSeries.query,
// https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/query.
type mqlAnswer struct {
	TimeSeriesData []struct {
		PointData []struct {
			Values []struct {
				// An int64 comes as text.
				DoubleValue, Int64Value httpapi.Number
				DistributionValue       any
			}
		}
	}
}

func (c *connection) mql(ctx context.Context, query string) (float64, error) {
	var a mqlAnswer
	err := c.Post(ctx, "/v3/projects/"+url.PathEscape(c.project)+"/timeSeries:query", map[string]string{"query": query}, &a)
	if err != nil {
		return 0, explain(err)
	}
	if len(a.TimeSeriesData) == 0 || len(a.TimeSeriesData[0].PointData) == 0 || len(a.TimeSeriesData[0].PointData[0].Values) == 0 {
		return 0, provider.ErrNoValues
	}
	value := a.TimeSeriesData[0].PointData[0].Values[0]
	if value.DistributionValue != nil {
		return 0, fmt.Errorf("%w: it returns a distribution, take a percentile of it", provider.ErrInvalidQuery)
	}
	if number, err := value.Int64Value.Value(); err == nil {
		return number, nil
	}
	return value.DoubleValue.Value()
}

func (c *connection) promQL(ctx context.Context, query string) (float64, error) {
	path := "/v1/projects/" + url.PathEscape(c.project) + "/location/global/prometheus/api/v1/query"
	value, series, err := promapi.Query(ctx, c.Client, path, query)
	if series > 1 {
		return 0, fmt.Errorf("%d series, aggregate them: %w", series, provider.ErrMultipleValues)
	}
	return value, err
}
