// Package kubernetes is the provider for clusters without a mesh or an ingress that can split traffic. Clients reach the
// primary throughout; a canary is reached by its own Service only.
package kubernetes

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Provider has no routing objects.
type Provider struct{}

var _ router.Adviser = Provider{}

// New returns the provider.
func New() Provider { return Provider{} }

// Abilities is TCP alone: a Service forwards any connection.
func (Provider) Abilities() router.Abilities { return router.Abilities{TCP: true} }

// Resources is empty.
func (Provider) Resources() []router.Ref { return nil }

// Sources is empty.
func (Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

// Render renders nothing.
func (Provider) Render(*v1beta1.Canary, router.Traffic, router.Live) ([]router.Object, error) {
	return nil, nil
}

// Advise warns of an A/B test, which is a blue/green run here.
func (Provider) Advise(c *v1beta1.Canary, _ router.Live) []string {
	if len(c.GetAnalysis().Match) == 0 || c.SkipAnalysis() {
		return nil
	}
	return []string{"spec.analysis.match is ignored, because a Service can't tell requests apart: remove it, or set another spec.provider"}
}

// Read reports what is always true: the apex Service selects the primary.
func (Provider) Read(*v1beta1.Canary, router.Live) (router.Observed, error) {
	return router.Observed{Traffic: router.Traffic{Primary: 100}, Settled: true}, nil
}
