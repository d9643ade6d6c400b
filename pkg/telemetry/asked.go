package telemetry

import (
	"cmp"
	"context"
	"errors"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/tracing"
)

// known runs do with the name of the target of a Canary that exists. What is heard late of one that is gone, such as the answer of a
// webhook that was told of its end, must not bring its series back.
func (r *Recorder) known(namespace, name string, do func(target string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if of, ok := r.targets[object{namespace, name}]; ok {
		do(of.target)
	}
}

// Checks counts the outcomes of an analysis step for each of its metrics.
func (r *Recorder) Checks(c *v1beta1.Canary, verdicts []v1beta1.MetricVerdict) {
	r.observe(c, func(target string) {
		for _, v := range verdicts {
			r.vectors.counters[nameChecks].WithLabelValues(target, c.Namespace, v.Name, v.Outcome).Inc()
		}
	})
}

// Query records a query of a back-end of the given type.
func (r *Recorder) Query(c *v1beta1.Canary, backend string, err error, took time.Duration) {
	result := "value"
	switch {
	case errors.Is(err, provider.ErrNoValues):
		result = "no_data"
	case err != nil:
		result = "error"
	}
	r.known(c.Namespace, c.Name, func(target string) {
		r.vectors.histograms[nameQueries].WithLabelValues(target, c.Namespace, backend, result).Observe(took.Seconds())
	})
}

// Alert counts an alert. An error is that of its receivers.
func (r *Recorder) Alert(c *v1beta1.Canary, err error) {
	result := "delivered"
	if err != nil {
		result = "failed"
	}
	r.known(c.Namespace, c.Name, func(target string) {
		r.vectors.counters[nameAlerts].WithLabelValues(target, c.Namespace, result).Inc()
	})
}

// Caller calls one webhook.
type Caller interface {
	Call(ctx context.Context, h v1beta1.CanaryWebhook, payload hook.Payload, key string) hook.Result
}

// Hooks records what calls of webhooks come to, and traces them.
type Hooks struct {
	Caller   Caller
	Recorder *Recorder
	// Tracer may be nil.
	Tracer *tracing.Tracer
	Clock  clock.PassiveClock
}

// Call calls a webhook.
func (h *Hooks) Call(ctx context.Context, webhook v1beta1.CanaryWebhook, payload hook.Payload, key string) hook.Result {
	since := h.Clock.Now()
	within, end := h.Tracer.Webhook(ctx, payload.Namespace, payload.Name, webhook.GetType(), webhook.Name)
	result := h.Caller.Call(within, webhook, payload, key)
	outcome, failure := "passed", ""
	if !result.Passed {
		outcome, failure = "failed", cmp.Or(result.Text, "it did not pass")
	}
	end(failure)
	if ctx.Err() != nil {
		// Nobody wanted the answer any more.
		return result
	}
	h.Recorder.known(payload.Namespace, payload.Name, func(target string) {
		h.Recorder.vectors.histograms[nameHooks].WithLabelValues(target, payload.Namespace, string(webhook.GetType()), outcome).
			Observe(h.Clock.Since(since).Seconds())
	})
	return result
}

// CallAll calls webhooks of one type as hook.Caller does.
func (h *Hooks) CallAll(ctx context.Context, webhooks []v1beta1.CanaryWebhook, payload hook.Payload, key string) []hook.Result {
	return hook.InOrder(webhooks, func(one v1beta1.CanaryWebhook) hook.Result { return h.Call(ctx, one, payload, key+"/"+one.Name) })
}
