package prometheus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"flagger.app/flagger/pkg/metrics/provider"
)

// Pool builds Clients that share their connections. A transport keeps connections per host, so two of them, with and
// without verification of certificates, serve all servers.
type Pool struct {
	verify, skip http.RoundTripper
}

// NewPool returns a Pool without connections.
func NewPool() *Pool {
	return &Pool{verify: transport(false), skip: transport(true)}
}

func transport(skipVerify bool) http.RoundTripper {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{
			Timeout:   5 * time.Second,
			KeepAlive: 30 * time.Second,
		}).DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 5 * time.Second,
		// The default of 2 would open a new connection for most queries of a busy operator.
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     90 * time.Second,
		//nolint:gosec // spec.provider.insecureSkipVerify is the user's decision.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: skipVerify},
	}
}

// New builds a Client. The address is that of the server with an optional path before /api/v1; its query string is
// dropped. Credentials hold token, or username and password.
func (p *Pool) New(cfg provider.Config) (provider.Provider, error) {
	address, err := parseAddress(cfg.Spec.Address)
	if err != nil {
		return nil, err
	}
	authorize, err := authorization(cfg)
	if err != nil {
		return nil, err
	}
	base := p.verify
	if cfg.Spec.InsecureSkipVerify {
		base = p.skip
	}
	client, err := api.NewClient(api.Config{
		Address: address.String(),
		RoundTripper: &decorator{
			base:      base,
			host:      address.Host,
			headers:   cfg.Spec.Headers,
			authorize: authorize,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address.Redacted(), err)
	}
	return &Client{address: address.Redacted(), api: promv1.NewAPI(getClient{client})}, nil
}

func parseAddress(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("address is empty: set it to the URL of the server, for example http://prometheus:9090")
	}
	address, err := url.Parse(text)
	if err != nil {
		// The text of the error quotes the address, which may hold a password.
		return nil, errors.New("address is not a URL: set it to one like http://prometheus:9090")
	}
	if (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" {
		return nil, fmt.Errorf("address %q is not a URL with scheme and host: set it to one like http://prometheus:9090",
			address.Redacted())
	}
	address.RawQuery, address.Fragment = "", ""
	return address, nil
}

// authorization returns what adds the credentials to a request, nil without a secretRef.
func authorization(cfg provider.Config) (func(*http.Request), error) {
	if cfg.Spec.SecretRef == nil {
		return nil, nil
	}
	if token, ok := cfg.Credentials["token"]; ok {
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		}, nil
	}
	username, hasUser := cfg.Credentials["username"]
	password, hasPassword := cfg.Credentials["password"]
	if !hasUser || !hasPassword {
		return nil, fmt.Errorf("secret %s has neither the key token nor the keys username and password: add them, or remove provider.secretRef",
			cfg.Spec.SecretRef.Name)
	}
	return func(r *http.Request) { r.SetBasicAuth(string(username), string(password)) }, nil
}

// decorator adds headers and credentials to each request to the server itself. A redirect to another host gets neither.
type decorator struct {
	base      http.RoundTripper
	host      string
	headers   map[string][]string
	authorize func(*http.Request)
}

// RoundTrip works on a clone: the request is not ours to change, and the header map of the template is shared.
func (d *decorator) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == d.host {
		req = req.Clone(req.Context())
		for name, values := range d.headers {
			req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
		if d.authorize != nil {
			d.authorize(req)
		}
	}
	resp, err := d.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = limited{Reader: io.LimitReader(resp.Body, maxBody), Closer: resp.Body}
	return resp, nil
}

type limited struct {
	io.Reader
	io.Closer
}
