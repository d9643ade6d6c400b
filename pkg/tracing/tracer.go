package tracing

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/provider"
)

// Tracer makes spans. A nil one makes none. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	clock    clock.PassiveClock

	mu       sync.Mutex
	canaries map[types.NamespacedName]*rollout
}

// rollout is the one that a Canary has under way, or had last.
type rollout struct {
	uid     string
	run     int64
	started time.Time
	under   bool
}

// New returns a Tracer with the options of the SDK, which say where the spans go.
func New(clock clock.PassiveClock, options ...sdktrace.TracerProviderOption) *Tracer {
	p := sdktrace.NewTracerProvider(append(options, sdktrace.WithIDGenerator(generator{}))...)
	return &Tracer{
		provider: p, tracer: p.Tracer("flagger.app/flagger"), clock: clock, canaries: map[types.NamespacedName]*rollout{},
	}
}

// Shutdown sends what was not sent yet.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// See notes how a Canary stands. At the end of a rollout its trace gets the span that all others belong to. One that was under way
// when this process began to look begins with that look.
func (t *Tracer) See(c *v1beta1.Canary) {
	if t == nil {
		return
	}
	now := &rollout{uid: string(c.UID), started: t.clock.Now(), under: underWay(c.Status.Phase)}
	if c.Status.Rollout != nil {
		now.run = c.Status.Rollout.Run
	}
	key := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
	t.mu.Lock()
	before := t.canaries[key]
	if before != nil && before.uid == now.uid && before.run == now.run && before.under {
		now.started = before.started
	}
	t.canaries[key] = now
	t.mu.Unlock()
	switch {
	case before == nil || !before.under:
	case before.uid != now.uid || before.run != now.run:
		t.root(c, before, "superseded")
	case !now.under:
		t.root(c, before, string(c.Status.Phase))
	}
}

// Forget drops a Canary that is gone.
func (t *Tracer) Forget(namespace, name string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.canaries, types.NamespacedName{Namespace: namespace, Name: name})
}

func underWay(phase v1beta1.CanaryPhase) bool {
	switch phase {
	case v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhaseWaitingPromotion, v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising:
		return true
	default:
		return false
	}
}

func (t *Tracer) root(c *v1beta1.Canary, of *rollout, outcome string) {
	ctx := context.WithValue(context.Background(), rootKey{}, identityOf(of.uid, of.run))
	_, span := t.tracer.Start(ctx, "rollout", trace.WithNewRoot(), trace.WithTimestamp(of.started), trace.WithAttributes(
		append(about(c.Namespace, c.Name), attribute.Int64("flagger.run", of.run), attribute.String("flagger.target", c.Spec.TargetRef.Name),
			attribute.String("flagger.outcome", outcome))...,
	))
	if outcome == string(v1beta1.CanaryPhaseFailed) {
		span.SetStatus(codes.Error, "the canary was taken back")
	}
	span.End(trace.WithTimestamp(t.clock.Now()))
}

// about are the attributes of all spans.
func about(namespace, name string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("k8s.namespace.name", namespace), attribute.String("flagger.canary", name)}
}

// within is a context of the rollout of a Canary: of the one under way or the last, or, where next is set and none is under way, of
// the one to come.
func (t *Tracer) within(ctx context.Context, namespace, name string, next bool) (context.Context, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.canaries[types.NamespacedName{Namespace: namespace, Name: name}]
	if of == nil {
		return ctx, false
	}
	run := of.run
	if next && !of.under {
		run++
	}
	return identityOf(of.uid, run).parent(ctx), true
}

// Webhook begins the span of a call of a webhook. What is called gets its traceparent by the context. End takes why it did not pass.
func (t *Tracer) Webhook(ctx context.Context, namespace, name string, kind v1beta1.HookType, webhook string) (_ context.Context, end func(failure string)) {
	if t == nil {
		return ctx, func(string) {}
	}
	// Whether a rollout begins is asked before it has a number.
	within, known := t.within(ctx, namespace, name, kind == v1beta1.ConfirmRolloutHook)
	if !known {
		return ctx, func(string) {}
	}
	within, span := t.start(within, "webhook "+string(kind), namespace, name, trace.SpanKindClient, attribute.String("flagger.webhook", webhook))
	return within, func(failure string) {
		if failure != "" {
			span.SetStatus(codes.Error, failure)
		}
		span.End(trace.WithTimestamp(t.clock.Now()))
	}
}

// Write begins the span of an action on the cluster.
func (t *Tracer) Write(ctx context.Context, namespace, name, action string) (_ context.Context, end func(error)) {
	if t == nil {
		return ctx, func(error) {}
	}
	within, known := t.within(ctx, namespace, name, false)
	if !known {
		return ctx, func(error) {}
	}
	within, span := t.start(within, "write "+action, namespace, name, trace.SpanKindClient)
	return within, func(err error) { t.end(span, err) }
}

// WriteStatus begins the span of the write of a status, in which a rule decided. It belongs to the rollout that the status is about,
// which begins with it maybe.
func (t *Tracer) WriteStatus(ctx context.Context, c *v1beta1.Canary, next *v1beta1.CanaryStatus, rule string) (_ context.Context, end func(error)) {
	if t == nil || next.Rollout == nil {
		return ctx, func(error) {}
	}
	within, span := t.start(identityOf(string(c.UID), next.Rollout.Run).parent(ctx), "write Status", c.Namespace, c.Name, trace.SpanKindClient,
		attribute.String("flagger.rule", rule), attribute.String("flagger.phase", string(next.Phase)))
	return within, func(err error) { t.end(span, err) }
}

// Query makes the span of a query of a back-end, which took that long until now. No data is no error of it.
func (t *Tracer) Query(c *v1beta1.Canary, backend string, err error, took time.Duration) {
	if errors.Is(err, provider.ErrNoValues) {
		err = nil
	}
	t.past(c, "check "+backend, took, err)
}

// Step makes the span of an analysis step, which took that long until now.
func (t *Tracer) Step(c *v1beta1.Canary, took time.Duration) {
	t.past(c, "step", took, nil, attribute.Int("flagger.weight", int(c.Status.CanaryWeight)), attribute.Int("flagger.iterations", int(c.Status.Iterations)),
		attribute.Int("flagger.failed_checks", int(c.Status.FailedChecks)))
}

func (t *Tracer) past(c *v1beta1.Canary, what string, took time.Duration, err error, more ...attribute.KeyValue) {
	if t == nil {
		return
	}
	within, known := t.within(context.Background(), c.Namespace, c.Name, false)
	if !known {
		return
	}
	_, span := t.tracer.Start(within, what, trace.WithTimestamp(t.clock.Now().Add(-took)), trace.WithAttributes(append(about(c.Namespace, c.Name), more...)...))
	t.end(span, err)
}

func (t *Tracer) start(ctx context.Context, what, namespace, name string, kind trace.SpanKind, more ...attribute.KeyValue) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, what, trace.WithTimestamp(t.clock.Now()), trace.WithSpanKind(kind), trace.WithAttributes(append(about(namespace, name), more...)...))
}

// end ends a span. The text of an error of a metrics server or an API server holds no secrets.
func (t *Tracer) end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End(trace.WithTimestamp(t.clock.Now()))
}
