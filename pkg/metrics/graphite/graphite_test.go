package graphite

import (
	"testing"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

func backend() *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "Graphite", Query: "target=app.count&from=-5min", Strings: true, SkipsVerify: true, Optional: true,
		New:         func(t *outbound.Transports, _ clock.Clock) provider.Factory { return New(t) },
		Credentials: map[string]string{"username": "team-a", "password": "hunter2"},
		Value: func(json string) string {
			return `[{"target":"a","datapoints":[[1,1700000000],[` + json + `,1700000060]]}]`
		},
		Empty: map[string]string{
			"no series": `[]`, "no points": `[{"target":"a","datapoints":[]}]`, "null only": `[{"target":"a","datapoints":[[null,1],[null,2]]}]`,
		},
		Answers: map[string]conformance.Answer{
			"null":           {Body: `[{"target":"a","datapoints":[[null,1]]}]`, Is: provider.ErrNoValues},
			"NaN":            {Body: `[{"target":"a","datapoints":[["NaN",1]]}]`, Is: provider.ErrNoValues},
			"infinity":       {Body: `[{"target":"a","datapoints":[["-Inf",1]]}]`, Is: provider.ErrNoValues},
			"null at last":   {Body: `[{"target":"a","datapoints":[[5,1],[null,2]]}]`, Value: 5},
			"several series": {Body: `[{"target":"a","datapoints":[[5,1]]},{"target":"b","datapoints":[[6,1],[7,2]]},{"target":"c","datapoints":[[null,1]]}]`, Value: 7},
			"a short point":  {Body: `[{"target":"a","datapoints":[[5]]}]`, Says: "elements"},
		},
	}
}

func TestConformance(t *testing.T) { conformance.Run(t, backend()) }

// The query of several lines is the sample of the documentation of Flagger.
func TestRequest(t *testing.T) {
	b := backend()
	server := conformance.Serve(t, conformance.Always(200, b.Value("1")))
	p := b.Provider(t, b.Config(server.URL+"/graphite"), &conformance.Clock{})
	query := "\n  target=summarize(\n    asPercent(\n      sumSeries(stats.*.http.{4,5}xx),\n      sumSeries(stats.*.http.*)\n    ),\n    '5min',\n    'avg'\n  )&from=-10min&format=png\n"
	if _, err := p.Query(t.Context(), query); err != nil {
		t.Fatal(err)
	}
	requests, _ := server.Requests()
	r := requests[0]
	user, password, _ := r.BasicAuth()
	want := "summarize( asPercent( sumSeries(stats.*.http.{4,5}xx), sumSeries(stats.*.http.*) ), '5min', 'avg' )"
	if q := r.URL.Query(); r.URL.Path != "/graphite/render" || q.Get("target") != want || q.Get("from") != "-10min" || q.Get("format") != "json" || len(q["format"]) != 1 {
		t.Errorf("got %s", r.URL)
	}
	if user != "team-a" || password != "hunter2" {
		t.Errorf("credentials %s %s", user, password)
	}
}

func TestInvalidQuery(t *testing.T) {
	b := backend()
	p := b.Provider(t, b.Config("http://127.0.0.1:1"), &conformance.Clock{})
	for _, query := range []string{"sum(app.count)", "target=a;b", "target=%zz"} {
		_, err := p.Query(t.Context(), query)
		conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery}, 0, err)
	}
}
