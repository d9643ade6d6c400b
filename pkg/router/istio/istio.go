// Package istio shifts traffic with an Istio VirtualService, and puts the traffic policy of the Canary on a DestinationRule
// for each side.
//
// The fields of spec.service are written as they are in the Canary, because their JSON form is that of Istio. The Go types
// of Istio check the result and read what is live.
//
// Field reference: https://istio.io/latest/docs/reference/config/networking/virtual-service/.
package istio

import (
	"fmt"
	"slices"
	"strings"

	istiov1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/adopted"
	"flagger.app/flagger/pkg/router/istio/routes"
)

// Options are the settings that come from flags.
type Options = router.Options

// Provider renders VirtualServices and DestinationRules.
type Provider struct{ options Options }

var _ router.Chooser = (*Provider)(nil)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities is everything, except that Istio does not report when the proxies follow.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{
		Routes:          true,
		Weights:         true,
		Mirror:          true,
		MirrorWeight:    true,
		Match:           true,
		CanaryMatch:     true,
		SessionAffinity: true,
		PrimaryCookie:   true,
		RE2:             true,
		TCP:             true,
	}
}

// Resources is DestinationRule and VirtualService.
func (*Provider) Resources() []router.Ref {
	return []router.Ref{destinationRule("", ""), virtualService("", "")}
}

// For leaves a Canary that names a VirtualService of the user's to one that changes the weights in it.
func (p *Provider) For(c *v1beta1.Canary) router.Provider {
	kind, name := c.OwnRoute(v1beta1.IstioProvider)
	if kind == "" {
		return p
	}
	return adopted.New(adopted.Kind{
		Ref: virtualService, Lists: [][]string{{"spec", "http"}, {"spec", "tcp"}, {"spec", "tls"}}, Backends: "route", Service: serviceOf,
	}, name)
}

// serviceOf is the Service of a namespace that a destination leads to, by its short name or by one of its longer ones.
func serviceOf(namespace string, destination map[string]any) string {
	host, _, err := unstructured.NestedString(destination, "destination", "host")
	if err != nil {
		return ""
	}
	name, rest, _ := strings.Cut(host, ".")
	switch rest {
	case "", namespace, namespace + ".svc":
		return name
	}
	if strings.HasPrefix(rest, namespace+".svc.") {
		return name
	}
	return ""
}

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

func virtualService(namespace, name string) router.Ref {
	return ref("virtualservices", "VirtualService", namespace, name)
}

func destinationRule(namespace, name string) router.Ref {
	return ref("destinationrules", "DestinationRule", namespace, name)
}

func ref(resource, kind, namespace, name string) router.Ref {
	return router.RefTo("networking.istio.io", "v1beta1", kind, resource).Of(namespace, name)
}

// Render returns the DestinationRules and the VirtualService.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, _ router.Live) ([]router.Object, error) {
	names := router.NamesOf(c)
	var objects []router.Object
	for _, host := range []string{names.Canary, names.Primary} {
		rule, err := p.renderRule(c, host)
		if err != nil {
			return nil, err
		}
		objects = append(objects, rule)
	}
	service, err := p.renderService(c, t)
	if err != nil {
		return nil, err
	}
	return append(objects, service), nil
}

func (p *Provider) renderRule(c *v1beta1.Canary, host string) (router.Object, error) {
	spec := map[string]any{"host": host}
	if policy := c.Spec.Service.TrafficPolicy; policy != nil {
		fields, err := router.Fields(policy)
		if err != nil {
			return router.Object{}, err
		}
		spec["trafficPolicy"] = fields
	}
	rule := destinationRule(c.Namespace, host)
	if err := router.Decode(map[string]any{"spec": spec}, &istiov1beta1.DestinationRule{}); err != nil {
		return router.Object{}, refused("spec.service.trafficPolicy", rule, err)
	}
	return router.Object{
		Ref:     rule,
		Wanted:  router.NewObject(rule, nil, nil, spec),
		Owned:   [][]string{{"spec", "host"}, {"spec", "trafficPolicy"}},
		Unowned: p.options.Unowned,
	}, nil
}

func (p *Provider) renderService(c *v1beta1.Canary, t router.Traffic) (router.Object, error) {
	spec, err := renderHosts(c)
	if err != nil {
		return router.Object{}, err
	}
	if router.IsTCP(c) {
		spec["tcp"] = []any{routes.TCP(c, t)}
	} else if spec["http"], err = routes.HTTP(c, t); err != nil {
		return router.Object{}, err
	}
	service := virtualService(c.Namespace, router.NamesOf(c).Apex)
	if err := router.Decode(map[string]any{"spec": spec}, &istiov1beta1.VirtualService{}); err != nil {
		return router.Object{}, refused("spec.service", service, err)
	}
	return router.Object{
		Ref:          service,
		Wanted:       router.NewWanted(c, service, spec),
		Owned:        [][]string{{"spec", "hosts"}, {"spec", "gateways"}, {"spec", "http"}, {"spec", "tcp"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}, nil
}

// refused reports what Istio would not understand, such as a duration without a unit.
func refused(field string, ref router.Ref, err error) error {
	return &router.FieldError{Field: field, Message: fmt.Sprintf(
		"%s can't be written: %v: correct the value, see https://istio.io/latest/docs/reference/config/networking/", ref, err)}
}

// renderHosts begins the spec with hosts and gateways. A delegate has none of them.
func renderHosts(c *v1beta1.Canary) (map[string]any, error) {
	service := &c.Spec.Service
	if service.Delegation {
		if len(service.Hosts) > 0 || len(service.Gateways) > 0 {
			return nil, &router.FieldError{
				Field:   "spec.service.delegation",
				Message: "a delegate has neither hosts nor gateways: remove service.hosts and service.gateways, or delegation",
			}
		}
		return map[string]any{"hosts": []any{}}, nil
	}
	apex := router.NamesOf(c).Apex
	hosts := slices.Clone(service.Hosts)
	if !slices.Contains(hosts, apex) && !slices.Contains(hosts, "*") {
		hosts = append(hosts, apex)
	}
	return map[string]any{"hosts": anySlice(hosts), "gateways": anySlice(routes.Gateways(c))}, nil
}

func anySlice(values []string) []any {
	list := make([]any, len(values))
	for i, value := range values {
		list[i] = value
	}
	return list
}
