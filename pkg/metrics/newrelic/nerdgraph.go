package newrelic

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// graphQL asks for the results of a query of one account, with both as variables.
const graphQL = `query($account: Int!, $nrql: Nrql!) { actor { account(id: $account) { nrql(query: $nrql) { results } } } }`

// nerdGraphAnswer is the part of an answer of GraphQL that is used. Errors come with status 200.
type nerdGraphAnswer struct {
	Data struct {
		Actor struct {
			Account *struct {
				NRQL *struct {
					Results []map[string]json.RawMessage `json:"results"`
				} `json:"nrql"`
			} `json:"account"`
		} `json:"actor"`
	} `json:"data"`
	Errors []struct {
		Message string `json:"message"`
	} `json:"errors"`
}

func newNerdGraph(transports *outbound.Transports, cfg provider.Config, period time.Duration) (*Client, error) {
	keys, err := cfg.Keys(accountKey, userKey)
	if err != nil {
		return nil, err
	}
	account, err := strconv.Atoi(keys[0])
	if err != nil {
		return nil, fmt.Errorf("key %s of secret %s is not a number: set it to the ID of the account", accountKey, cfg.Spec.SecretRef.Name)
	}
	client, err := httpapi.Build(transports, cfg, httpapi.Options{
		Name:      "New Relic",
		Default:   "https://api.newrelic.com",
		Authorize: httpapi.Header("API-Key", keys[1]),
		Secrets:   keys[1:],
	})
	if err != nil {
		return nil, err
	}
	return &Client{http: client, period: period, send: func(ctx context.Context, nrql string) ([]map[string]json.RawMessage, error) {
		var answer nerdGraphAnswer
		request := map[string]any{"query": graphQL, "variables": map[string]any{"account": account, "nrql": nrql}}
		if err := client.Post(ctx, "/graphql", request, &answer); err != nil {
			return nil, err
		}
		return answer.results()
	}}, nil
}

func (a *nerdGraphAnswer) results() ([]map[string]json.RawMessage, error) {
	if len(a.Errors) > 0 {
		texts := make([]string, len(a.Errors))
		for i, e := range a.Errors {
			texts[i] = e.Message
		}
		return nil, fmt.Errorf("%w: New Relic: %.200s", provider.ErrInvalidQuery, strings.Join(texts, "; "))
	}
	if a.Data.Actor.Account == nil || a.Data.Actor.Account.NRQL == nil {
		return nil, nil
	}
	return a.Data.Actor.Account.NRQL.Results, nil
}
