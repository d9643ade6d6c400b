package metrics

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A template that is missing was a passed check once; the fix then failed inline queries. Neither must be.
func TestIncidentB9_MissingTemplateIsNoPass(t *testing.T) {
	server := newPromServer(t, map[string]string{"inline": "1"})
	s := store{templates: map[string]*v1beta1.MetricTemplate{}}
	e := s.evaluator(server.URL)
	inline := v1beta1.CanaryMetric{Name: "mine", Query: "inline", Threshold: 5}
	missing := v1beta1.CanaryMetric{Name: "errors", TemplateRef: ref("", "errors"), Threshold: 5}
	judge := func(metrics ...v1beta1.CanaryMetric) analysis.Verdict {
		return analysis.Evaluate(analysis.Check{ID: analysis.ID{Name: "podinfo", Namespace: "test", Target: "podinfo"}}, e.Read(t.Context(), withMetrics(metrics...)))
	}
	if got := judge(inline); got.Outcome != analysis.Pass {
		t.Errorf("an inline query alone: %s %q", got.Outcome, got.Message)
	}
	got := judge(inline, missing)
	if got.Outcome != analysis.Error || !strings.Contains(got.Message, "Metric template errors.test error") {
		t.Errorf("with a template that is missing: %s %q", got.Outcome, got.Message)
	}
	s.templates["test/errors"] = metricTemplate("test", "errors", server.URL, "inline")
	if got := judge(inline, missing); got.Outcome != analysis.Pass {
		t.Errorf("with the template: %s %q", got.Outcome, got.Message)
	}
}

type labels = map[string]string

// sides are the series that a mesh or ingress has for the canary, and for the primary beside it.
var sides = map[string]struct{ canary, primary labels }{
	"istio": {
		labels{"reporter": "destination", "destination_workload_namespace": "test", "destination_workload": "podinfo"},
		labels{"destination_workload": "podinfo-primary"},
	},
	"linkerd": {labels{"namespace": "test", "deployment": "podinfo", "direction": "inbound"}, labels{"deployment": "podinfo-primary"}},
	"appmesh": {
		labels{"kubernetes_namespace": "test", "kubernetes_pod_name": "podinfo-7d9f8c6b5-x2x4z"},
		labels{"kubernetes_pod_name": "podinfo-primary-5c8f7d9b6-q8w2e"},
	},
	"http": {
		labels{"kubernetes_namespace": "test", "kubernetes_pod_name": "podinfo-7d9f8c6b5-x2x4z"},
		labels{"kubernetes_pod_name": "podinfo-primary-5c8f7d9b6-q8w2e"},
	},
	"contour": {labels{"envoy_cluster_name": "test_podinfo-canary_9898"}, labels{"envoy_cluster_name": "test_podinfo-primary_9898"}},
	"gloo": {
		labels{"envoy_cluster_name": "test-podinfo-canaryupstream-9898_gloo-system"},
		labels{"envoy_cluster_name": "test-podinfo-primaryupstream-9898_gloo-system"},
	},
	"kuma":    {labels{"service": "podinfo-canary_test_svc_9898"}, labels{"service": "podinfo-primary_test_svc_9898"}},
	"knative": {labels{"envoy_cluster_name": "test/podinfo-00002"}, labels{"envoy_cluster_name": "test/podinfo-00001"}},
	"osm": {
		labels{"destination_namespace": "test", "destination_kind": "Deployment", "destination_name": "podinfo"},
		labels{"destination_name": "podinfo-primary"},
	},
	"nginx": {labels{"namespace": "test", "ingress": "podinfo", "canary": "test-podinfo-canary-9898"}, labels{"canary": ""}},
	"skipper": {
		labels{"route": "kube_test__podinfo_canary__app_example_com____podinfo_canary", "le": "+Inf"},
		labels{"route": "kube_test__podinfo__app_example_com____podinfo_primary"},
	},
	"traefik": {
		labels{"service": "test-podinfo-canary-9898@kubernetescrd", "le": "+Inf"},
		labels{"service": "test-podinfo-primary-9898@kubernetescrd"},
	},
	"apisix": {
		labels{"route": "test_podinfo-podinfo-canary_method", "type": "request"},
		labels{"route": "test_podinfo_method"},
	},
}

// A query that counts the primary's requests as well shows a bad canary as a good one: at a weight of one percent, 99 of 100
// of them are the primary's.
func TestIncidentB25_BuiltInQueriesSeeTheCanaryAlone(t *testing.T) {
	c := canary(nil)
	c.Name = "podinfo"
	for name, observed := range observers() {
		o := observed()
		t.Run(name, func(t *testing.T) {
			side, ok := sides[name]
			if !ok {
				t.Fatal("say what its series look like")
			}
			primary := maps.Clone(side.canary)
			maps.Copy(primary, side.primary)
			vars := NewVars(c, v1beta1.CanaryMetric{})
			if name == "knative" {
				vars.Route = "podinfo-00002"
			}
			for _, text := range []string{o.successRate(), o.latency} {
				query, err := render(text, builtInFunctions(vars))
				if err != nil {
					t.Fatal(err)
				}
				if !selects(t, query, side.canary) {
					t.Errorf("does not see the canary: %s", query)
				}
				if selects(t, query, primary) {
					t.Errorf("sees the primary: %s", query)
				}
			}
		})
	}
}

var (
	selector = regexp.MustCompile(`\{([^{}]*)\}`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
)

// selects is whether any of the selectors in a query takes a series with these labels, for the answers that are good.
func selects(t *testing.T, query string, series labels) bool {
	t.Helper()
	selectors := selector.FindAllStringSubmatch(query, -1)
	if len(selectors) == 0 {
		t.Fatalf("no selector in %s", query)
	}
	return slices.ContainsFunc(selectors, func(s []string) bool {
		for _, m := range matcher.FindAllStringSubmatch(s[1], -1) {
			value := series[m[1]]
			equal := value == m[3]
			if strings.HasSuffix(m[2], "~") {
				equal = regexp.MustCompile("^(?:" + m[3] + ")$").MatchString(value)
			}
			if equal != strings.HasPrefix(m[2], "=") {
				return false
			}
		}
		return true
	})
}
