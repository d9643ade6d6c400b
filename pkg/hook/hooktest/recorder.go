// Package hooktest has a caller of webhooks for tests.
package hooktest

import (
	"context"
	"slices"
	"sync"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
)

// Bad is the name of the webhooks that a Recorder answers with no.
const Bad = "bad"

// Call is a call of a webhook.
type Call struct {
	URL     string
	Payload hook.Payload
	// Key is the idempotency key.
	Key string
}

// Recorder calls nobody and records what it would send.
type Recorder struct {
	mu    sync.Mutex
	calls []Call
}

// Call passes, but for a webhook named Bad.
func (r *Recorder) Call(_ context.Context, h v1beta1.CanaryWebhook, payload hook.Payload, key string) hook.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, Call{URL: h.URL, Payload: payload, Key: key})
	if h.Name == Bad {
		return hook.Result{Text: "no thanks"}
	}
	return hook.Result{Passed: true}
}

// CallAll calls webhooks in their order, with keys of their own.
func (r *Recorder) CallAll(ctx context.Context, all []v1beta1.CanaryWebhook, payload hook.Payload, key string) []hook.Result {
	return hook.InOrder(all, func(h v1beta1.CanaryWebhook) hook.Result { return r.Call(ctx, h, payload, key+"/"+h.Name) })
}

// Calls returns all calls so far, in order.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Checksums returns the checksums that were sent so far.
func (r *Recorder) Checksums() []string {
	var all []string
	for _, call := range r.Calls() {
		all = append(all, call.Payload.Checksum)
	}
	return all
}
