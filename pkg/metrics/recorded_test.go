package metrics

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/conformance"
)

// testdata/series holds what gateways really exported of rollouts of podinfo, in a namespace for each: the counters, which began at
// 0 (RECORD=folder make e2e-contour writes them). Those of Istio are what its proxies in the testbed count, under the labels of Istio.
// queries.json beside it has the built-in queries for these Canaries, which the tests of the testbed run
// in the query engine of Prometheus.
func TestQueriesOfRecordedSeries(t *testing.T) {
	type queries struct{ SuccessRate, Duration string }
	got := map[string]map[string]queries{}
	for _, gateway := range []string{"contour", "istio", "skipper", "traefik"} {
		got[gateway] = map[string]queries{}
		o := observers()[gateway]()
		for _, namespace := range []string{"bad-canary", "slow-canary", "bad-primary", "slow-primary"} {
			c := canary(func(c *v1beta1.Canary) {
				c.Name, c.Namespace, c.Spec.IngressRef = "podinfo", namespace, &v1beta1.LocalObjectReference{Name: "edge"}
			})
			rendered := func(text string) string {
				query, err := render(text, builtInFunctions(NewVars(c, v1beta1.CanaryMetric{Interval: "1m"})))
				if err != nil {
					t.Fatal(err)
				}
				return query
			}
			got[gateway][namespace] = queries{rendered(o.successRate()), rendered(o.latency)}
		}
	}
	file := filepath.Join("testdata", "series", "queries.json")
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(got); err != nil {
		t.Fatal(err)
	}
	if conformance.Update() {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("run this test with -update, and those of the testbed:\n%s", diff)
	}
}
