// Package promapi sends instant queries by the HTTP API of Prometheus, which many systems speak.
//
// The client of the project reads a null as zero, which passes an upper bound, and drops the body of most errors.
package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// answer is that of /api/v1/query, https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries.
type answer struct {
	Status    string
	ErrorType string
	Error     string
	Data      struct {
		ResultType string
		Result     json.RawMessage
	}
}

type series struct {
	// Value is a time, in seconds since 1970, and the value as text.
	Value     []httpapi.Number
	Histogram []any
}

// Query sends a query by GET, with each run of whitespace as one space, and returns the value of the last series and how many there
// are. No series, and a value that is null, NaN or infinite, are provider.ErrNoValues. A query that the server does not understand, and one that returns no
// vector, are provider.ErrInvalidQuery; a range of values is provider.ErrMultipleValues.
func Query(ctx context.Context, c *httpapi.Client, path, query string) (value float64, series int, err error) {
	var a answer
	err = c.Get(ctx, path, url.Values{"query": {strings.Join(strings.Fields(query), " ")}}, &a)
	if err != nil {
		return 0, 0, explain(c, err)
	}
	if a.Status != "success" {
		return 0, 0, a.failure(c)
	}
	switch a.Data.ResultType {
	case "vector":
		return last(c, a.Data.Result)
	case "matrix":
		return 0, 0, fmt.Errorf("the query returns a range of values, remove the [range] selector around it: %w", provider.ErrMultipleValues)
	default:
		return 0, 0, fmt.Errorf("%w: it returns a %.40s, wrap it in vector()", provider.ErrInvalidQuery, a.Data.ResultType)
	}
}

// failure is for an error that came with a status of success, as some proxies send it.
func (a *answer) failure(c *httpapi.Client) error {
	if a.Error == "" {
		return c.NotUnderstood(errors.New("it has no status"))
	}
	err := c.Failed(fmt.Errorf("%s: %s", a.ErrorType, a.Error))
	if isMistake(a.ErrorType) {
		return fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	return err
}

func isMistake(errorType string) bool { return errorType == "bad_data" || errorType == "execution" }

// explain shows the error in an answer instead of the JSON around it.
func explain(c *httpapi.Client, err error) error {
	var status *outbound.StatusError
	var a answer
	if !errors.As(err, &status) || status.Decode(&a) != nil || a.Error == "" {
		return err
	}
	err = c.Saying(status, a.ErrorType+": "+a.Error)
	if isMistake(a.ErrorType) {
		return fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	return err
}

func last(c *httpapi.Client, text json.RawMessage) (float64, int, error) {
	var all []series
	if err := json.Unmarshal(text, &all); err != nil {
		return 0, 0, c.NotUnderstood(err)
	}
	if len(all) == 0 {
		return 0, 0, provider.ErrNoValues
	}
	s := all[len(all)-1]
	switch {
	case s.Histogram != nil:
		return 0, 0, fmt.Errorf("%w: it returns a native histogram, wrap it in histogram_quantile() or a similar function",
			provider.ErrInvalidQuery)
	case len(s.Value) != 2:
		return 0, 0, c.NotUnderstood(fmt.Errorf("a value has %d elements instead of 2", len(s.Value)))
	}
	value, err := s.Value[1].Value()
	return value, len(all), err
}
