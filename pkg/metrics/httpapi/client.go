package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"flagger.app/flagger/pkg/outbound"
)

// rest is how much of an answer is read after its value, in bytes.
const rest = 64 << 10

// Client asks one server for JSON.
type Client struct {
	outbound.Server
	// Address is where the paths of requests begin.
	Address *url.URL
	// Transport sends the requests. Build makes one.
	Transport http.RoundTripper
}

// Get sends GET and decodes the answer into result. Any status but 200 is an *outbound.StatusError.
func (c *Client) Get(ctx context.Context, path string, query url.Values, result any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(path, query), http.NoBody)
	if err != nil {
		return c.Explain(ctx, err)
	}
	return c.Explain(ctx, c.do(req, result))
}

// Post is Get with a body of JSON.
func (c *Client) Post(ctx context.Context, path string, body, result any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("request to %s: %w", c.Name, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(path, nil), strings.NewReader(string(text)))
	if err != nil {
		return c.Explain(ctx, err)
	}
	req.Header.Set("Content-Type", "application/json")
	return c.Explain(ctx, c.do(req, result))
}

func (c *Client) url(path string, query url.Values) string {
	target := c.Address.JoinPath(path)
	target.RawQuery = query.Encode()
	return target.String()
}

func (c *Client) do(req *http.Request, result any) error {
	resp, err := (&http.Client{Transport: c.Transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return c.RefusedBy(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(result); err != nil {
		return c.NotUnderstood(err)
	}
	// The value may end before the answer does, and a connection is used again only after an answer that was read to its end.
	_, _ = io.CopyN(io.Discard, resp.Body, rest)
	return nil
}

// Strict makes an *outbound.StatusError of any answer that is none of success, which clients of others word in as many ways as there are, and
// refuses pages of HTML, as a proxy sends them that wants users to sign in.
type Strict struct {
	outbound.Server
	Base http.RoundTripper
}

// RoundTrip sends the request.
func (s *Strict) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.Base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		body := bufio.NewReader(resp.Body)
		if first, _ := body.Peek(1); string(first) != "<" {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{body, resp.Body}
			return resp, nil
		}
		err = s.NotUnderstood(errors.New("it is a page of HTML"))
	} else {
		err = s.RefusedBy(resp)
	}
	_ = resp.Body.Close()
	return nil, err
}
