package e2e

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// istioPlanes are the three ways by which istiod leads requests: VirtualServices at a gateway, and at the proxy of a client, and
// routes of the Gateway API. The pods have sidecars in each, which istiod injects, and which measure.
func istioPlanes() []*dataPlane {
	return []*dataPlane{istioGateway(), istioMesh(), istioGatewayAPI()}
}

// virtualService is that of a user, with the name that the operator takes over. The gateways are to be filled in.
const virtualService = `
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: podinfo}
spec:
  gateways: GATEWAYS
  hosts: [HOST]
  http:
  - route: [{destination: {host: podinfo}}]
    headers: {response: {set: {X-Route: service}}}
`

// istioMetrics are the names of what the sidecars export.
const istioMetrics = "istio_.*"

func istioAble() ability {
	return ability{header: true, cookie: true, beside: true, affinity: true, mirror: true, share: true}
}

// istioPlane is what VirtualServices do, wherever they apply.
func istioPlane(name, address, gateway string) *dataPlane {
	return &dataPlane{
		name: name, provider: "istio", address: address, metrics: istioMetrics,
		service: strings.ReplaceAll(virtualService, "GATEWAYS", "["+gateway+"]"),
		spec: func(c *v1beta1.Canary, host string) {
			c.Spec.Service.Hosts, c.Spec.Service.Gateways = []string{host}, []string{gateway}
		},
		takesOver: true,
		able:      istioAble(),
		route: router.Ref{
			Resource: schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "virtualservices"},
			Kind:     "VirtualService", Name: "podinfo",
		},
		tampered: `{"spec":{"http":[{"route":[{"destination":{"host":"podinfo-canary"},"weight":100}]}]}}`,
	}
}

// istioGateway is the ingress gateway.
func istioGateway() *dataPlane {
	p := istioPlane("istio", "10.96.0.80:80", "istio-system/public-gateway")
	p.shared = `
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata: {name: public-gateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
`
	return p
}

// istioGatewayAPI is the same proxy, by a Gateway that is told where its proxy is: istiod would start one of its own else.
func istioGatewayAPI() *dataPlane {
	p := gatewayAPIPlane("istio-gatewayapi", "istio-system", "istio", "10.96.0.80:80", "", istioAble())
	p.metrics = istioMetrics
	p.shared = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: istio, namespace: istio-system}
spec:
  gatewayClassName: istio
  addresses: [{type: Hostname, value: istio-ingressgateway.istio-system.svc.cluster.local}]
  listeners: [{name: http, protocol: HTTP, port: 80, allowedRoutes: {namespaces: {from: All}}}]
`
	return p
}

// istioMesh is a client in the mesh: what it sends to the Service goes through its own proxy, which chooses the side. Its requests
// come from outside of the pod here, to the address where the proxy takes those of the client, as a Sidecar without interception
// says.
func istioMesh() *dataPlane {
	p := istioPlane("istio-mesh", "10.96.0.81:9898", "mesh")
	p.host = "podinfo.NAMESPACE.svc.cluster.local"
	p.spec = func(c *v1beta1.Canary, _ string) {
		c.Spec.Service.Hosts, c.Spec.Service.Gateways = []string{"podinfo"}, []string{"mesh"}
	}
	p.shared = `
apiVersion: networking.istio.io/v1beta1
kind: Sidecar
metadata: {name: client, namespace: istio-system}
spec:
  workloadSelector: {labels: {app: client}}
  egress:
  - {port: {number: 9898, name: http, protocol: HTTP}, bind: 0.0.0.0, captureMode: NONE, hosts: ["*/*"]}
---
apiVersion: v1
kind: Service
metadata: {name: client, namespace: istio-system}
spec:
  clusterIP: 10.96.0.81
  selector: {app: client}
  ports: [{name: tcp, port: 9898}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: istio-system}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      containers:
      - name: istio-proxy
        image: istio/proxyv2:1.31.1
        args: [proxy, sidecar]
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: INSTANCE_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: ISTIO_META_WORKLOAD_NAME, value: client}
        - {name: ISTIO_META_INTERCEPTION_MODE, value: NONE}
        readinessProbe: {httpGet: {path: /healthz/ready, port: 15021}, periodSeconds: 1, timeoutSeconds: 10}
`
	return p
}
