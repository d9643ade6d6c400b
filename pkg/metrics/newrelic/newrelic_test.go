package newrelic

import (
	"encoding/json"
	"testing"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

const query = "SELECT filter(count(*), WHERE httpResponseCode >= '500') / count(*) * 100 FROM Transaction"

func backend() *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "New Relic", Query: query, Strings: true,
		New:         func(t *outbound.Transports, _ clock.Clock) provider.Factory { return New(t) },
		Credentials: map[string]string{accountKey: "4711", queryKey: "NRIQ-secret"}, Public: []string{accountKey},
	}
}

func TestInsights(t *testing.T) {
	b := backend()
	b.Value = func(json string) string { return `{"results":[{"result":` + json + `}],"metadata":{}}` }
	b.Empty = map[string]string{"no results": `{"results":[]}`, "no value": `{"results":[{}]}`, "empty percentile": `{"results":[{"percentiles":{}}]}`}
	b.Answers = map[string]conformance.Answer{
		"named after its function": {Body: `{"results":[{"average":1.5}]}`, Value: 1.5},
		"percentile":               {Body: `{"results":[{"percentiles":{"95":230.5}}]}`, Value: 230.5},
		"two percentiles":          {Body: `{"results":[{"percentiles":{"95":1,"99":2}}]}`, Is: provider.ErrMultipleValues},
		"two functions":            {Body: `{"results":[{"average":1},{"count":2}]}`, Is: provider.ErrMultipleValues},
	}
	conformance.Run(t, b)
}

func TestNerdGraph(t *testing.T) {
	b := backend()
	b.Credentials = map[string]string{accountKey: "4711", userKey: "NRAK-secret"}
	answer := func(results string) string {
		return `{"data":{"actor":{"account":{"nrql":{"results":` + results + `}}}}}`
	}
	b.Value = func(json string) string { return answer(`[{"result":` + json + `}]`) }
	b.Empty = map[string]string{"no results": answer(`[]`), "no account": `{"data":{"actor":{"account":null}}}`}
	b.Answers = map[string]conformance.Answer{
		"percentile": {Body: answer(`[{"percentile.duration":{"95":0.25}}]`), Value: 0.25},
		"facets":     {Body: answer(`[{"count":1},{"count":2}]`), Is: provider.ErrMultipleValues},
		"an error":   {Body: `{"errors":[{"message":"NRQL Syntax Error: unexpected 'SELCT'"}]}`, Is: provider.ErrInvalidQuery, Says: "SELCT"},
	}
	conformance.Run(t, b)
}

func TestRequests(t *testing.T) {
	b := backend()
	server := conformance.Serve(t, conformance.Always(200, `{"results":[{"result":1}]}`))
	if _, err := b.Provider(t, b.Config(server.URL+"/eu/"), &conformance.Clock{}).Query(t.Context(), "\n"+query+"\n"); err != nil {
		t.Fatal(err)
	}
	b.Credentials = map[string]string{accountKey: "4711", userKey: "NRAK-secret"}
	graph := conformance.Serve(t, conformance.Always(200, `{"data":{"actor":{"account":{"nrql":{"results":[{"result":1}]}}}}}`))
	if _, err := b.Provider(t, b.Config(graph.URL), &conformance.Clock{}).Query(t.Context(), query); err != nil {
		t.Fatal(err)
	}
	requests, _ := server.Requests()
	r := requests[0]
	if r.URL.Path != "/eu/v1/accounts/4711/query" || r.URL.Query().Get("nrql") != query+" SINCE 60 seconds ago" || r.Header.Get("X-Query-Key") != "NRIQ-secret" {
		t.Errorf("got %s %v", r.URL, r.Header)
	}
	requests, bodies := graph.Requests()
	var body struct {
		Variables struct {
			Account int
			NRQL    string
		}
	}
	if err := json.Unmarshal([]byte(bodies[0]), &body); err != nil {
		t.Fatal(err)
	}
	if r := requests[0]; r.URL.Path != "/graphql" || r.Header.Get("API-Key") != "NRAK-secret" || body.Variables.Account != 4711 || body.Variables.NRQL != query+" SINCE 60 seconds ago" {
		t.Errorf("got %s %v %s", r.URL, r.Header, bodies[0])
	}
}
