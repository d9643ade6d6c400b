// Package keptn reads KeptnMetrics and runs Analyses of Keptn, by the API server.
package keptn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/provider"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "keptn"

const (
	// timeout is how long an Analysis may take, and poll how often it is looked at, both as in Flagger.
	timeout = 10 * time.Second
	poll    = time.Second
	// cleanUp is how long the deletion of an Analysis may take.
	cleanUp = 5 * time.Second
	// defaultTimeframe is what an Analysis looks back on.
	defaultTimeframe = "1m"
)

// Client is a provider.Provider for one cluster.
type Client struct {
	kube  dynamic.Interface
	clock clock.Clock
}

var (
	_ provider.Provider = (*Client)(nil)
	_ provider.Patient  = (*Client)(nil)
)

// New returns the Factory. Templates need neither address nor Secret. Kube may be nil outside of a cluster.
func New(kube dynamic.Interface, clock clock.Clock) provider.Factory {
	return func(provider.Config) (provider.Provider, error) {
		if kube == nil {
			return nil, errors.New("keptn is asked by the API server, and the operator has none")
		}
		return &Client{kube: kube, clock: clock}, nil
	}
}

// Timeout is 10 seconds for an Analysis and what it takes to delete it.
func (*Client) Timeout() time.Duration { return timeout + cleanUp }

func resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "metrics.keptn.sh", Version: "v1beta1", Resource: name}
}

// request is a parsed query.
type request struct {
	analysis                   bool
	namespace, name, timeframe string
	args                       map[string]any
}

// parse reads <kind>/<namespace>/<name>[/<timeframe>[/<key>=<value>;…]]. Kind, namespace and name are not case-sensitive.
func parse(query string) (request, error) {
	parts := strings.SplitN(strings.TrimSpace(query), "/", 5)
	if len(parts) < 3 {
		return request{}, fmt.Errorf("%.100q is not like <kind>/<namespace>/<name>", query)
	}
	r := request{namespace: strings.ToLower(parts[1]), name: strings.ToLower(parts[2]), timeframe: defaultTimeframe, args: map[string]any{}}
	switch strings.ToLower(parts[0]) {
	case "keptnmetric", "keptnmetrics":
	case "analysis", "analyses":
		r.analysis = true
	default:
		return request{}, fmt.Errorf("kind %.100q is neither keptnmetric nor analysis", parts[0])
	}
	if len(parts) > 3 {
		r.timeframe = cmp.Or(parts[3], defaultTimeframe)
	}
	if len(parts) > 4 {
		for pair := range strings.SplitSeq(parts[4], ";") {
			if key, value, ok := strings.Cut(pair, "="); ok && !strings.Contains(value, "=") {
				r.args[key] = value
			}
		}
	}
	return r, nil
}

// Query returns status.value of a KeptnMetric, or 1 for an Analysis that passes and 0 for one that fails.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	r, err := parse(query)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	if r.analysis {
		return c.evaluate(ctx, r)
	}
	return c.metric(ctx, r)
}

func (c *Client) metric(ctx context.Context, r request) (float64, error) {
	id := "KeptnMetric " + r.namespace + "/" + r.name
	found, err := c.kube.Resource(resource("keptnmetrics")).Namespace(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", id, err)
	}
	text, _, err := unstructured.NestedString(found.Object, "status", "value")
	if err != nil || text == "" {
		return 0, fmt.Errorf("%s has no status.value: %w", id, provider.ErrNoValues)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: status.value %.40q is not a number", id, text)
	}
	return provider.Finite(value)
}

// evaluate makes an Analysis, waits for its end and deletes it.
func (c *Client) evaluate(ctx context.Context, r request) (float64, error) {
	analyses := c.kube.Resource(resource("analyses")).Namespace(r.namespace)
	name := r.name + "-" + rand.String(6)
	id := "Analysis " + r.namespace + "/" + name
	wanted := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource("").GroupVersion().String(), "kind": "Analysis",
		"metadata": map[string]any{"name": name, "namespace": r.namespace},
		"spec": map[string]any{
			"timeframe": map[string]any{"recent": r.timeframe}, "args": r.args,
			"analysisDefinition": map[string]any{"name": r.name},
		},
	}}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := analyses.Create(limited, wanted, metav1.CreateOptions{})
	// An answer that got lost may have been yes.
	defer func() {
		deletion, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		_ = analyses.Delete(deletion, name, metav1.DeleteOptions{})
	}()
	if err != nil {
		return 0, fmt.Errorf("%s can't be made: %w", id, err)
	}
	for {
		found, err := analyses.Get(limited, name, metav1.GetOptions{})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", id, err)
		}
		if passed, done := result(found); done {
			return passed, nil
		}
		timer := c.clock.NewTimer(poll)
		select {
		case <-limited.Done():
			timer.Stop()
			return 0, fmt.Errorf("%s is not completed in time: %w", id, limited.Err())
		case <-timer.C():
		}
	}
}

func result(analysis *unstructured.Unstructured) (float64, bool) {
	state, _, _ := unstructured.NestedString(analysis.Object, "status", "state")
	pass, found, _ := unstructured.NestedBool(analysis.Object, "status", "pass")
	if state != "Completed" || !found {
		return 0, false
	}
	if pass {
		return 1, true
	}
	return 0, true
}

// Online is always true: the API server is, or nothing would ask.
func (*Client) Online(context.Context) error { return nil }
