package metrics

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/prometheus"
	"flagger.app/flagger/pkg/metrics/provider"
)

// secretAge is how long the Secret of the Server is good for. All Canaries ask by it, several times in an interval of no less than
// that.
const secretAge = 10 * time.Second

// Server is the Prometheus of built-in metrics and inline queries for Canaries without spec.metricsServer. What follows the address
// is for this server alone: a Canary that names another could send its credentials anywhere.
type Server struct {
	// Address is the flag -metrics-server.
	Address string
	// Secret holds its credentials, under the keys that the back-end prometheus has for templates. No name is none.
	Secret types.NamespacedName
	// Headers go with each query.
	Headers map[string][]string
	// SkipVerify accepts any certificate.
	SkipVerify bool
	// Region is the one to sign requests to Amazon for. Default: they are not signed.
	Region string
}

// remembered is what a Secret held when it was read.
type remembered struct {
	mu   sync.Mutex
	at   time.Time
	data map[string][]byte
	err  error
}

// read reads anew what is too old. A Secret that can't be read for now stays what it was; one that is gone is none.
func (r *remembered) read(ctx context.Context, from Secrets, name types.NamespacedName, clock clock.PassiveClock) (map[string][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := clock.Now(); r.at.IsZero() || now.Sub(r.at) >= secretAge {
		data, err := from.SecretData(ctx, name.Namespace, name.Name)
		r.at = now
		if err == nil || r.data == nil || apierrors.IsNotFound(err) {
			r.data, r.err = data, err
		}
	}
	return r.data, r.err
}

// metricsServer is the Prometheus of built-in metrics and inline queries, and the field that its address comes from.
func (e *Evaluator) metricsServer(ctx context.Context, c *v1beta1.Canary) (*connection, string, error) {
	if c.Spec.MetricsServer != "" {
		return e.serverAt(provider.Config{Spec: v1beta1.MetricTemplateProvider{Address: c.Spec.MetricsServer}}, "spec.metricsServer")
	}
	return e.defaultServer(ctx)
}

func (e *Evaluator) defaultServer(ctx context.Context) (*connection, string, error) {
	cfg := provider.Config{Spec: v1beta1.MetricTemplateProvider{
		Address: e.Server.Address, Headers: e.Server.Headers, InsecureSkipVerify: e.Server.SkipVerify, Region: e.Server.Region,
	}}
	const field = "the operator's flag -metrics-server (or set spec.metricsServer)"
	if secret := e.Server.Secret; secret.Name != "" {
		ctx, cancel := context.WithTimeout(ctx, e.limit())
		defer cancel()
		data, err := e.secret.read(ctx, e.Secrets, secret, e.clock())
		if err != nil {
			return nil, field, fmt.Errorf("Error building Prometheus client for %s secret %s error: %w; correct the operator's flag -metrics-server-secret",
				Redacted(e.Server.Address), secret, err)
		}
		cfg.Spec.SecretRef, cfg.Credentials = &corev1.LocalObjectReference{Name: secret.String()}, data
	}
	return e.serverAt(cfg, field)
}

func (e *Evaluator) serverAt(cfg provider.Config, field string) (*connection, string, error) {
	cfg.Spec.Type = prometheus.Type
	p, err := e.connect(cfg)
	if err != nil {
		return nil, field, fmt.Errorf("Error building Prometheus client for %s %w; correct %s", Redacted(cfg.Spec.Address), err, field)
	}
	return p, field, nil
}

// CheckServer tells early about a Server that can't be asked.
func (e *Evaluator) CheckServer(ctx context.Context) error {
	p, _, err := e.defaultServer(ctx)
	if err != nil {
		return err
	}
	return e.online(ctx, p)
}

// Redacted hides a password; what is no URL is not shown at all, because nobody knows where a password would be in it.
func Redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "this address:"
	}
	return u.Redacted()
}
