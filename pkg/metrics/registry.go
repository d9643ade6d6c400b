package metrics

import (
	"fmt"
	"slices"
	"strings"

	"flagger.app/flagger/pkg/metrics/prometheus"
	"flagger.app/flagger/pkg/metrics/provider"
)

// Provider is a metrics back-end; see package provider for what it promises.
type Provider = provider.Provider

// What a Provider returns, wrapped, when it answers without a usable value.
var (
	ErrNoValues       = provider.ErrNoValues
	ErrMultipleValues = provider.ErrMultipleValues
	ErrInvalidQuery   = provider.ErrInvalidQuery
)

// Registry maps spec.provider.type of a MetricTemplate to what builds the back-end.
type Registry map[string]provider.Factory

// NewRegistry lists all back-ends. Providers of one Registry share their connections.
func NewRegistry() Registry {
	return Registry{
		prometheus.Type: prometheus.NewPool().New,
	}
}

// New builds the Provider for cfg. An unknown type is an error, never another back-end.
func (r Registry) New(cfg provider.Config) (Provider, error) {
	factory, ok := r[cfg.Spec.Type]
	if !ok {
		return nil, fmt.Errorf("provider.type %q is not supported yet: set it to one of %s", cfg.Spec.Type, r.types())
	}
	return factory(cfg)
}

func (r Registry) types() string {
	var types []string
	for name := range r {
		types = append(types, name)
	}
	slices.Sort(types)
	return strings.Join(types, ", ")
}
