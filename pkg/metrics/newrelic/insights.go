package newrelic

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

func newInsights(transports *outbound.Transports, cfg provider.Config, period time.Duration) (*Client, error) {
	keys, err := cfg.Keys(accountKey, queryKey)
	if err != nil {
		return nil, fmt.Errorf("%w (or %s instead of %s, for NerdGraph)", err, userKey, queryKey)
	}
	client, err := httpapi.Build(transports, cfg, httpapi.Options{
		Name:      "New Relic",
		Default:   "https://insights-api.newrelic.com",
		Authorize: httpapi.Header("X-Query-Key", keys[1]),
		Secrets:   keys[1:],
	})
	if err != nil {
		return nil, err
	}
	path := "/v1/accounts/" + url.PathEscape(keys[0]) + "/query"
	return &Client{http: client, period: period, send: func(ctx context.Context, nrql string) ([]map[string]json.RawMessage, error) {
		var answer struct {
			Results []map[string]json.RawMessage `json:"results"`
		}
		err := client.Get(ctx, path, url.Values{"nrql": {nrql}}, &answer)
		return answer.Results, err
	}}, nil
}
