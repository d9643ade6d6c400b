package metrics

import (
	"strings"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Metrics bug 25: names that are made from the Service were looked for under the name of the target.
func Test25_GeneratedNamesFollowTheService(t *testing.T) {
	c := canary(func(c *v1beta1.Canary) { c.Spec.Service.Name = "frontend" })
	for _, name := range []string{"gloo", "traefik", "kuma", "apisix", "contour", "skipper"} {
		o := observers()[name]()
		for _, text := range []string{o.successRate(), o.latency} {
			query, err := render(text, builtInFunctions(NewVars(c, v1beta1.CanaryMetric{})))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !strings.Contains(query, "frontend") || strings.Contains(query, c.Spec.TargetRef.Name+"-canary") {
				t.Errorf("%s looks for %s", name, query)
			}
		}
	}
}
