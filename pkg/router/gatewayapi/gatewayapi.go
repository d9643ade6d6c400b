// Package gatewayapi shifts traffic with an HTTPRoute of the Gateway API.
//
// Field reference: https://gateway-api.sigs.k8s.io/reference/spec/#httproute.
package gatewayapi

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/adopted"
	"flagger.app/flagger/pkg/router/gatewayapi/rules"
)

// Options are the settings that come from flags.
type Options = router.Options

// Provider renders HTTPRoutes.
type Provider struct {
	options Options
	version string
	// limited is set for v1beta1, which Flagger serves without timeouts, CORS, primary cookie and acceptance.
	limited bool
}

var (
	_ router.Chooser  = (*Provider)(nil)
	_ router.Outliner = (*Provider)(nil)
)

// New returns the provider for version v1.
func New(options Options) *Provider { return &Provider{options: options, version: "v1"} }

// NewV1Beta1 returns the provider for version v1beta1.
func NewV1Beta1(options Options) *Provider {
	return &Provider{options: options, version: "v1beta1", limited: true}
}

// Abilities: everything but TCP.
func (p *Provider) Abilities() router.Abilities {
	return router.Abilities{
		Routes:          true,
		Weights:         true,
		Mirror:          true,
		MirrorWeight:    true,
		Match:           true,
		CanaryMatch:     true,
		SessionAffinity: true,
		PrimaryCookie:   !p.limited,
		ReportsSettled:  !p.limited,
	}
}

// Resources is HTTPRoute.
func (p *Provider) Resources() []router.Ref { return []router.Ref{p.ref("", "")} }

// For leaves a Canary that names an HTTPRoute of the user's to one that changes the weights in it.
func (p *Provider) For(c *v1beta1.Canary) router.Provider {
	if kind, name := c.OwnRoute(v1beta1.GatewayAPIProvider); kind != "" {
		return adopted.New(p.routes(), name)
	}
	return p
}

// routes are HTTPRoutes of users.
func (p *Provider) routes() adopted.Kind {
	kind := adopted.Kind{
		Ref: p.ref, Lists: [][]string{{"spec", "rules"}}, Backends: "backendRefs", Service: serviceOf, Weight: 1,
		Settled: func(o *unstructured.Unstructured) (router.Observed, error) {
			route, err := decode(o)
			if err != nil {
				return router.Observed{}, err
			}
			return settled(route), nil
		},
	}
	if p.limited {
		kind.Settled = nil
	}
	return kind
}

// serviceOf is the Service of a namespace that a backend refers to.
func serviceOf(namespace string, backend map[string]any) string {
	has := func(field, value, fallback string) bool {
		text, ok := backend[field].(string)
		return !ok && value == fallback || text == value
	}
	if !has("group", "", "") || !has("kind", "Service", "Service") || !has("namespace", namespace, namespace) {
		return ""
	}
	name, _ := backend["name"].(string) //nolint:errcheck // a backend without a name is none of ours
	return name
}

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

func (p *Provider) ref(namespace, name string) router.Ref {
	return router.RefTo(gatewayv1.GroupName, p.version, "HTTPRoute", "httproutes").Of(namespace, name)
}

// Outline is the HTTPRoute.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object {
	return []router.Object{{
		Ref:          p.ref(c.Namespace, router.NamesOf(c).Apex),
		Owned:        [][]string{{"spec", "parentRefs"}, {"spec", "hostnames"}, {"spec", "rules"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}}
}

// Render returns the HTTPRoute.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, live router.Live) ([]router.Object, error) {
	service := &c.Spec.Service
	if len(service.GatewayRefs) == 0 {
		return nil, &router.FieldError{
			Field:   "spec.service.gatewayRefs",
			Message: "is empty: name the Gateways that the HTTPRoute attaches to",
		}
	}
	if p.limited {
		c = withoutV1Fields(c)
		service = &c.Spec.Service
	}
	routed, err := rules.Render(c, t)
	if err != nil {
		return nil, err
	}
	spec := gatewayv1.HTTPRouteSpec{Rules: routed}
	for i := range service.GatewayRefs {
		spec.ParentRefs = append(spec.ParentRefs, parentRef(&service.GatewayRefs[i]))
	}
	for _, host := range service.Hosts {
		spec.Hostnames = append(spec.Hostnames, gatewayv1.Hostname(host))
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return nil, fmt.Errorf("HTTPRoute of Canary %s.%s: %w", c.Name, c.Namespace, err)
	}
	o := p.Outline(c)[0]
	o.Wanted = router.NewWanted(c, o.Ref, fields)
	existing, err := live.Get(o.Ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Ref, err)
	}
	return []router.Object{o}, spare(c, o, existing)
}

// withoutV1Fields returns a Canary without the fields that only v1 serves.
func withoutV1Fields(c *v1beta1.Canary) *v1beta1.Canary {
	limited := *c
	limited.Spec.Service.Timeout = ""
	limited.Spec.Service.BackendTimeout = ""
	limited.Spec.Service.CorsPolicy = nil
	return &limited
}

// parentRef copies a reference and spells out what the API server would fill in.
func parentRef(r *v1beta1.ParentReference) gatewayv1.ParentReference {
	return gatewayv1.ParentReference{
		Group:       ptr.To(ptr.Deref((*gatewayv1.Group)(r.Group), gatewayv1.GroupName)),
		Kind:        ptr.To(ptr.Deref((*gatewayv1.Kind)(r.Kind), "Gateway")),
		Namespace:   (*gatewayv1.Namespace)(r.Namespace),
		Name:        gatewayv1.ObjectName(r.Name),
		SectionName: (*gatewayv1.SectionName)(r.SectionName),
		Port:        r.Port,
	}
}

// Read takes the traffic from the rule that has both backends and, where there are several, comes last: those before it
// only pin clients. The route is settled when each parent has accepted this generation of it; only reports that exist can say no.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref := p.ref(c.Namespace, router.NamesOf(c).Apex)
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	route, err := decode(o)
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", ref, router.ErrUnreadable, err)
	}
	traffic, err := rules.Read(c, ref, route.Spec.Rules)
	if err != nil {
		return router.Observed{}, err
	}
	if p.limited {
		return router.Observed{Traffic: traffic, Settled: true}, nil
	}
	observed := settled(route)
	observed.Traffic = traffic
	return observed, nil
}

func decode(o *unstructured.Unstructured) (*gatewayv1.HTTPRoute, error) {
	route := &gatewayv1.HTTPRoute{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, route); err != nil {
		return nil, err
	}
	return route, nil
}
