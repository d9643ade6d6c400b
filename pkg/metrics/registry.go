package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/cloudwatch"
	"flagger.app/flagger/pkg/metrics/datadog"
	"flagger.app/flagger/pkg/metrics/dynatrace"
	"flagger.app/flagger/pkg/metrics/externalmetrics"
	"flagger.app/flagger/pkg/metrics/graphite"
	"flagger.app/flagger/pkg/metrics/influxdb"
	"flagger.app/flagger/pkg/metrics/keptn"
	"flagger.app/flagger/pkg/metrics/newrelic"
	"flagger.app/flagger/pkg/metrics/prometheus"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/metrics/splunk"
	"flagger.app/flagger/pkg/metrics/stackdriver"
	"flagger.app/flagger/pkg/outbound"
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

// Cluster is what back-ends need that ask the API server of the operator. Both fields may be nil: then they can't be used.
type Cluster struct {
	Config  *rest.Config
	Dynamic dynamic.Interface
}

// NewRegistry lists all back-ends. Providers of one Registry share their connections, and their time is that of the clock.
func NewRegistry(clock clock.Clock, cluster Cluster) Registry {
	transports := outbound.NewTransports(clock)
	return Registry{
		cloudwatch.Type:      cloudwatch.New(clock),
		datadog.Type:         datadog.New(transports, clock),
		dynatrace.Type:       dynatrace.New(transports, clock),
		externalmetrics.Type: externalmetrics.New(transports, cluster.Config),
		graphite.Type:        graphite.New(transports),
		influxdb.Type:        influxdb.New(transports),
		keptn.Type:           keptn.New(cluster.Dynamic, clock),
		newrelic.Type:        newrelic.New(transports),
		prometheus.Type:      prometheus.New(transports, clock),
		splunk.Type:          splunk.New(transports, clock),
		stackdriver.Type:     stackdriver.New(transports),
	}
}

// New builds the Provider for cfg. An unknown type is an error, never another back-end.
func (r Registry) New(cfg provider.Config) (Provider, error) {
	factory, ok := r[cfg.Spec.Type]
	if !ok {
		return nil, fmt.Errorf("provider.type %q is unknown: set it to one of %s", cfg.Spec.Type,
			strings.Join(slices.Sorted(maps.Keys(r)), ", "))
	}
	return factory(cfg)
}
