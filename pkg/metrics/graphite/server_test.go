package graphite

import (
	"errors"
	"os"
	"testing"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
)

// The server is Graphite itself, with the series that hack/backends/serve_graphite.py gives it.
func TestRealServer(t *testing.T) {
	address := os.Getenv("GRAPHITE_URL")
	if address == "" {
		t.Skip("make test-backends runs this against Graphite")
	}
	b := backend()
	p := b.Provider(t, b.Config(address), &conformance.Clock{})
	if err := p.Online(t.Context()); err != nil {
		t.Errorf("online: %v", err)
	}
	for name, tc := range map[string]struct {
		query string
		want  conformance.Answer
	}{
		"a series":            {"target=app.errors&from=-2min", conformance.Answer{Value: 7}},
		"in several lines":    {"target=\n  divideSeries(\n    app.errors, app.requests)\n&from=-2min", conformance.Answer{Value: 0.07}},
		"a glob":              {"target=sumSeries(app.*)&from=-2min", conformance.Answer{Value: 107}},
		"nothing but nulls":   {"target=app.silent&from=-2min", conformance.Answer{Is: provider.ErrNoValues}},
		"no series":           {"target=app.gone&from=-2min", conformance.Answer{Is: provider.ErrNoValues}},
		"before the first":    {"target=app.errors&from=-30min&until=-20min", conformance.Answer{Is: provider.ErrNoValues}},
		"an unknown function": {"target=noSuch(app.errors)", conformance.Answer{Is: provider.ErrInvalidQuery, Says: "unknown function: noSuch"}},
	} {
		value, err := p.Query(t.Context(), tc.query)
		if tc.want.Says != "" && (err == nil || errors.Is(err, provider.ErrNoValues)) {
			t.Errorf("%s: got %v, %v", name, value, err)
			continue
		}
		t.Run(name, func(t *testing.T) { conformance.Expect(t, tc.want, value, err) })
	}
}
