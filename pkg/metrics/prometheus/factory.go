package prometheus

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
)

// New returns the Factory of Clients that share their connections. The address of a Client is that of the server with an optional
// path before /api/v1; its query string is dropped. Credentials hold token, or username and password.
func New(transports *httpapi.Transports) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		address, err := httpapi.ParseAddress(cfg.Spec.Address, "http://prometheus:9090")
		if err != nil {
			return nil, err
		}
		authorize, err := authorization(cfg)
		if err != nil {
			return nil, err
		}
		return newClient(address, transports.To(httpapi.Destination{
			Host:       address.Host,
			Headers:    cfg.Spec.Headers,
			Authorize:  authorize,
			SkipVerify: cfg.Spec.InsecureSkipVerify,
		}))
	}
}

func newClient(address *url.URL, transport http.RoundTripper) (*Client, error) {
	client, err := api.NewClient(api.Config{Address: address.String(), RoundTripper: transport})
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address.Redacted(), err)
	}
	return &Client{address: address.Redacted(), api: promv1.NewAPI(getClient{client})}, nil
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
