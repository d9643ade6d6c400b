// Package queries runs the built-in queries of the operator, in the query engine of Prometheus itself, on series that gateways and
// meshes have really exported.
package queries

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
)

// recorded is where the tests of the operator keep the series, and the queries for a Canary in each namespace of them.
var recorded = filepath.Join("..", "..", "..", "..", "..", "pkg", "metrics", "testdata", "series")

type queries struct{ SuccessRate, Duration string }

// Of what the analyses have met, errors of the canary are seen always, and those of the primary never; so it is with slow answers.
func TestErrorsOfTheCanaryAlone(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(recorded, "queries.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]queries{}
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for gateway, namespaces := range all {
		t.Run(gateway, func(t *testing.T) {
			ask := load(t, filepath.Join(recorded, gateway+".txt"))
			for namespace, q := range namespaces {
				success, duration := ask(q.SuccessRate), ask(q.Duration)
				t.Logf("%s: %.2f %%, %.0f ms", namespace, success, duration)
				if failing := success < 99; failing != (namespace == "bad-canary") || !failing && success != 100 {
					t.Errorf("%s: success rate %v", namespace, success)
				}
				if slow := duration > 2000; slow != (namespace == "slow-canary") || math.IsNaN(duration) {
					t.Errorf("%s: duration %v ms", namespace, duration)
				}
			}
		})
	}
}

// load fills an engine with counters that grew from 0 within the last half minute, and returns what answers queries.
func load(t *testing.T, path string) func(string) float64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var text strings.Builder
	text.WriteString("load 30s\n")
	for lines := bufio.NewScanner(file); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), "} ")
		text.WriteString("  " + series + "} 0 0 " + value + "\n")
	}
	storage := promqltest.LoadedStorage(t, text.String())
	t.Cleanup(func() { _ = storage.Close() })
	engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
	return func(query string) float64 {
		t.Helper()
		asked, err := engine.NewInstantQuery(t.Context(), storage, nil, query, time.Unix(60, 0))
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		defer asked.Close()
		result, err := asked.Exec(t.Context()).Vector()
		if err != nil || len(result) != 1 {
			t.Fatalf("%s: %v, %v", query, result, err)
		}
		return result[0].F
	}
}
