// Package smi shifts traffic with a TrafficSplit of the Service Mesh Interface, which Linkerd, Open Service Mesh and adapters
// of other meshes understand.
//
// Specification: https://github.com/servicemeshinterface/smi-spec/tree/main/apis/traffic-split.
package smi

import (
	"encoding/json"
	"fmt"

	splitv1alpha1 "github.com/servicemeshinterface/smi-sdk-go/pkg/apis/split/v1alpha1"
	splitv1alpha2 "github.com/servicemeshinterface/smi-sdk-go/pkg/apis/split/v1alpha2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Version is one of the API.
type Version string

// The versions that are spoken. A mesh serves one or two of them.
const (
	// V1Alpha1 has weights that are quantities, and so strings in JSON.
	V1Alpha1 Version = "v1alpha1"
	V1Alpha2 Version = "v1alpha2"
	V1Alpha3 Version = "v1alpha3"
)

// meshes that need more than the split.
const istio = "istio"

// gatewaysAnnotation tells the Istio adapter of SMI which gateways its VirtualService is for.
const gatewaysAnnotation = "VirtualService.v1alpha3.networking.istio.io/spec.gateways"

// Options are the settings that come from flags.
type Options struct {
	// Mesh is whose mesh understands the split. Only istio makes a difference.
	Mesh string
	// Unowned leaves out owner references, for a mesh in another cluster.
	Unowned bool
}

// Provider renders TrafficSplits of one version.
type Provider struct {
	version Version
	options Options
}

var _ router.Provider = (*Provider)(nil)

// New returns the provider for a version of the API.
func New(version Version, options Options) *Provider {
	return &Provider{version: version, options: options}
}

// Abilities is weights alone.
func (*Provider) Abilities() router.Abilities { return router.Abilities{Routes: true, Weights: true} }

// Resources is TrafficSplit.
func (p *Provider) Resources() []router.Ref { return []router.Ref{p.ref("", "")} }

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

func (p *Provider) ref(namespace, name string) router.Ref {
	return router.RefTo("split.smi-spec.io", string(p.version), "TrafficSplit", "trafficsplits").Of(namespace, name)
}

// Render returns the TrafficSplit. A list of matches that a user has added to it stays.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, _ router.Live) ([]router.Object, error) {
	names := router.NamesOf(c)
	service := names.Apex
	if hosts := c.Spec.Service.Hosts; len(hosts) > 0 {
		service = hosts[0]
	}
	annotations, err := p.annotations(c)
	if err != nil {
		return nil, err
	}
	spec, err := router.Fields(p.spec(service, names, t))
	if err != nil {
		return nil, err
	}
	split := p.ref(c.Namespace, names.Apex)
	return []router.Object{{
		Ref:          split,
		Wanted:       router.NewObject(split, nil, annotations, spec),
		Owned:        [][]string{{"spec", "backends"}, {"spec", "service"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}}, nil
}

// spec is written in the type of the version. The split of the third has matches too, which are the user's.
func (p *Provider) spec(service string, names router.Names, t router.Traffic) any {
	if p.version == V1Alpha1 {
		quantity := func(percent int32) *resource.Quantity {
			return resource.NewQuantity(int64(percent), resource.DecimalSI)
		}
		return &splitv1alpha1.TrafficSplitSpec{Service: service, Backends: []splitv1alpha1.TrafficSplitBackend{
			{Service: names.Canary, Weight: quantity(t.Canary)}, {Service: names.Primary, Weight: quantity(t.Primary)},
		}}
	}
	return &splitv1alpha2.TrafficSplitSpec{Service: service, Backends: []splitv1alpha2.TrafficSplitBackend{
		{Service: names.Canary, Weight: int(t.Canary)}, {Service: names.Primary, Weight: int(t.Primary)},
	}}
}

func (p *Provider) annotations(c *v1beta1.Canary) (map[string]string, error) {
	gateways := c.Spec.Service.Gateways
	if p.options.Mesh != istio || len(gateways) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(gateways)
	if err != nil {
		return nil, fmt.Errorf("spec.service.gateways: %w", err)
	}
	return map[string]string{gatewaysAnnotation: string(raw)}, nil
}

// Read takes the weights from the backends, by the names of their Services.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	names := router.NamesOf(c)
	split := p.ref(c.Namespace, names.Apex)
	o, err := router.MustGet(live, split)
	if err != nil {
		return router.Observed{}, err
	}
	backends, _, err := unstructured.NestedSlice(o.Object, "spec", "backends")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", split, router.ErrUnreadable, err)
	}
	for _, item := range backends {
		if backend, ok := item.(map[string]any); ok {
			backend["weight"] = number(backend["weight"])
		}
	}
	weights := router.ServiceWeights(backends, "service")
	traffic, err := router.Split(split, weights[names.Primary], weights[names.Canary])
	return router.Observed{Traffic: traffic, Settled: true}, err
}

// number reads a weight in any form that a version stores. One that can't be read leads to weights that are no percents.
func number(weight any) int64 {
	text, ok := weight.(string)
	if !ok {
		return router.Integer(weight)
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return -1
	}
	return quantity.Value()
}
