// Package inmemory is a provider with one object of its own that says no more than the traffic. It is real, but no proxy
// serves it: it stands in for a mesh where rollouts are simulated, and its tests play the data plane by writing the status.
package inmemory

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Options choose what the pretended mesh can do.
type Options struct {
	// ReportsSettled makes a route settled only once status.observedGeneration is its generation. Without one it is silent.
	ReportsSettled bool
}

// Provider renders Routes.
type Provider struct{ options Options }

var _ router.Provider = (*Provider)(nil)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities is everything.
func (p *Provider) Abilities() router.Abilities {
	return router.Abilities{
		Routes: true, Weights: true, Mirror: true, MirrorWeight: true, Match: true,
		SessionAffinity: true, PrimaryCookie: true, TCP: true, ReportsSettled: p.options.ReportsSettled,
	}
}

// Ref names the Route of a Canary.
func Ref(c *v1beta1.Canary) router.Ref { return ref(c.Namespace, router.NamesOf(c).Apex) }

func ref(namespace, name string) router.Ref {
	return router.RefTo("inmemory.flagger.app", "v1", "Route", "routes").Of(namespace, name)
}

// Resources is Route.
func (*Provider) Resources() []router.Ref { return []router.Ref{ref("", "")} }

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

// Render returns the Route.
func (*Provider) Render(c *v1beta1.Canary, t router.Traffic, _ router.Live) ([]router.Object, error) {
	names := router.NamesOf(c)
	t = t.InForce()
	route := map[string]any{
		"backends": []any{
			map[string]any{"name": names.Primary, "weight": int64(t.Primary)},
			map[string]any{"name": names.Canary, "weight": int64(t.Canary)},
		},
		"port":   int64(c.Spec.Service.Port),
		"mirror": t.Mirror,
		"cookies": map[string]any{
			"canary": t.Cookies.Canary, "primary": t.Cookies.Primary, "previous": t.Cookies.Previous,
		},
	}
	if t.Matched {
		fields, err := router.Fields(map[string]any{"match": c.GetAnalysis().Match})
		if err != nil {
			return nil, err
		}
		route["match"] = fields["match"]
	}
	object := Ref(c)
	return []router.Object{{
		Ref:    object,
		Wanted: router.NewWanted(c, object, map[string]any{"route": route}),
		Owned:  [][]string{{"spec", "route"}},
	}}, nil
}

// Read returns what Render wrote.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	object := Ref(c)
	o, err := router.MustGet(live, object)
	if err != nil {
		return router.Observed{}, err
	}
	names := router.NamesOf(c)
	backends, _, err := unstructured.NestedSlice(o.Object, "spec", "route", "backends")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", object, router.ErrUnreadable, err)
	}
	weights := router.ServiceWeights(backends, "name")
	t, err := router.Split(object, weights[names.Primary], weights[names.Canary])
	if err != nil {
		return router.Observed{}, err
	}
	if t.Mirror, _, err = unstructured.NestedBool(o.Object, "spec", "route", "mirror"); err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", object, router.ErrUnreadable, err)
	}
	if _, t.Matched, err = unstructured.NestedSlice(o.Object, "spec", "route", "match"); err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", object, router.ErrUnreadable, err)
	}
	cookies, _, err := unstructured.NestedStringMap(o.Object, "spec", "route", "cookies")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", object, router.ErrUnreadable, err)
	}
	t.Cookies = router.Cookies{
		Canary: cookies["canary"], Primary: cookies["primary"], Previous: cookies["previous"],
	}
	observed := router.Observed{Traffic: t, Settled: true}
	if seen := observedGeneration(o); p.options.ReportsSettled && seen < o.GetGeneration() {
		observed.Settled, observed.Silent = false, seen == 0
		observed.Reason = fmt.Sprintf("%s: generation %d of %d is in force", object, seen, o.GetGeneration())
	}
	return observed, nil
}

func observedGeneration(o *unstructured.Unstructured) int64 {
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, "status", "observedGeneration")
	if err != nil {
		return 0
	}
	return router.Integer(value)
}
