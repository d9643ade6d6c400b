package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"flagger.app/flagger/pkg/outbound"
)

// sendTimeout is how long one alert may take, all tries together.
const sendTimeout = 15 * time.Second

// maxAnswer is the most of an answer that is looked at, in bytes.
const maxAnswer = 64 << 10

// HeaderIdempotencyKey lets receivers recognize an alert that is sent again after a crash.
const HeaderIdempotencyKey = "Idempotency-Key"

// Sender sends alerts. Its calls share connections.
type Sender struct {
	Transports *outbound.Transports
	// Threads keep what belongs together in one place. Nil sends each alert by itself.
	Threads *Threads
}

// Send sends one alert to one receiver. One that is busy is asked again, as it wants to be, within 15 seconds. Any status of 2xx is
// success. Errors name type and host.
func (s *Sender) Send(ctx context.Context, r Receiver, a Alert) error {
	thread := s.Threads.of(r, a)
	r.thread = thread.root()
	answer, err := s.send(ctx, r, a)
	if err != nil && answer != nil && r.thread != "" {
		// Somebody may have deleted or locked what it would hang on.
		thread.forget()
		r.thread = ""
		answer, err = s.send(ctx, r, a)
	}
	if err == nil && r.thread == "" {
		thread.begin(answer)
	}
	return err
}

// send returns what a receiver answered whose answers are looked at, also if it refuses in it.
func (s *Sender) send(ctx context.Context, r Receiver, a Alert) ([]byte, error) {
	m, err := r.message(a)
	if err != nil {
		return nil, err
	}
	to := outbound.Destination{Host: m.address.Host}
	if r.Proxy != "" {
		if to.Proxy, err = parseURL("proxy", r.Proxy); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	// Errors name the host alone: whoever knows the address of a chat service can write there.
	server := outbound.Server{Name: r.Type, Host: m.address.Host, Secrets: []string{r.Token}}
	answer, err := s.post(ctx, m, to, a.Key, &server)
	return answer, server.Explain(ctx, err)
}

func (s *Sender) post(ctx context.Context, m message, to outbound.Destination, key string, server *outbound.Server) ([]byte, error) {
	body, err := json.Marshal(m.body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.address.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set(HeaderIdempotencyKey, key)
	}
	to.Authorize = func(r *http.Request) error {
		if m.sign != nil {
			m.sign(r.Header, body)
		}
		return nil
	}
	resp, err := (&http.Client{Transport: s.Transports.To(to)}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, server.RefusedBy(resp)
	}
	if m.check == nil {
		return nil, nil
	}
	// The status says that it arrived. An answer that can't be read says nothing else.
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := m.check(answer); err != nil {
		return answer, server.Failed(err)
	}
	return answer, nil
}
