// Package appmeshv1beta1 shifts traffic with AWS App Mesh, by version v1beta1 of its Kubernetes API.
package appmeshv1beta1

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/appmesh"
)

const version = "v1beta1"

// Options are the settings that come from flags.
type Options struct {
	// Unowned leaves out owner references, for a mesh in another cluster.
	Unowned bool
}

// Provider renders VirtualNodes and VirtualServices of the first version, in which a VirtualService holds its router.
type Provider struct{ options Options }

var _ router.Provider = (*Provider)(nil)

// New returns the provider for the first version of the API.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities are those of App Mesh.
func (*Provider) Abilities() router.Abilities { return appmesh.Abilities() }

// Resources are VirtualNode and VirtualService.
func (*Provider) Resources() []router.Ref {
	return []router.Ref{appmesh.Ref(version, "VirtualNode", "", ""), appmesh.Ref(version, "VirtualService", "", "")}
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
	r := appmesh.Ref(version, "VirtualNode", c.Namespace, name)
	existing, err := live.Get(r)
	if err != nil {
		return router.Object{}, fmt.Errorf("%s: %w", r, err)
	}
	listener := router.Unmanaged(existing, []string{"spec", "listeners"}, "portMapping")
	listener["portMapping"] = appmesh.PortMapping(c, c.Spec.Service.Port)
	spec := map[string]any{
		"meshName":         c.Spec.Service.MeshName,
		"listeners":        []any{listener},
		"serviceDiscovery": map[string]any{"dns": map[string]any{"hostName": service + "." + c.Namespace}},
	}
	var backends []any
	for _, backend := range c.Spec.Service.Backends {
		backends = append(backends, map[string]any{"virtualService": map[string]any{"virtualServiceName": backend}})
	}
	if len(backends) > 0 {
		spec["backends"] = backends
	}
	o := router.Object{
		Ref:          r,
		Owned:        [][]string{{"spec", "meshName"}, {"spec", "listeners"}, {"spec", "serviceDiscovery", "dns", "hostName"}, {"spec", "backends"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
		Early:        true,
	}
	appmesh.LogRequests(c, &o, spec, existing)
	o.Wanted = router.NewWanted(c, r, spec)
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
	r := appmesh.Ref(version, "VirtualService", c.Namespace, name+"."+c.Namespace)
	return router.Object{
		Ref: r,
		Wanted: router.NewObject(r, nil, nil, map[string]any{
			"meshName": c.Spec.Service.MeshName,
			"virtualRouter": map[string]any{
				"name": name, "listeners": []any{map[string]any{"portMapping": appmesh.PortMapping(c, c.Spec.Service.Port)}},
			},
			"routes": rendered,
		}),
		Owned:        [][]string{{"spec", "routes"}, {"spec", "virtualRouter"}, {"spec", "meshName"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}, nil
}

// Read takes the weights from the VirtualService of the apex.
func (*Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	r := appmesh.Ref(version, "VirtualService", c.Namespace, router.NamesOf(c).Apex+"."+c.Namespace)
	return appmesh.Read(c, r, live, func(target map[string]any) string {
		name, _ := target["virtualNodeName"].(string) //nolint:errcheck // no name is nobody's
		return name
	}, "http")
}
