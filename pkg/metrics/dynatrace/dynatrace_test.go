package dynatrace

import (
	"testing"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

const query = `builtin:service.errors.total.rate:filter(eq("dt.entity.service",SERVICE-1))`

func backend() *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "Dynatrace", Query: query, Strings: true,
		New:         func(t *outbound.Transports, c clock.Clock) provider.Factory { return New(t, c) },
		Credentials: map[string]string{"dynatrace_token": "dt0c01.secret"},
		Value: func(json string) string {
			return `{"totalCount":1,"result":[{"metricId":"m","data":[{"timestamps":[1],"values":[` + json + `]}]}]}`
		},
		Empty: map[string]string{
			"no result": `{"result":[]}`, "no data": `{"result":[{"data":[]}]}`, "no values": `{"result":[{"data":[{"values":[]}]}]}`,
		},
		Answers: map[string]conformance.Answer{
			"several series": {Body: `{"result":[{"data":[{"values":[1]},{"values":[2,3]}]}]}`, Value: 2},
		},
	}
}

func TestConformance(t *testing.T) { conformance.Run(t, backend()) }

func TestRequest(t *testing.T) {
	b := backend()
	server := conformance.Serve(t, conformance.Always(200, b.Value("1")))
	p := b.Provider(t, b.Config(server.URL), &conformance.Clock{})
	if _, err := p.Query(t.Context(), "  "+query+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Online(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests, _ := server.Requests()
	r, q := requests[0], requests[0].URL.Query()
	if r.URL.Path != "/api/v2/metrics/query" || q.Get("metricSelector") != query || q.Get("resolution") != "Inf" || r.Header.Get("Authorization") != "Api-Token dt0c01.secret" {
		t.Errorf("got %s %v", r.URL, r.Header)
	}
	// 12:00:00.5 is rounded to a second.
	if q.Get("from") != "1795953001000" || q.Get("to") != "1795953601000" {
		t.Errorf("from %s to %s", q.Get("from"), q.Get("to"))
	}
	if online := requests[1].URL; online.Path != "/api/v2/metrics" || online.RawQuery != "pageSize=1" {
		t.Errorf("online asks %s", online)
	}
}

func TestDQLIsTold(t *testing.T) {
	b := backend()
	p := b.Provider(t, b.Config("http://127.0.0.1:1"), &conformance.Clock{})
	for _, query := range []string{"timeseries avg(dt.host.cpu.usage)", "\nfetch logs | summarize count()"} {
		_, err := p.Query(t.Context(), query)
		conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery, Says: "DQL"}, 0, err)
	}
}
