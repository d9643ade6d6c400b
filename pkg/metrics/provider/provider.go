// Package provider is the seam between the evaluation of metrics and the back-ends that answer queries.
package provider

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"k8s.io/utils/clock"

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

// Patient is a Provider whose queries may take longer, or must take less, than the default of the evaluation.
type Patient interface {
	// Timeout is how long one query may take.
	Timeout() time.Duration
}

// Finite returns the value, or ErrNoValues for NaN and infinity: no bound can be compared with the one, and the other is what a
// division by no requests returns.
func Finite(value float64) (float64, error) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, ErrNoValues
	}
	return value, nil
}

// Period is the interval of the metric, for back-ends that send it with the query.
func (c Config) Period() (time.Duration, error) {
	const remedy = "set spec.analysis.metrics[].interval to a duration like 1m or 30s"
	if c.Interval == "" {
		return 0, fmt.Errorf("provider type %s needs the interval of the metric: %s", c.Spec.Type, remedy)
	}
	period, err := time.ParseDuration(c.Interval)
	if err != nil || period <= 0 {
		return 0, fmt.Errorf("interval %q of the metric is no duration: %s", c.Interval, remedy)
	}
	return period, nil
}

// windowLength is how many intervals of the metric a Window covers, as in Flagger.
const windowLength = 10

// Window is the time that a query is about, for back-ends that send it: the last ten intervals of the metric.
type Window struct {
	// Period is the interval of the metric.
	Period time.Duration
	clock  clock.PassiveClock
}

// Window ends now, whenever it is asked.
func (c Config) Window(clock clock.PassiveClock) (Window, error) {
	period, err := c.Period()
	return Window{period, clock}, err
}

// Now is its beginning and end.
func (w Window) Now() (from, to time.Time) {
	to = w.clock.Now()
	return to.Add(-windowLength * w.Period), to
}

// Keys are the values of keys of the Secret, in their order, without the line breaks that editors leave at the end. The error names
// all that are missing.
func (c Config) Keys(names ...string) ([]string, error) {
	if c.Spec.SecretRef == nil {
		return nil, fmt.Errorf("provider.secretRef is empty: set it to a Secret in the namespace of the template with the keys %s",
			strings.Join(names, ", "))
	}
	values, missing := make([]string, len(names)), []string(nil)
	for i, name := range names {
		if values[i] = strings.TrimSpace(string(c.Credentials[name])); values[i] == "" {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("secret %s has no key %s: add it", c.Spec.SecretRef.Name, strings.Join(missing, ", "))
	}
	return values, nil
}
