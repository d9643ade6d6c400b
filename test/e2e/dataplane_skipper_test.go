package e2e

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/ingress"
)

// skipperPlane is Skipper, by Ingresses. Users lead nobody to what the operator makes: Skipper prefers it by itself.
func skipperPlane() *dataPlane {
	return &dataPlane{
		name: "skipper", provider: "skipper", address: "10.244.255.1:82",
		service: `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: edge
  annotations: {zalando.org/skipper-filter: 'setResponseHeader("X-Route", "service")'}
spec:
  rules:
  - host: HOST
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: podinfo, port: {number: 9898}}}}]}
`,
		spec: func(c *v1beta1.Canary, _ string) {
			c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Name: "edge"}
		},
		able:     ability{header: true, cookie: true},
		route:    ingress.Ref("", "edge-canary"),
		tampered: `{"metadata":{"annotations":{"zalando.org/backend-weights":"{\"podinfo-primary\":0,\"podinfo-canary\":100}"}}}`,
	}
}
