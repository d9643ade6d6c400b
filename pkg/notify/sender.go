package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flagger.app/flagger/pkg/outbound"
)

const (
	// sendTimeout is how long one alert may take, all tries together.
	sendTimeout = 15 * time.Second
	// quoted is how much of an answer errors show, in bytes.
	quoted = 200
)

// HeaderIdempotencyKey lets receivers recognize an alert that is sent again after a crash.
const HeaderIdempotencyKey = "Idempotency-Key"

// Sender sends alerts. Its calls share connections.
type Sender struct {
	Transports *outbound.Transports
}

// Send sends one alert to one receiver. One that is busy is asked again, as it wants to be, within 15 seconds. Any status of 2xx is
// success. Errors name type and host.
func (s *Sender) Send(ctx context.Context, r Receiver, a Alert) error {
	m, err := r.message(a)
	if err != nil {
		return err
	}
	to := outbound.Destination{Host: m.address.Host}
	if r.Proxy != "" {
		if to.Proxy, err = parseURL("proxy", r.Proxy); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := s.post(ctx, m, to, a.Key); err != nil {
		return fmt.Errorf("%s at %s: %w", r.Type, m.address.Host, hide(err, r.Token))
	}
	return nil
}

func (s *Sender) post(ctx context.Context, m message, to outbound.Destination, key string) error {
	body, err := json.Marshal(m.body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.address.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set(HeaderIdempotencyKey, key)
	}
	to.Authorize = func(r *http.Request) {
		if m.sign != nil {
			m.sign(r.Header, body)
		}
	}
	resp, err := (&http.Client{Transport: s.Transports.To(to)}).Do(req)
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	// An answer that can't be read is shown as far as it can be.
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 16*quoted))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answered %d %s: %s", resp.StatusCode, http.StatusText(resp.StatusCode), excerpt(string(answer)))
	}
	if m.check != nil {
		return m.check(answer)
	}
	return nil
}

// cause leaves out the address that was asked, which may be a secret.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

func excerpt(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > quoted {
		text = strings.ToValidUTF8(text[:quoted], "") + "…"
	}
	return text
}

// hide replaces a secret that the receiver repeated.
func hide(err error, secret string) error {
	if secret == "" || !strings.Contains(err.Error(), secret) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), secret, "***"))
}
