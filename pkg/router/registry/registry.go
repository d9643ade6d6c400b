// Package registry lists the routing providers by the names that users give in spec.provider and -mesh-provider.
package registry

import (
	"fmt"
	"slices"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/apisix"
	"flagger.app/flagger/pkg/router/appmeshv1beta1"
	"flagger.app/flagger/pkg/router/appmeshv1beta2"
	"flagger.app/flagger/pkg/router/contour"
	"flagger.app/flagger/pkg/router/external"
	"flagger.app/flagger/pkg/router/gatewayapi"
	"flagger.app/flagger/pkg/router/gloo"
	"flagger.app/flagger/pkg/router/istio"
	"flagger.app/flagger/pkg/router/knative"
	"flagger.app/flagger/pkg/router/kubernetes"
	"flagger.app/flagger/pkg/router/kuma"
	"flagger.app/flagger/pkg/router/nginx"
	"flagger.app/flagger/pkg/router/skipper"
	"flagger.app/flagger/pkg/router/smi"
	"flagger.app/flagger/pkg/router/traefik"
)

// Config are the settings of all providers that come from flags.
type Config struct {
	// IngressClass is the ingress class of generated HTTPProxies (-ingress-class).
	IngressClass string
	// AnnotationsPrefix is what the annotations of ingress-nginx begin with (-ingress-annotations-prefix).
	AnnotationsPrefix string
	// IncludeLabelPrefix are the prefixes of labels that copies take over (-include-label-prefix).
	IncludeLabelPrefix []string
	// Unowned leaves out owner references: the mesh is in another cluster than the Canaries
	// (-kubeconfig-service-mesh). Ingresses are where the Canaries are, and have one all the same.
	Unowned bool
}

// Registry finds providers.
type Registry struct{ entries []entry }

// entry is one name. A prefix also stands for every name that begins with it.
type entry struct {
	name     string
	isPrefix bool
	provider router.Provider
	// forMesh is the provider of a name that goes on with a colon and a mesh.
	forMesh func(mesh string) router.Provider
}

// New returns the registry of all providers. This list is the only place that names them.
func New(config Config) *Registry {
	split := func(name string, version smi.Version) entry {
		forMesh := func(mesh string) router.Provider {
			return smi.New(version, smi.Options{Mesh: mesh, Unowned: config.Unowned})
		}
		return entry{name: name, provider: forMesh(""), forMesh: forMesh}
	}
	return &Registry{entries: []entry{
		{name: v1beta1.ApisixProvider, provider: apisix.New(apisix.Options{Unowned: config.Unowned})},
		{name: v1beta1.AppMeshV1Beta2Provider, isPrefix: true, provider: appmeshv1beta2.New(appmeshv1beta2.Options{
			Unowned: config.Unowned,
		})},
		{name: v1beta1.AppMeshProvider, provider: appmeshv1beta1.New(appmeshv1beta1.Options{Unowned: config.Unowned})},
		{name: v1beta1.ContourProvider, provider: contour.New(contour.Options{
			IngressClass: config.IngressClass, Unowned: config.Unowned,
		})},
		{name: v1beta1.ExternalProvider, provider: external.New()},
		{name: v1beta1.GatewayAPIProvider, provider: gatewayapi.New(gatewayapi.Options{Unowned: config.Unowned})},
		// The first name that fits wins: gatewayapi:v1 is a prefix of gatewayapi:v1beta1.
		{name: v1beta1.GatewayAPIV1Beta1Provider, isPrefix: true, provider: gatewayapi.NewV1Beta1(gatewayapi.Options{
			Unowned: config.Unowned,
		})},
		{name: v1beta1.GatewayAPIV1Provider, isPrefix: true, provider: gatewayapi.New(gatewayapi.Options{
			Unowned: config.Unowned,
		})},
		// As in Flagger, a version may follow, which makes no difference.
		{name: v1beta1.GlooProvider, isPrefix: true, provider: gloo.New(gloo.Options{
			IncludeLabelPrefix: config.IncludeLabelPrefix, Unowned: config.Unowned,
		})},
		{name: v1beta1.IstioProvider, provider: istio.New(istio.Options{Unowned: config.Unowned})},
		{name: v1beta1.KnativeProvider, provider: knative.New()},
		{name: v1beta1.KubernetesProvider, provider: kubernetes.New()},
		{name: v1beta1.KumaProvider, provider: kuma.New()},
		{name: v1beta1.LinkerdProvider, provider: smi.New(smi.V1Alpha1, smi.Options{Mesh: "linkerd", Unowned: config.Unowned})},
		{name: v1beta1.NGINXProvider, provider: nginx.New(nginx.Options{
			AnnotationsPrefix: config.AnnotationsPrefix,
		})},
		{name: v1beta1.OsmProvider, provider: smi.New(smi.V1Alpha2, smi.Options{Mesh: "osm", Unowned: config.Unowned})},
		{name: v1beta1.SkipperProvider, provider: skipper.New(skipper.Options{})},
		split(v1beta1.SMIV1Alpha1Provider, smi.V1Alpha1),
		split(v1beta1.SMIV1Alpha2Provider, smi.V1Alpha2),
		split(v1beta1.SMIV1Alpha3Provider, smi.V1Alpha3),
		{name: v1beta1.TraefikProvider, provider: traefik.New(traefik.Options{Unowned: config.Unowned})},
	}}
}

// Names lists the names of all providers, sorted.
func (r *Registry) Names() []string {
	names := make([]string, len(r.entries))
	for i, e := range r.entries {
		names[i] = e.name
	}
	slices.Sort(names)
	return names
}

// Provider returns the provider of a name. A name that no provider has is an error that lists all there are. The caller knows
// where the name stands.
func (r *Registry) Provider(name string) (router.Provider, error) {
	for _, e := range r.entries {
		if name == e.name || (e.isPrefix && strings.HasPrefix(name, e.name)) {
			return e.provider, nil
		}
		if mesh, ok := strings.CutPrefix(name, e.name+":"); ok && e.forMesh != nil && mesh != "" {
			return e.forMesh(mesh), nil
		}
	}
	return nil, fmt.Errorf("there is no provider %q: use one of %s", name, strings.Join(r.Names(), ", "))
}
