// Package externalmetrics asks the External Metrics API of Kubernetes, which adapters for many systems serve.
package externalmetrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "externalmetrics"

// name is what errors call it.
const name = "External Metrics API"

// Client is a provider.Provider for one API server.
type Client struct{ http *httpapi.Client }

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. Without an address the API server of the operator is asked, with the operator's own identity. A server at
// another address gets the key token of the Secret and nothing else: whoever may write a template must not be able to send the
// operator's token to a server of their own. Kube may be nil outside of a cluster.
func New(transports *outbound.Transports, kube *rest.Config) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		token := strings.TrimSpace(string(cfg.Credentials["token"]))
		build := ownServer
		if cfg.Spec.Address != "" {
			build = otherServer
		}
		client, err := build(transports, cfg, kube, token)
		if err != nil {
			return nil, err
		}
		return &Client{client}, nil
	}
}

func otherServer(transports *outbound.Transports, cfg provider.Config, _ *rest.Config, token string) (*httpapi.Client, error) {
	o := httpapi.Options{Name: name, Example: "https://metrics-adapter.monitoring:6443", SkipVerify: cfg.Spec.InsecureSkipVerify}
	if token != "" {
		o.Authorize, o.Secrets = httpapi.Header("Authorization", "Bearer "+token), []string{token}
	}
	return httpapi.Build(transports, cfg, o)
}

func ownServer(transports *outbound.Transports, cfg provider.Config, kube *rest.Config, token string) (*httpapi.Client, error) {
	if kube == nil {
		return nil, errors.New("address is empty, and the operator has no API server to ask instead: set it")
	}
	base := rest.CopyConfig(kube)
	if cfg.Spec.InsecureSkipVerify {
		// Kubernetes refuses a configuration that has both.
		base.Insecure, base.CAFile, base.CAData = true, "", nil
	}
	if token != "" {
		// A file would win.
		base.BearerToken, base.BearerTokenFile = token, ""
	}
	address, _, err := rest.DefaultServerUrlFor(base)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	transport, err := rest.TransportFor(base)
	if err != nil {
		return nil, fmt.Errorf("client of the %s at %s: %w", name, address.Host, err)
	}
	return &httpapi.Client{
		Server:    outbound.Server{Name: name, Host: address.Host, Secrets: []string{base.BearerToken}},
		Address:   address,
		Transport: &guard{host: address.Host, base: transports.Around(transport)},
	}, nil
}

// guard follows no redirect to another host: the transport of client-go would send the token there.
type guard struct {
	host string
	base http.RoundTripper
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != g.host {
		return nil, fmt.Errorf("it sends elsewhere, to %s", req.URL.Host)
	}
	return g.base.RoundTrip(req)
}

// Query takes [<namespace>/]<metric>[?labelSelector=<selector>], by default in the namespace default, and returns the first value.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	namespace, metric, selector, err := parse(query)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	return c.first(ctx, namespace, metric, selector)
}

func parse(query string) (namespace, metric string, selector labels.Selector, err error) {
	path, parameters, _ := strings.Cut(strings.TrimSpace(query), "?")
	namespace, metric, found := strings.Cut(path, "/")
	if !found {
		namespace, metric = "default", path
	}
	if namespace == "" || metric == "" || strings.Contains(metric, "/") {
		return "", "", nil, fmt.Errorf("%.100q is not like <namespace>/<metric>?labelSelector=<selector>", path)
	}
	values, err := url.ParseQuery(parameters)
	if err != nil {
		return "", "", nil, fmt.Errorf("what follows ? is not like the query string of a URL: %w", err)
	}
	selector, err = labels.Parse(values.Get("labelSelector"))
	if err != nil {
		return "", "", nil, fmt.Errorf("labelSelector: %w", err)
	}
	return namespace, metric, selector, nil
}

// Online asks for a metric that need not exist.
func (c *Client) Online(ctx context.Context) error {
	_, err := c.first(ctx, "kube-system", "dummy-metric", labels.Everything())
	var status *outbound.StatusError
	if errors.Is(err, provider.ErrNoValues) || errors.As(err, &status) && status.Code == http.StatusNotFound && isStatus(status.Body) {
		return nil
	}
	return err
}

// isStatus tells the answer of an adapter, that there is no such metric, from that of an API server that knows no adapter.
func isStatus(body string) bool { return strings.Contains(body, `"kind":"Status"`) }

func (c *Client) first(ctx context.Context, namespace, metric string, selector labels.Selector) (float64, error) {
	path := "/apis/" + v1beta1.SchemeGroupVersion.String() + "/namespaces/" + url.PathEscape(namespace) + "/" + url.PathEscape(metric)
	var list v1beta1.ExternalMetricValueList
	if err := c.http.Get(ctx, path, url.Values{"labelSelector": {selector.String()}}, &list); err != nil {
		return 0, err
	}
	if len(list.Items) == 0 {
		return 0, provider.ErrNoValues
	}
	return provider.Finite(list.Items[0].Value.AsApproximateFloat64())
}
