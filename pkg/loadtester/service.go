package loadtester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/outbound"
)

// callTimeout is how long one call of a service may take.
const callTimeout = time.Minute

// service is a system that runs tests itself.
type service struct {
	client *http.Client
	base   *url.URL
	errors outbound.Server
	clock  clock.Clock
}

// serviceOf is the service at the address in metadata.server. The secrets are left out of errors.
func (t *Tester) serviceOf(name string, p hook.Payload, authorize func(*http.Request) error, secrets ...string) (*service, error) {
	base, err := outbound.ParseAddress(p.Metadata["server"], "https://"+name+".example.com")
	if err != nil {
		return nil, fmt.Errorf("metadata.server: %w", err)
	}
	// With credentials in it a redirect to another host would have them in its Referer.
	base.User = nil
	return &service{
		client: &http.Client{Transport: t.transports.To(outbound.Destination{Host: base.Host, Authorize: authorize})},
		base:   base,
		errors: outbound.Server{Name: name, Host: base.Host, Secrets: secrets},
		clock:  t.options.Clock,
	}, nil
}

// required reads keys of the metadata that must be there.
func required(p hook.Payload, keys ...string) error {
	var missing []string
	for _, key := range keys {
		if strings.TrimSpace(p.Metadata[key]) == "" {
			missing = append(missing, "metadata."+key)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("tasks of type %s need %s", p.Metadata[keyType], strings.Join(missing, ", "))
}

// once is a body that can't be sent again: what it starts must not be started twice because the answer was lost.
type once struct{ io.Reader }

// call sends a request and decodes the answer, JSON, if into is not nil.
func (s *service) call(ctx context.Context, request *http.Request, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := s.client.Do(request.WithContext(ctx))
	if err != nil {
		return s.errors.Explain(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return s.errors.RefusedBy(resp)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return s.errors.NotUnderstood(err)
	}
	return nil
}

// poll asks until the test has ended or ctx has. A service that can't be reached for a while does not end a test.
func (s *service) poll(ctx context.Context, interval time.Duration, ask func(context.Context) (ended bool, err error)) error {
	var last error
	for {
		timer := s.clock.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			if last == nil {
				last = ctx.Err()
			}
			return last
		case <-timer.C():
		}
		ended, err := ask(ctx)
		var refused *outbound.StatusError
		if ended || errors.As(err, &refused) {
			return err
		}
		// That the time is up explains less than what went wrong before.
		if ctx.Err() == nil {
			last = err
		}
	}
}
