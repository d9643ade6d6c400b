// Package provider is the seam between the evaluation of metrics and the back-ends that answer queries.
package provider

import (
	"context"
	"errors"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// What a back-end returns, wrapped, when it answers without a usable value. An answer without values is not a failure of
// the back-end: the application gets no traffic, or the query is wrong.
var (
	ErrNoValues       = errors.New("no values found")
	ErrMultipleValues = errors.New("multiple values returned")
)

// ErrInvalidQuery is wrapped by the error for a query that the back-end does not understand.
var ErrInvalidQuery = errors.New("invalid query")

// Provider is a metrics back-end. It is safe for concurrent use.
type Provider interface {
	// Query returns the one value of the query. Errors wrap ErrNoValues, ErrMultipleValues or ErrInvalidQuery where that
	// is the reason; any other error means that the back-end could not be asked.
	Query(ctx context.Context, query string) (float64, error)
	// Online returns nil if the back-end answers queries.
	Online(ctx context.Context) error
}

// Config is what a back-end is built from.
type Config struct {
	// Spec is spec.provider of a MetricTemplate. It belongs to a cache and must not be changed.
	Spec v1beta1.MetricTemplateProvider
	// Credentials is the data of the Secret that spec.secretRef names, nil without a secretRef.
	Credentials map[string][]byte
	// Interval is the interval of the metric, for back-ends that need one of their own.
	Interval string
}

// Factory builds a Provider. It does no I/O and is called once per evaluation, so whatever is expensive, such as
// connections, is shared between the Providers of one Factory.
type Factory func(Config) (Provider, error)
