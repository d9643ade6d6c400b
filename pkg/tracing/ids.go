package tracing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"go.opentelemetry.io/otel/trace"
)

// identity is a rollout in the terms of traces.
type identity struct {
	trace trace.TraceID
	root  trace.SpanID
}

// identityOf follows from the Canary and the number of its rollout alone, so that a process that takes over goes on with the same trace.
func identityOf(uid string, run int64) identity {
	var id identity
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", uid, run))
	copy(id.trace[:], sum[:])
	copy(id.root[:], sum[len(id.trace):])
	return id
}

// parent is a context whose spans belong to the rollout.
func (id identity) parent(ctx context.Context) context.Context {
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id.trace, SpanID: id.root, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

type rootKey struct{}

// generator gives a rollout its own ids, and random ones to all else.
type generator struct{}

// NewIDs is asked for the ids of spans without parent.
func (g generator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if id, ok := ctx.Value(rootKey{}).(identity); ok {
		return id.trace, id.root
	}
	var id trace.TraceID
	random(id[:])
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID is asked for the ids of all other spans.
func (generator) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var id trace.SpanID
	random(id[:])
	return id
}

// random never fails: the library ends the process where the system has no random numbers.
func random(into []byte) { _, _ = rand.Read(into) }
