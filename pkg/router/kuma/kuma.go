// Package kuma shifts traffic with a TrafficRoute of Kuma. It is cluster-scoped, so that no owner reference leads from it to the
// Canary: a mark does.
//
// Field reference: https://kuma.io/docs/2.9.x/policies/traffic-route/.
package kuma

import (
	"cmp"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// MeshAnnotation on a Canary names the mesh of its route. Default: "default".
const MeshAnnotation = "kuma.io/mesh"

const (
	defaultMesh = "default"
	// serviceTag identifies a Service by name, namespace and port.
	serviceTag = "kuma.io/service"
)

// Provider renders TrafficRoutes.
type Provider struct{}

var _ router.Provider = Provider{}

// New returns the provider.
func New() Provider { return Provider{} }

// Abilities: weights, and A/B matches on headers.
func (Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true, RE2: true}
}

// Resources is TrafficRoute.
func (Provider) Resources() []router.Ref { return []router.Ref{ref("")} }

// Sources is empty.
func (Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

func ref(name string) router.Ref {
	return router.RefTo("kuma.io", "v1alpha1", "TrafficRoute", "trafficroutes").Of("", name)
}

// route finds the TrafficRoute of a Canary: the one named like its Service or, where a Canary of another namespace has that,
// one with the namespace in its name. It is nil if there is none yet.
func route(c *v1beta1.Canary, live router.Live) (router.Ref, *unstructured.Unstructured, error) {
	apex := router.NamesOf(c).Apex
	plain, long := ref(apex), ref(apex+"."+c.Namespace)
	o, err := live.Get(long)
	if err != nil {
		return long, nil, fmt.Errorf("%s: %w", long, err)
	}
	if o != nil && router.ControlOf(c, o) == router.Ours {
		return long, o, nil
	}
	first, err := live.Get(plain)
	if err != nil {
		return plain, nil, fmt.Errorf("%s: %w", plain, err)
	}
	if first != nil && isAnothers(c, first) {
		return long, o, nil
	}
	return plain, first, nil
}

// isAnothers is whether a route is for a Service of another namespace.
func isAnothers(c *v1beta1.Canary, o *unstructured.Unstructured) bool {
	if router.ControlOf(c, o) == router.OtherCanary {
		namespace, _, _ := strings.Cut(o.GetAnnotations()[router.OwnerAnnotation], "/")
		return namespace != c.Namespace
	}
	return len(splitOf(o)) > 0 && leadsElsewhere(c, o)
}

// leadsElsewhere is whether a route that Flagger has made splits traffic between Services of another namespace.
func leadsElsewhere(c *v1beta1.Canary, o *unstructured.Unstructured) bool {
	names := router.NamesOf(c)
	for tag := range router.ServiceWeights(byTag(splitOf(o)), serviceTag) {
		if name, rest, ok := strings.Cut(tag, "_"); ok && name == names.Primary && !strings.HasPrefix(rest, c.Namespace+"_svc_") {
			return true
		}
	}
	return false
}

// Render returns the TrafficRoute. A load balancer that a user has added to it stays.
func (Provider) Render(c *v1beta1.Canary, t router.Traffic, live router.Live) ([]router.Object, error) {
	r, existing, err := route(c, live)
	if err != nil {
		return nil, err
	}
	matches, err := matchesOf(c)
	if err != nil {
		return nil, err
	}
	conf := map[string]any{"split": renderSplit(c, t)}
	if t.Matched {
		var http []any
		for _, match := range matches {
			http = append(http, map[string]any{"match": match, "split": renderSplit(c, t)})
		}
		conf["http"] = http
		conf["split"] = renderSplit(c, router.Traffic{Primary: 100})
	}
	wanted := router.NewWanted(c, r, map[string]any{
		"sources":      []any{map[string]any{"match": map[string]any{serviceTag: "*"}}},
		"destinations": []any{map[string]any{"match": map[string]any{serviceTag: tag(c, router.NamesOf(c).Apex)}}},
		"conf":         conf,
	})
	// A route is never moved to another mesh, so this is not among the owned fields.
	wanted.Object["mesh"] = cmp.Or(c.Annotations[MeshAnnotation], defaultMesh)
	if madeByFlagger(c, existing) {
		annotations := wanted.GetAnnotations()
		annotations[router.OwnerAnnotation] = router.OwnerMark(c, "")
		wanted.SetAnnotations(annotations)
	}
	return []router.Object{{
		Ref:    r,
		Wanted: wanted,
		Owned: [][]string{
			{"spec", "conf", "split"}, {"spec", "conf", "http"}, {"spec", "conf", "destination"}, {"spec", "sources"}, {"spec", "destinations"},
		},
		KeepOriginal: true,
		Unowned:      true,
	}}, nil
}

// madeByFlagger tells a route that Flagger left, which knows no mark, from one of a user.
func madeByFlagger(c *v1beta1.Canary, o *unstructured.Unstructured) bool {
	if o == nil {
		return false
	}
	annotations := o.GetAnnotations()
	_, marked := annotations[router.OwnerAnnotation]
	_, adopted := annotations[router.OriginalAnnotation]
	return !marked && !adopted && annotations[router.HelmDriftAnnotation] != "" && len(weightsOf(c, splitOf(o))) > 0
}

// tag is how Kuma names a Service.
func tag(c *v1beta1.Canary, service string) string {
	return fmt.Sprintf("%s_%s_svc_%d", service, c.Namespace, c.Spec.Service.Port)
}

func renderSplit(c *v1beta1.Canary, t router.Traffic) []any {
	names := router.NamesOf(c)
	side := func(service string, weight int32) any {
		return map[string]any{"weight": int64(weight), "destination": map[string]any{serviceTag: tag(c, service)}}
	}
	return []any{side(names.Primary, t.Primary), side(names.Canary, t.Canary)}
}

// Read takes the weights from the split of the first match, or else of all requests.
func (Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	r, o, err := route(c, live)
	if err != nil {
		return router.Observed{}, err
	}
	if o == nil {
		return router.Observed{}, fmt.Errorf("%s %w", r, router.ErrNotFound)
	}
	split := splitOf(o)
	http, _, err := unstructured.NestedSlice(o.Object, "spec", "conf", "http")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", r, router.ErrUnreadable, err)
	}
	if len(http) > 0 {
		first, ok := http[0].(map[string]any)
		if !ok {
			return router.Observed{}, fmt.Errorf("%s %w: its first match is no object", r, router.ErrUnreadable)
		}
		split, _ = first["split"].([]any) //nolint:errcheck // what is no list splits nothing
	}
	weights := weightsOf(c, split)
	names := router.NamesOf(c)
	traffic, err := router.Split(r, weights[names.Primary], weights[names.Canary])
	traffic.Matched = len(http) > 0
	return router.Observed{Traffic: traffic, Settled: true}, err
}

func splitOf(o *unstructured.Unstructured) []any {
	split, _, err := unstructured.NestedSlice(o.Object, "spec", "conf", "split")
	if err != nil {
		return nil
	}
	return split
}

// weightsOf adds up the weights of Services of the Canary's namespace, whatever their port.
func weightsOf(c *v1beta1.Canary, split []any) map[string]int64 {
	weights := map[string]int64{}
	for tag, weight := range router.ServiceWeights(byTag(split), serviceTag) {
		if name, rest, ok := strings.Cut(tag, "_"); ok && strings.HasPrefix(rest, c.Namespace+"_svc_") {
			weights[name] += weight
		}
	}
	return weights
}

// byTag puts the tag of each destination beside its weight.
func byTag(split []any) []any {
	var backends []any
	for _, item := range split {
		entry, ok := item.(map[string]any)
		if !ok {
			continue
		}
		if destination, ok := entry["destination"].(map[string]any); ok {
			backend := maps.Clone(entry)
			backend[serviceTag] = destination[serviceTag]
			backends = append(backends, backend)
		}
	}
	return backends
}
