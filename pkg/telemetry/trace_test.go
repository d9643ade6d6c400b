package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/tracing"
)

// What a webhook calls can go on with the trace of the rollout. Without a tracer no header tells of one.
func TestWebhooksGetTheTrace(t *testing.T) {
	var traceparent string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { traceparent = r.Header.Get("traceparent") }))
	defer server.Close()
	c := canary("one", "a-canary", "a")
	c.Status.Phase, c.Status.Rollout = v1beta1.CanaryPhaseProgressing, &v1beta1.RolloutStatus{Run: 1}
	spans := tracetest.NewInMemoryExporter()
	hooks := &Hooks{Caller: hook.NewCaller(clock.RealClock{}), Recorder: New("1", "istio"), Clock: clock.RealClock{}}
	call := func() {
		hooks.Call(t.Context(), v1beta1.CanaryWebhook{Name: "load", URL: server.URL}, hook.Payload{Namespace: "one", Name: "a-canary"}, "key")
	}
	call()
	if traceparent != "" {
		t.Errorf("traceparent %q without a tracer", traceparent)
	}
	hooks.Tracer = tracing.New(clock.RealClock{}, sdktrace.WithSyncer(spans))
	hooks.Tracer.See(c)
	call()
	all := spans.GetSpans()
	if len(all) != 1 || all[0].Name != "webhook rollout" {
		t.Fatalf("got %v", all)
	}
	of := all[0].SpanContext
	if want := "00-" + of.TraceID().String() + "-" + of.SpanID().String() + "-01"; traceparent != want {
		t.Errorf("traceparent %q, want %q", traceparent, want)
	}
	if all[0].EndTime.Sub(all[0].StartTime) > time.Minute {
		t.Errorf("it took %s", all[0].EndTime.Sub(all[0].StartTime))
	}
}
