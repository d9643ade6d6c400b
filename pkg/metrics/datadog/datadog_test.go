package datadog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// points makes buckets of 20 seconds, by how many seconds ago they began.
func points(pairs ...any) string {
	var list []string
	for i := 0; i+1 < len(pairs); i += 2 {
		start := conformance.Now().Add(-time.Duration(pairs[i].(int)) * time.Second)
		list = append(list, fmt.Sprintf("[%d.0,%v]", start.UnixMilli(), pairs[i+1]))
	}
	return `{"status":"ok","series":[{"interval":20,"pointlist":[` + strings.Join(list, ",") + `]}]}`
}

func backend() *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "Datadog", Query: "sum:requests.errors{service:app}.as_count()", Strings: true,
		New:         func(t *outbound.Transports, c clock.Clock) provider.Factory { return New(t, c) },
		Credentials: map[string]string{"datadog_api_key": "api-secret", "datadog_application_key": "app-secret"},
		Value:       func(json string) string { return points(45, 1, 25, json) },
		Empty: map[string]string{
			"no series": `{"status":"ok","series":[]}`, "no points": points(), "old points alone": points(580, 5, 100, 6),
			"only the bucket that is being filled": points(10, 5),
		},
		Answers: map[string]conformance.Answer{
			"null":                       {Body: points(580, 3, 25, "null"), Is: provider.ErrNoValues},
			"NaN":                        {Body: points(25, `"NaN"`), Is: provider.ErrNoValues},
			"infinity":                   {Body: points(25, `"Inf"`), Is: provider.ErrNoValues},
			"null in the newest":         {Body: points(45, 8, 25, "null"), Value: 8},
			"the newest complete bucket": {Body: points(580, 1, 65, 1, 45, 2, 25, 20, 5, 0.1), Value: 20},
			"several series":             {Body: `{"series":[{"pointlist":[]},{"pointlist":[]}]}`, Is: provider.ErrMultipleValues},
			"a mistake":                  {Body: `{"status":"error","error":"Error parsing query: unable to parse sum:("}`, Is: provider.ErrInvalidQuery, Says: "unable to parse"},
			"a short point":              {Body: `{"series":[{"interval":20,"pointlist":[[5]]}]}`, Says: "elements"},
			"a point without time":       {Body: `{"series":[{"interval":20,"pointlist":[[null,5]]}]}`, Says: "no time"},
		},
	}
}

func TestConformance(t *testing.T) { conformance.Run(t, backend()) }

// Buckets may be longer than the interval of the metric: the last complete one counts nevertheless.
func TestLongBuckets(t *testing.T) {
	b := backend()
	body := strings.Replace(points(500, 1, 450, 2, 150, 3), `"interval":20`, `"interval":300`, 1)
	server := conformance.Serve(t, conformance.Always(200, body))
	value, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), b.Query)
	conformance.Expect(t, conformance.Answer{Value: 2}, value, err)
}

func TestRequest(t *testing.T) {
	b := backend()
	server := conformance.Serve(t, conformance.Always(200, b.Value("1")))
	p := b.Provider(t, b.Config(server.URL), &conformance.Clock{})
	if _, err := p.Query(t.Context(), "\n"+b.Query+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Online(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests, _ := server.Requests()
	for i, path := range []string{"/api/v1/query", "/api/v1/validate"} {
		if r := requests[i]; r.URL.Path != path || r.Header.Get("DD-API-KEY") != "api-secret" || r.Header.Get("DD-APPLICATION-KEY") != "app-secret" {
			t.Errorf("got %s %v", r.URL, r.Header)
		}
	}
	if q := requests[0].URL.Query(); q.Get("query") != b.Query || q.Get("from") != "1795953000" || q.Get("to") != "1795953600" {
		t.Errorf("got %v", q)
	}
}
