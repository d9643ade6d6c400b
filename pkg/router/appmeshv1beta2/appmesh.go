// Package appmeshv1beta2 shifts traffic with AWS App Mesh, by version v1beta2 of its Kubernetes API.
package appmeshv1beta2

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/appmesh"
	"flagger.app/flagger/pkg/router/services"
)

// Options are the settings that come from flags.
type Options = router.Options

// Provider renders VirtualNodes, VirtualRouters and VirtualServices. The controller of App Mesh chooses the mesh.
type Provider struct{ appmesh.Base }

var _ router.Provider = (*Provider)(nil)

// New returns the provider for the second version of the API.
func New(options Options) *Provider {
	return &Provider{appmesh.Base{Version: "v1beta2", Options: options}}
}

// Resources are VirtualNode, VirtualRouter, VirtualService, and the Services whose selectors the nodes repeat.
func (p *Provider) Resources() []router.Ref {
	return []router.Ref{
		p.Ref("VirtualNode", "", ""), p.Ref("VirtualRouter", "", ""),
		p.Ref("VirtualService", "", ""), services.Ref("", ""),
	}
}

// Sources are the Services of both sides.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref {
	names := router.NamesOf(c)
	return []router.Ref{services.Ref(c.Namespace, names.Primary), services.Ref(c.Namespace, names.Canary)}
}

// Render returns the nodes, the routers that lead to them, and the services that lead to these: for the apex, and for the canary
// alone.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, live router.Live) ([]router.Object, error) {
	names := router.NamesOf(c)
	timeout := time.Duration(0)
	if text := c.Spec.Service.Timeout; text != "" {
		var err error
		if timeout, err = appmesh.Duration("spec.service.timeout", text); err != nil {
			return nil, err
		}
	}
	var objects []router.Object
	for _, name := range []string{names.Primary, names.Canary} {
		o, err := p.node(c, name, timeout, live)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	for _, side := range []struct {
		name    string
		traffic router.Traffic
	}{{names.Apex, t}, {names.Canary, router.Traffic{Canary: 100}}} {
		o, err := p.router(c, side.name, side.traffic, timeout)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	apex := p.service(c, names.Apex)
	appmesh.Exposed(c, &apex)
	return append(objects, apex, p.service(c, names.Canary)), nil
}

func (p *Provider) node(c *v1beta1.Canary, name string, timeout time.Duration, live router.Live) (router.Object, error) {
	o := p.Object("VirtualNode", c, name, []string{"listeners"}, []string{"serviceDiscovery", "dns", "hostname"},
		[]string{"podSelector"}, []string{"backends"})
	o.Early = true
	existing, err := live.Get(o.Ref)
	if err != nil {
		return router.Object{}, fmt.Errorf("%s: %w", o.Ref, err)
	}
	// Connection pools, health checks and TLS of a listener are the user's.
	listener := router.Unmanaged(existing, []string{"spec", "listeners"}, "portMapping", "timeout")
	listener["portMapping"] = appmesh.PortMapping(c, containerPort(c))
	if timeout > 0 {
		listener["timeout"] = map[string]any{appmesh.Protocol(c): perRequest(timeout)}
	}
	hostname := fmt.Sprintf("%s.%s.svc.cluster.local.", name, c.Namespace)
	spec := map[string]any{
		"listeners":        []any{listener},
		"serviceDiscovery": map[string]any{"dns": map[string]any{"hostname": hostname}},
	}
	selector, err := services.SelectorOf(services.Ref(c.Namespace, name), live)
	if err != nil {
		return router.Object{}, err
	}
	if len(selector) > 0 {
		spec["podSelector"] = map[string]any{"matchLabels": selector}
	}
	backends, err := p.backendsOf(c, live)
	if err != nil {
		return router.Object{}, err
	}
	if len(backends) > 0 {
		spec["backends"] = backends
	}
	appmesh.LogRequests(c, &o, spec, existing)
	o.Wanted = router.NewWanted(c, o.Ref, spec)
	return o, nil
}

// containerPort is where the pods listen.
func containerPort(c *v1beta1.Canary) int32 {
	if port := c.Spec.Service.TargetPort.IntVal; port > 0 {
		return port
	}
	return c.Spec.Service.Port
}

func perRequest(timeout time.Duration) map[string]any {
	return map[string]any{"perRequest": milliseconds(timeout)}
}

func milliseconds(d time.Duration) map[string]any {
	return map[string]any{"unit": "ms", "value": d.Milliseconds()}
}

// backendsOf refers to VirtualServices by ARN, by name, or by name and namespace with a dot between them. A name may have dots of
// its own: what exists under the whole of it is meant.
func (p *Provider) backendsOf(c *v1beta1.Canary, live router.Live) ([]any, error) {
	var backends []any
	for _, backend := range c.Spec.Service.Backends {
		service := map[string]any{}
		backends = append(backends, map[string]any{"virtualService": service})
		if strings.HasPrefix(backend, "arn:aws") {
			service["virtualServiceARN"] = backend
			continue
		}
		whole := p.Ref("VirtualService", c.Namespace, backend)
		existing, err := live.Get(whole)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", whole, err)
		}
		reference := map[string]any{"name": backend}
		if name, namespace, ok := strings.Cut(backend, "."); ok && existing == nil && !strings.Contains(namespace, ".") {
			reference = map[string]any{"name": name, "namespace": namespace}
		}
		service["virtualServiceRef"] = reference
	}
	return backends, nil
}

func (p *Provider) router(c *v1beta1.Canary, name string, t router.Traffic, timeout time.Duration) (router.Object, error) {
	routes, err := appmesh.RoutesOf(c, name, t)
	if err != nil {
		return router.Object{}, err
	}
	retries, err := appmesh.RetriesOf(c)
	if err != nil {
		return router.Object{}, err
	}
	var rendered []any
	for _, route := range routes {
		content := map[string]any{"match": matchOf(c, route.Headers), "action": map[string]any{
			"weightedTargets": appmesh.Targets(c, route.Traffic, func(node string) (string, any) {
				return "virtualNodeRef", map[string]any{"name": node}
			}),
		}}
		if timeout > 0 {
			content["timeout"] = perRequest(timeout)
		}
		if retries != nil {
			content["retryPolicy"] = retries.Render("perRetryTimeout", milliseconds(retries.Timeout))
		}
		rule := map[string]any{"name": route.Name, appmesh.Protocol(c) + "Route": content}
		if route.Priority > 0 {
			rule["priority"] = route.Priority
		}
		rendered = append(rendered, rule)
	}
	o := p.Object("VirtualRouter", c, name, []string{"routes"}, []string{"listeners"})
	o.Wanted = router.NewObject(o.Ref, nil, nil, map[string]any{
		"listeners": []any{map[string]any{"portMapping": appmesh.PortMapping(c, containerPort(c))}},
		"routes":    rendered,
	})
	return o, nil
}

// matchOf: a route of gRPC knows no path, and has metadata for headers.
func matchOf(c *v1beta1.Canary, headers []any) map[string]any {
	match, field := map[string]any{}, "metadata"
	if appmesh.Protocol(c) != appmesh.GRPC {
		match["prefix"], field = router.PathPrefix(c), "headers"
	}
	if len(headers) > 0 {
		match[field] = headers
	}
	return match
}

func (p *Provider) service(c *v1beta1.Canary, name string) router.Object {
	o := p.Object("VirtualService", c, name, []string{"provider"})
	o.Wanted = router.NewObject(o.Ref, nil, nil, map[string]any{"provider": map[string]any{"virtualRouter": map[string]any{
		"virtualRouterRef": map[string]any{"name": name},
	}}})
	return o
}

// Read takes the weights from the VirtualRouter of the apex.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	r := p.Ref("VirtualRouter", c.Namespace, router.NamesOf(c).Apex)
	return appmesh.Read(c, r, live, func(target map[string]any) string {
		name, _, _ := unstructured.NestedString(target, "virtualNodeRef", "name") //nolint:errcheck // no name is nobody's
		return name
	}, "httpRoute", "grpcRoute")
}
