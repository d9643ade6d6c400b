package metrics

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/conformance"
)

func canary(change func(*v1beta1.Canary)) *v1beta1.Canary {
	c := &v1beta1.Canary{}
	c.Name, c.Namespace = "podinfo-canary", "test"
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"}
	c.Spec.Analysis = &v1beta1.CanaryAnalysis{}
	if change != nil {
		change(c)
	}
	return c
}

// The queries of every observer, rendered, are compared with a golden file that was checked by hand against the contract.
func TestBuiltInQueries(t *testing.T) {
	c := canary(func(c *v1beta1.Canary) {
		c.Spec.IngressRef = &v1beta1.LocalObjectReference{Name: "my-ingress"}
		c.Spec.RouteRef = &v1beta1.LocalObjectReference{Name: "my-route"}
		c.Spec.Service.Name = "my.svc"
	})
	vars := NewVars(c, v1beta1.CanaryMetric{})
	type queries struct{ SuccessRate, Duration string }
	got := map[string]queries{}
	for name, observed := range observers() {
		o := observed()
		var q queries
		var err error
		if q.SuccessRate, err = render(o.successRate(), builtInFunctions(vars)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if q.Duration, err = render(o.latency, builtInFunctions(vars)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got[name] = q
	}
	const file = "testdata/queries.json"
	if conformance.Update() {
		var b strings.Builder
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(got); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]queries{}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestObserverName(t *testing.T) {
	for name, tc := range map[string]struct {
		flag, spec, kind string
		want             string
		metric           string
	}{
		"flag":                       {"istio", "", "Deployment", "istio", "istio_requests_total"},
		"spec wins":                  {"istio", "nginx", "Deployment", "nginx", "nginx_ingress_controller_requests"},
		"ingress in front of a mesh": {"linkerd", "nginx", "Deployment", "linkerd", "response_total"},
		"linkerd by Gateway API":     {"linkerd", "gatewayapi:v1", "Deployment", "linkerd", "response_total"},
		"#29 another mesh":           {"linkerd", "istio", "Deployment", "istio", "istio_requests_total"},
		"linkerd":                    {"linkerd", "", "Deployment", "linkerd", "response_total"},
		"#27 Service, kubernetes":    {"kubernetes", "", "Service", "kubernetes:service", "http_request_duration_seconds_count"},
		"#27 Service, linkerd":       {"linkerd", "", "Service", "linkerd:service", "response_total"},
		"app mesh v1beta2":           {"appmesh:v1beta2", "", "Deployment", "appmesh:v1beta2", "envoy_cluster_upstream_rq"},
		"gloo":                       {"gloo:v1", "", "Deployment", "gloo:v1", "envoy_cluster_upstream_rq"},
		"gateway API v1":             {"gatewayapi:v1", "", "Deployment", "gatewayapi:v1", "http_request_duration_seconds_count"},
		"gateway API v1beta1":        {"gatewayapi:v1beta1", "", "Deployment", "gatewayapi:v1beta1", "http_request_duration_seconds_count"},
		"smi":                        {"smi:v1alpha1", "", "Deployment", "smi:v1alpha1", "istio_requests_total"},
		"#27 smi of linkerd":         {"smi:v1alpha2:linkerd", "", "Deployment", "smi:v1alpha2:linkerd", "response_total"},
		"#27 smi of osm":             {"smi:v1alpha2:osm", "", "Deployment", "smi:v1alpha2:osm", "osm_request_total"},
		"osm":                        {"osm", "", "Deployment", "osm", "osm_request_total"},
		"skipper":                    {"skipper", "", "Deployment", "skipper", "skipper_response_duration_seconds_bucket"},
		"traefik":                    {"traefik", "", "Deployment", "traefik", "traefik_service_request_duration_seconds_bucket"},
		"apisix":                     {"apisix", "", "Deployment", "apisix", "apisix_http_status"},
		"kuma":                       {"kuma", "", "Deployment", "kuma", "envoy_cluster_upstream_rq"},
		"contour":                    {"contour", "", "Deployment", "contour", "envoy_cluster_upstream_rq"},
		"knative":                    {"knative", "", "Deployment", "knative", "envoy_cluster_upstream_rq"},
		"no observer of that name":   {"crossover", "", "Deployment", "crossover", ""},
		"http is no provider":        {"http", "", "Deployment", "http", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ObserverName(tc.flag, canary(func(c *v1beta1.Canary) {
				c.Spec.Provider, c.Spec.TargetRef.Kind = tc.spec, tc.kind
			}))
			if got != tc.want {
				t.Errorf("name %q, want %q", got, tc.want)
			}
			o, err := observerFor(got)
			if tc.metric == "" {
				if err == nil || !strings.Contains(err.Error(), "-mesh-provider") {
					t.Errorf("error %v, want one that names the flag", err)
				}
				return
			}
			if err != nil || o.requests != tc.metric {
				t.Errorf("counts %q (%v), want %q", o.requests, err, tc.metric)
			}
		})
	}
}

func TestKnativeServiceIsNoServiceTarget(t *testing.T) {
	c := canary(func(c *v1beta1.Canary) {
		c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "x"}
	})
	if got := ObserverName("knative", c); got != "knative" {
		t.Errorf("name %q", got)
	}
}

// providers #26: the pods of a DaemonSet have one part less in their names, and the pattern found those of the primary.
func TestPodsOfDaemonSets(t *testing.T) {
	for kind, want := range map[string]string{
		"Deployment": `kubernetes_pod_name=~"podinfo-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"`,
		"DaemonSet":  `kubernetes_pod_name=~"podinfo-[0-9a-zA-Z]+"`,
	} {
		c := canary(func(c *v1beta1.Canary) { c.Spec.TargetRef.Kind = kind })
		vars := NewVars(c, v1beta1.CanaryMetric{})
		got, err := render(observers()["http"]().successRate(), builtInFunctions(vars))
		if err != nil || strings.Count(got, want) != 3 {
			t.Errorf("%s: %s (%v), want %s three times", kind, got, err, want)
		}
	}
}
