// Package appmeshv1beta1 shifts traffic with AWS App Mesh, by version v1beta1 of its Kubernetes API.
package appmeshv1beta1

import (
	"fmt"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/appmesh"
)

// Options are the settings that come from flags.
type Options = router.Options

// Provider renders VirtualNodes and VirtualServices of the first version, in which a VirtualService holds its router.
type Provider struct{ appmesh.Base }

var _ router.Provider = (*Provider)(nil)

// New returns the provider for the first version of the API.
func New(options Options) *Provider {
	return &Provider{appmesh.Base{Version: "v1beta1", Options: options}}
}

// Resources are VirtualNode and VirtualService.
func (p *Provider) Resources() []router.Ref {
	return []router.Ref{p.Ref("VirtualNode", "", ""), p.Ref("VirtualService", "", "")}
}

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

// Render returns the nodes and then the services that lead to them: the one of the apex, and one that leads to the canary alone.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, live router.Live) ([]router.Object, error) {
	if c.Spec.Service.MeshName == "" {
		return nil, &router.FieldError{Field: "spec.service.meshName", Message: "is missing: name the mesh of the virtual nodes"}
	}
	names := router.NamesOf(c)
	var objects []router.Object
	for _, node := range []struct{ name, service string }{
		{names.Apex, names.Primary}, {names.Primary, names.Primary}, {names.Canary, names.Canary},
	} {
		o, err := p.node(c, node.name, node.service, live)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	apex, err := p.service(c, names.Apex, t)
	if err != nil {
		return nil, err
	}
	appmesh.Exposed(c, &apex)
	canary, err := p.service(c, names.Canary, router.Traffic{Canary: 100})
	return append(objects, apex, canary), err
}

func (p *Provider) node(c *v1beta1.Canary, name, service string, live router.Live) (router.Object, error) {
	o := p.Object("VirtualNode", c, name, []string{"meshName"}, []string{"listeners"}, []string{"serviceDiscovery", "dns", "hostName"},
		[]string{"backends"})
	o.Early = true
	existing, err := live.Get(o.Ref)
	if err != nil {
		return router.Object{}, fmt.Errorf("%s: %w", o.Ref, err)
	}
	listener := router.Unmanaged(existing, []string{"spec", "listeners"}, "portMapping")
	listener["portMapping"] = appmesh.PortMapping(c, c.Spec.Service.Port)
	spec := map[string]any{
		"meshName":         c.Spec.Service.MeshName,
		"listeners":        []any{listener},
		"serviceDiscovery": map[string]any{"dns": map[string]any{"hostName": service + "." + c.Namespace}},
	}
	var backends []any
	for i, backend := range c.Spec.Service.Backends {
		if strings.HasPrefix(backend, "arn:") {
			return router.Object{}, &router.FieldError{Field: fmt.Sprintf("spec.service.backends[%d]", i), Message: "is an ARN, and v1beta1 of " +
				"App Mesh knows names alone: write the name of the VirtualService, or set spec.provider to appmesh:v1beta2"}
		}
		backends = append(backends, map[string]any{"virtualService": map[string]any{"virtualServiceName": backend}})
	}
	if len(backends) > 0 {
		spec["backends"] = backends
	}
	appmesh.LogRequests(c, &o, spec, existing)
	o.Wanted = router.NewWanted(c, o.Ref, spec)
	return o, nil
}

func (p *Provider) service(c *v1beta1.Canary, name string, t router.Traffic) (router.Object, error) {
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
		match := map[string]any{"prefix": router.PathPrefix(c)}
		if len(route.Headers) > 0 {
			match["headers"] = route.Headers
		}
		http := map[string]any{"match": match, "action": map[string]any{
			"weightedTargets": appmesh.Targets(c, route.Traffic, func(node string) (string, any) { return "virtualNodeName", node }),
		}}
		if retries != nil {
			http["retryPolicy"] = retries.Render("perRetryTimeoutMillis", retries.Timeout.Milliseconds())
		}
		rule := map[string]any{"name": route.Name, "http": http}
		if route.Priority > 0 {
			rule["priority"] = route.Priority
		}
		rendered = append(rendered, rule)
	}
	o := p.Object("VirtualService", c, name+"."+c.Namespace, []string{"routes"}, []string{"virtualRouter"}, []string{"meshName"})
	o.Wanted = router.NewObject(o.Ref, nil, nil, map[string]any{
		"meshName": c.Spec.Service.MeshName,
		"virtualRouter": map[string]any{
			"name": name, "listeners": []any{map[string]any{"portMapping": appmesh.PortMapping(c, c.Spec.Service.Port)}},
		},
		"routes": rendered,
	})
	return o, nil
}

// Read takes the weights from the VirtualService of the apex.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	r := p.Ref("VirtualService", c.Namespace, router.NamesOf(c).Apex+"."+c.Namespace)
	return appmesh.Read(c, r, live, func(target map[string]any) string {
		name, _ := target["virtualNodeName"].(string) //nolint:errcheck // no name is nobody's
		return name
	}, "http")
}
