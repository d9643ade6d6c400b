package e2e

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/router"
)

// contourPlane is Contour with Envoy, by HTTPProxies. The way past the HTTPProxy of the operator, by the header X-Direct, keeps
// the Service known to Envoy while the route is replaced.
func contourPlane() *dataPlane {
	const (
		head = `
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: ingress}
spec:
  virtualhost: {fqdn: HOST}
  routes:
  - conditions: CONDITIONS
    services: [{name: podinfo, port: 9898}]
    responseHeadersPolicy: {set: [{name: X-Route, value: service}]}
`
		included = `  includes: [{name: podinfo, conditions: [CONDITION]}]
`
	)
	return &dataPlane{
		name: "contour", provider: "contour", address: "10.244.255.1:80", stats: "10.244.255.1:8002/stats/prometheus",
		service: strings.ReplaceAll(head, "CONDITIONS", "[{prefix: /}]"),
		preview: strings.ReplaceAll(head, "CONDITIONS", "[{prefix: /}]") +
			strings.ReplaceAll(included, "CONDITION", "{header: {name: X-Preview, present: true}}"),
		canary: strings.ReplaceAll(head, "CONDITIONS", "[{header: {name: X-Direct, present: true}}]") + strings.ReplaceAll(included, "CONDITION", "{prefix: /}"),
		able:   ability{header: true, cookie: true, beside: true, mirror: true, share: true},
		route: router.Ref{
			Resource: schema.GroupVersionResource{Group: "projectcontour.io", Version: "v1", Resource: "httpproxies"},
			Kind:     "HTTPProxy", Name: "podinfo",
		},
		beside: `
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: beside}
spec:
  virtualhost: {fqdn: HOST}
  routes:
  - services: [{name: podinfo-canary, port: 9898}]
`,
		// Envoy forgets a Service that no HTTPProxy names. Whoever takes one out loses requests when it comes back.
		tampered: `{"spec":{"routes":[{"conditions":[{"prefix":"/"}],"services":[` +
			`{"name":"podinfo-primary","port":9898,"weight":0},{"name":"podinfo-canary","port":9898,"weight":100}]}]}}`,
	}
}
