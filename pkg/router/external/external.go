// Package external is for routes that somebody else manages. The weights that are asked for stand in status.canaryWeight and in
// the metric flagger_canary_weight, and an event tells of each: whoever moves the traffic goes by these.
package external

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Provider has no objects.
type Provider struct{}

var _ router.Provider = Provider{}

// New returns the provider.
func New() Provider { return Provider{} }

// Abilities is weights alone.
func (Provider) Abilities() router.Abilities { return router.Abilities{Routes: true, Weights: true} }

// Resources is empty.
func (Provider) Resources() []router.Ref { return nil }

// Sources is empty.
func (Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

// Render returns nothing.
func (Provider) Render(*v1beta1.Canary, router.Traffic, router.Live) ([]router.Object, error) {
	return nil, nil
}

// Read takes for granted that traffic goes as the status says. What relies on it waits for the propagation delay.
func (Provider) Read(c *v1beta1.Canary, _ router.Live) (router.Observed, error) {
	weight := c.Status.CanaryWeight
	return router.Observed{Traffic: router.Traffic{Primary: 100 - weight, Canary: weight}, Settled: true}, nil
}
