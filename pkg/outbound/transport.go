// Package outbound is what the operator reaches other servers by: one pool of connections, bounded answers, credentials that only
// their own server gets to see, no link-local addresses, and another try at a server that is busy.
package outbound

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// maxBody is the most of an answer that is read, in bytes. A query for one value answers in a few hundred.
const maxBody = 8 << 20

// ErrTooLong is what reading an answer of more than 8 MiB ends with.
var ErrTooLong = errors.New("the answer is longer than 8 MiB: the query returns too much, aggregate it to one value")

// maxRoutes bounds how many ways to servers keep their connections.
const maxRoutes = 16

// Transports keep connections. A transport keeps them per host, so two of them, with and without verification of certificates, serve
// all servers that neither a proxy of their own nor certificates of their own lead to. They are safe for concurrent use.
type Transports struct {
	verify, skip http.RoundTripper
	clock        clock.Clock
	mu           sync.Mutex
	others       map[route]*http.Transport
}

// route is what connections are made by.
type route struct {
	proxy string
	skip  bool
	tls   [sha256.Size]byte
}

// NewTransports returns Transports without connections. The clock measures the pauses between tries.
func NewTransports(clock clock.Clock) *Transports {
	return &Transports{verify: NewTransport(false), skip: NewTransport(true), clock: clock, others: map[route]*http.Transport{}}
}

// To returns what sends requests to a server. A request to another host, as after a redirect, gets neither its headers nor its
// credentials.
func (t *Transports) To(to Destination) http.RoundTripper {
	base := t.verify
	switch {
	case to.Proxy != nil || to.TLS != nil:
		base = t.by(to)
	case to.SkipVerify:
		base = t.skip
	}
	return &Retrier{Base: &decorator{base: base, Destination: to}, Clock: t.clock}
}

// NewTransport returns a transport with connections of its own, to all addresses but those that are link-local.
func NewTransport(skipVerify bool) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         Dialer().DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        256,
		// The default of 2 would open a new connection for most queries of a busy operator.
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     90 * time.Second,
		//nolint:gosec // insecureSkipVerify of a template and disableTLS of a webhook are the user's decision.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: skipVerify},
	}
}

// by returns the transport of a proxy and certificates.
func (t *Transports) by(to Destination) http.RoundTripper {
	key := route{skip: to.SkipVerify}
	if to.Proxy != nil {
		key.proxy = to.Proxy.String()
	}
	if to.TLS != nil {
		key.tls = to.TLS.id
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.others[key]; known != nil {
		return known
	}
	if len(t.others) >= maxRoutes {
		for _, old := range t.others {
			old.CloseIdleConnections()
		}
		clear(t.others)
	}
	made := NewTransport(to.SkipVerify)
	if to.Proxy != nil {
		made.Proxy = http.ProxyURL(to.Proxy)
	}
	if to.TLS != nil {
		made.TLSClientConfig.RootCAs, made.TLSClientConfig.Certificates = to.TLS.authorities, to.TLS.certificates
	}
	t.others[key] = made
	return made
}

// Around bounds the answers that base returns, and asks a busy server again.
func (t *Transports) Around(base http.RoundTripper) http.RoundTripper {
	return &Retrier{Base: &decorator{base: base}, Clock: t.clock}
}

// Destination is a server, and what its requests carry.
type Destination struct {
	// Host is the server's, with its port where the address has one.
	Host string
	// Headers replace those of the request. Host is the name in the request line of HTTP.
	Headers map[string][]string
	// Authorize adds the credentials. Nil adds none. Its error is that of the request.
	Authorize func(*http.Request) error
	// SkipVerify accepts any certificate.
	SkipVerify bool
	// TLS is nil for the authorities of the system and no certificate of our own.
	TLS *TLS
	// Proxy leads to the server. Default: the one of the environment variables HTTPS_PROXY and HTTP_PROXY.
	Proxy *url.URL
}

type decorator struct {
	base http.RoundTripper
	Destination
}

// RoundTrip works on a clone: the request is not ours to change, and the header map of the template is shared.
func (d *decorator) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == d.Host {
		req = req.Clone(req.Context())
		for name, values := range d.Headers {
			req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
		if d.Authorize != nil {
			if err := d.Authorize(req); err != nil {
				return nil, &credentialsError{err}
			}
		}
	}
	resp, err := d.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	Limit(resp)
	return resp, nil
}

// Limit makes reading a longer answer than 8 MiB end in ErrTooLong.
func Limit(resp *http.Response) { resp.Body = &limited{body: resp.Body, left: maxBody} }

// limited is a body that fails when it is too long. One that merely ended would look like broken JSON.
type limited struct {
	body io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, ErrTooLong
	}
	n, err := l.body.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

func (l *limited) Close() error { return l.body.Close() }

// ParseAddress parses the address of a server. Its query string is dropped, its path is kept. Errors don't quote what may be a
// password.
func ParseAddress(text, example string) (*url.URL, error) {
	if text == "" {
		return nil, fmt.Errorf("address is empty: set it to the URL of the server, for example %s", example)
	}
	address, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("address is not a URL: set it to one like %s", example)
	}
	if (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" {
		return nil, fmt.Errorf("address %q is not a URL with scheme and host: set it to one like %s", address.Redacted(), example)
	}
	address.RawQuery, address.Fragment = "", ""
	return address, nil
}
