package outbound

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	// quoted is how much of a text errors show, in bytes.
	quoted = 200
	// kept is how much of the body of a refusal is read, in bytes.
	kept = 16 * quoted
)

// Server words the errors of one server.
type Server struct {
	// Name is what users call it.
	Name string
	// Host is the server's, with its port where the address has one.
	Host string
	// Secrets never appear in an error, even if the server repeats them in its answer.
	Secrets []string
}

// StatusError is the answer of a server that refused a request.
type StatusError struct {
	// Name and Host tell the server, Body is the start of its answer.
	Name, Host, Body string
	// Code is the HTTP status.
	Code int
	// raw is more of the body.
	raw []byte
}

// Decode reads the answer, JSON, of which a few thousand bytes are kept.
func (e *StatusError) Decode(into any) error { return json.Unmarshal(e.raw, into) }

// Saying is the error with another text instead of the body.
func (s *Server) Saying(e *StatusError, text string) *StatusError {
	told := *e
	told.Body = s.quote(text)
	return &told
}

// Error names back-end, status and the start of the body.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s at %s answered %d %s: %s", e.Name, e.Host, e.Code, http.StatusText(e.Code), cmp.Or(e.Body, "(no text)"))
}

// Refused is the error for an answer with a status that is none of success.
func (s *Server) Refused(code int, body string) error {
	return &StatusError{Name: s.Name, Host: s.Host, Code: code, Body: s.quote(body), raw: []byte(body)}
}

var errNotUnderstood = errors.New("an answer that is not understood")

// NotUnderstood is the error for an answer that is not what the server documents.
func (s *Server) NotUnderstood(err error) error {
	return fmt.Errorf("%s at %s gave %w: %w", s.Name, s.Host, errNotUnderstood, &brief{text: s.quote(err.Error()), err: err})
}

// Failed is the error for a conversation that broke off.
func (s *Server) Failed(err error) error {
	return fmt.Errorf("%s at %s failed: %w", s.Name, s.Host, &brief{text: s.quote(err.Error()), err: err})
}

// credentialsError is why a request could not be given its credentials.
type credentialsError struct{ error }

func (e *credentialsError) Unwrap() error { return e.error }

// Explain says what went wrong in terms of the server that was asked.
func (s *Server) Explain(ctx context.Context, err error) error {
	// The url.Error around the cause repeats method, address and the whole query.
	var urlError *url.Error
	unreachable := errors.As(err, &urlError)
	if unreachable {
		err = urlError.Err
	}
	var status *StatusError
	var credentials *credentialsError
	switch {
	case errors.As(err, &credentials):
		return fmt.Errorf("%s at %s can't be asked: %w", s.Name, s.Host, &brief{text: s.quote(err.Error()), err: err})
	case err == nil, errors.As(err, &status), errors.Is(err, errNotUnderstood):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s at %s gave no answer in time: %w", s.Name, s.Host, ctx.Err())
	case unreachable:
		return fmt.Errorf("%s at %s is unreachable: %w", s.Name, s.Host, &brief{text: s.quote(err.Error()), err: err})
	default:
		return err
	}
}

// quote is the start of a text in one line, without secrets.
func (s *Server) quote(text string) string {
	for _, secret := range s.Secrets {
		if secret = strings.TrimSpace(secret); secret != "" {
			text = strings.NewReplacer(secret, "***", url.QueryEscape(secret), "***").Replace(text)
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > quoted {
		text = strings.ToValidUTF8(text[:quoted], "") + "…"
	}
	return text
}

// brief is an error whose own text may be long, or hold what must not be shown.
type brief struct {
	text string
	err  error
}

func (b *brief) Error() string { return b.text }
func (b *brief) Unwrap() error { return b.err }

// RefusedBy is the error for an answer with a status that is none of success. One that can't be read is shown as far as it can be.
func (s *Server) RefusedBy(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, kept))
	return s.Refused(resp.StatusCode, string(body))
}
