package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/hack/testbed/internal/gateway"
	"flagger.app/flagger/hack/testbed/internal/load"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/prometheus"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// sides are a primary and a canary as the operator makes them.
const sides = `apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo-primary}
spec:
  selector: {matchLabels: {app: podinfo-primary}}
  template:
    metadata: {labels: {app: podinfo-primary}}
    spec: {containers: [{name: podinfod, image: "stefanprodan/podinfo:6.9.2", command: [./podinfo]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo}
spec:
  selector: {matchLabels: {app: podinfo}}
  template:
    metadata: {labels: {app: podinfo}}
    spec: {containers: [{name: podinfod, image: "stefanprodan/podinfo:6.9.4", command: [./podinfo]}]}
---
apiVersion: v1
kind: Service
metadata: {name: podinfo-primary}
spec: {selector: {app: podinfo-primary}, ports: [{name: http, port: 9898}]}
---
apiVersion: v1
kind: Service
metadata: {name: podinfo-canary}
spec: {selector: {app: podinfo}, ports: [{name: http, port: 9898}]}
---
`

// The metrics below are those that the operator's built-in queries read, for
// the canary side of a Canary podinfo in the namespace default.
var gatewayTests = map[gateway.Kind]struct{ route, requests, latency string }{
	gateway.Contour: {
		route: `apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: root}
spec:
  virtualhost: {fqdn: podinfo.example.com}
  routes:
  - services: [{name: podinfo-primary, port: 9898, weight: 80}, {name: podinfo-canary, port: 9898, weight: 20}]
`,
		requests: `envoy_cluster_upstream_rq{envoy_cluster_name=~"default_podinfo-canary_[0-9a-zA-Z-]+",envoy_response_code=~"5.*"}`,
		latency:  `envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=~"default_podinfo-canary_[0-9a-zA-Z-]+",le="+Inf"}`,
	},
	gateway.Traefik: {
		route: `apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: podinfo}
spec: {weighted: {services: [{name: podinfo-primary, port: 9898, weight: 80}, {name: podinfo-canary, port: 9898, weight: 20}]}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: root}
spec: {routes: [{kind: Rule, match: "Host(` + "`podinfo.example.com`" + `)", services: [{kind: TraefikService, name: podinfo}]}]}
`,
		requests: `traefik_service_request_duration_seconds_bucket{service=~"default-podinfo-canary-[0-9a-zA-Z-]+@kubernetescrd",code=~"5..",le="+Inf"}`,
		latency:  `traefik_service_request_duration_seconds_bucket{service=~"default-podinfo-canary-[0-9a-zA-Z-]+@kubernetescrd",le="0.5"}`,
	},
	gateway.Skipper: {
		route: `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: root-canary
  annotations: {zalando.org/backend-weights: '{"podinfo-primary": 80, "podinfo-canary": 20}'}
spec:
  rules:
  - host: podinfo.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: podinfo-primary, port: {number: 9898}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: podinfo-canary, port: {number: 9898}}}}
`,
		requests: `skipper_response_duration_seconds_bucket{route=~"kube(ew)?_default__root_canary__.*__podinfo_canary(_[0-9]+)?",code=~"5..",le="+Inf"}`,
		latency:  `skipper_serve_route_duration_seconds_count{route=~"kube(ew)?_default__root_canary__.*__podinfo_canary(_[0-9]+)?"}`,
	},
	gateway.Istio: {
		route: `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public-gateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: podinfo}
spec:
  gateways: [istio-system/public-gateway]
  hosts: [podinfo.example.com]
  http:
  - route:
    - {destination: {host: podinfo-primary}, weight: 80}
    - {destination: {host: podinfo-canary}, weight: 20}
`,
		requests: `istio_requests_total{reporter="destination",destination_workload_namespace="default",destination_workload="podinfo",response_code=~"5.*"}`,
		latency:  `istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="default",destination_workload="podinfo",le="500"}`,
	},
}

// A gateway splits requests by weight, loses none, and Prometheus has its
// metrics under the names that the operator asks for.
func TestGatewaySplitsTraffic(t *testing.T) {
	for kind, tt := range gatewayTests {
		t.Run(string(kind), func(t *testing.T) {
			needed := append([]string{controlPlane, prometheus.Program, "podinfo-6.9.2", "podinfo-6.9.3"}, kind.ComponentNames()...)
			for _, name := range needed {
				needComponent(t, name)
			}
			t.Parallel()
			root := shortDir(t)
			dir, manifest := filepath.Join(root, "g"), filepath.Join(root, "objects.yaml")
			if err := os.WriteFile(manifest, []byte(sides+tt.route), 0o600); err != nil {
				t.Fatal(err)
			}
			source, err := moduleRoot()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { testbed(t, "down", "--state", dir) })
			must(t, "up", "--detach", "--state", dir, "--with", prometheus.Program+","+string(kind),
				"--images", filepath.Join(source, "demo", "images.yaml"))
			must(t, "exec", "--state", dir, "--", "kubectl", "apply", "-f", manifest)
			for _, name := range []string{"podinfo", "podinfo-primary"} {
				must(t, "exec", "--state", dir, "--", "kubectl", "wait", "--for=condition=available", "--timeout="+patience.String(), "deployment/"+name)
			}
			report := sendRequests(t, dir, kind)
			share := report.Share(func(pod string) bool { return !strings.HasPrefix(pod, "podinfo-primary-") })
			if report.Lost != 0 || math.Abs(share-0.2) > 0.05 {
				t.Errorf("lost %d of %d, %v; %.1f %% went to the canary, want 20", report.Lost, report.Sent, report.Losses, 100*share)
			}
			waitSample(t, dir, tt.requests)
			waitSample(t, dir, tt.latency)
		})
	}
}

// sendRequests sends for some seconds once both sides answer.
func sendRequests(t *testing.T, dir string, kind gateway.Kind) load.Report {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	request := func(duration string) (report load.Report, out string) {
		out, _ = testbed(t, "exec", "--state", dir, "--", self, "load", "-every", "0", "-duration", duration, "-rate", "200",
			"-faulty", "6.9.4", "-host", "podinfo.example.com", "-url", kind.URL(netns.NodeIP))
		// Without a report the zero one is returned, in which nobody answered.
		_ = json.NewDecoder(strings.NewReader(out)).Decode(&report)
		return report, out
	}
	var out string
	routed := func(context.Context) (bool, error) {
		var report load.Report
		report, out = request("200ms")
		return report.Lost == 0 && report.Version["6.9.2"].Answered > 0 && report.Version["6.9.4"].Answered > 0, nil
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, routed); err != nil {
		t.Fatalf("no answers: %v\n%s", err, out)
	}
	report, _ := request("5s")
	return report
}

// waitSample waits until the expression has a sample.
func waitSample(t *testing.T, dir, expression string) {
	t.Helper()
	var last error
	found := func(ctx context.Context) (bool, error) {
		samples, err := query(ctx, state.Dir(dir).Socket(prometheus.Program), expression)
		last = err
		return len(samples) > 0, nil
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, found); err != nil {
		t.Errorf("no sample of %s: %v, last answer: %v", expression, err, last)
	}
}
