package e2e

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// gatewayAPIPlane is a data plane by HTTPRoutes to a Gateway of a namespace and name. The operator takes over the one of the user.
//
// Contour tells Envoy of routes and of what is behind them independently. A route of the user for a header that nobody sends keeps
// all three Services known to Envoy while the other one changes from one to the others and back.
func gatewayAPIPlane(name, namespace, gateway, address, stats string, able ability) *dataPlane {
	return &dataPlane{
		name: name, provider: "gatewayapi:v1", address: address, stats: stats, takesOver: true, able: able,
		service: strings.NewReplacer("PARENT", namespace, "GATEWAY", gateway).Replace(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: podinfo}
spec:
  parentRefs: [{namespace: PARENT, name: GATEWAY}]
  hostnames: [HOST]
  rules:
  - backendRefs: [{name: podinfo, port: 9898}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Route, value: service}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: direct}
spec:
  parentRefs: [{namespace: PARENT, name: GATEWAY}]
  hostnames: [HOST]
  rules:
  - matches: [{headers: [{name: X-Direct, value: always}]}]
    backendRefs:
    - {name: podinfo, port: 9898}
    - {name: podinfo-primary, port: 9898, weight: 0}
    - {name: podinfo-canary, port: 9898, weight: 0}
`),
		spec: func(c *v1beta1.Canary, host string) {
			c.Spec.Service.Hosts = []string{host}
			c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Namespace: &namespace, Name: gateway}}
		},
		route: router.Ref{
			Resource: schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
			Kind:     "HTTPRoute", Name: "podinfo",
		},
		tampered: `{"spec":{"rules":[{"backendRefs":[{"name":"podinfo-canary","port":9898}]}]}}`,
	}
}
