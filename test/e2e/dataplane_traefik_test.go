package e2e

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// traefikPlane is Traefik by its own IngressRoutes.
func traefikPlane() *dataPlane {
	const (
		head = `
apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {name: service}
spec: {headers: {customResponseHeaders: {X-Route: service}}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: ingress}
spec:
  entryPoints: [web]
  routes:
`
		service = "  - {kind: Rule, match: 'Host(`HOST`)', services: [{name: podinfo, port: 9898}], middlewares: [{name: service}]}\n"
		canary  = "  - {kind: Rule, match: 'Host(`HOST`)MATCH', services: [{kind: TraefikService, name: podinfo}]}\n"
	)
	return &dataPlane{
		name: "traefik", provider: "traefik", address: "10.244.255.1:81", stats: "10.244.255.1:8003/metrics",
		service: head + service,
		preview: head + strings.ReplaceAll(canary, "MATCH", " && HeaderRegexp(`X-Preview`, `.+`)") + service,
		canary:  head + strings.ReplaceAll(canary, "MATCH", ""),
		able:    ability{header: true, cookie: true},
		spec: func(c *v1beta1.Canary, _ string) {
			c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "traefik.io/v1alpha1", Kind: "IngressRoute", Name: "ingress"}
		},
		route: router.Ref{
			Resource: schema.GroupVersionResource{Group: "traefik.io", Version: "v1alpha1", Resource: "traefikservices"},
			Kind:     "TraefikService", Name: "podinfo",
		},
		tampered: `{"spec":{"weighted":{"services":[{"name":"podinfo-canary","port":9898,"weight":100}]}}}`,
	}
}
