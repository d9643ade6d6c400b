// Package acme shifts traffic with the Route of a mesh that this repository knows nothing of.
package acme

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Provider renders Routes. It holds no state: all that it knows comes with each call.
type Provider struct{}

var _ router.Provider = Provider{}

// Abilities says what the mesh can do. A Canary that asks for anything else is told so.
func (Provider) Abilities() router.Abilities { return router.Abilities{Routes: true, Weights: true} }

// Resources lists what is read and written, so that it is watched.
func (Provider) Resources() []router.Ref { return []router.Ref{route("", "")} }

// Sources names objects of the user that Render reads: none.
func (Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

// Render returns the Route of a Canary, complete. Owned is what of it is ours: users may set all other fields.
func (Provider) Render(c *v1beta1.Canary, t router.Traffic, _ router.Live) ([]router.Object, error) {
	names := router.NamesOf(c)
	ref := route(c.Namespace, names.Apex)
	return []router.Object{{
		Ref: ref,
		Wanted: router.NewWanted(c, ref, map[string]any{"backends": []any{
			map[string]any{"service": names.Primary, "weight": int64(t.Primary)},
			map[string]any{"service": names.Canary, "weight": int64(t.Canary)},
		}}),
		Owned:        [][]string{{"spec", "backends"}},
		KeepOriginal: true,
	}}, nil
}

// Read returns what the Route says at present, whoever has written it.
func (Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	names := router.NamesOf(c)
	ref := route(c.Namespace, names.Apex)
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	backends, _, err := unstructured.NestedSlice(o.Object, "spec", "backends")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", ref, router.ErrUnreadable, err)
	}
	weights := router.ServiceWeights(backends, "service")
	traffic, err := router.Split(ref, weights[names.Primary], weights[names.Canary])
	return router.Observed{Traffic: traffic, Settled: true}, err
}

func route(namespace, name string) router.Ref {
	return router.RefTo("acme.example.com", "v1", "Route", "routes").Of(namespace, name)
}
