package tracing

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/provider"
)

// process is an operator that traces.
type process struct {
	*Tracer
	clock *clocktesting.FakePassiveClock
	spans *tracetest.InMemoryExporter
}

func newProcess() *process {
	p := &process{clock: clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), spans: tracetest.NewInMemoryExporter()}
	p.Tracer = New(p.clock, sdktrace.WithSyncer(p.spans))
	return p
}

func (p *process) pass(d time.Duration) { p.clock.SetTime(p.clock.Now().Add(d)) }

func canary(phase v1beta1.CanaryPhase, run int64) *v1beta1.Canary {
	c := &v1beta1.Canary{}
	c.Namespace, c.Name, c.UID = "test", "podinfo", types.UID("7d2b")
	c.Spec.TargetRef.Name = "podinfo"
	c.Status.Phase, c.Status.Rollout = phase, &v1beta1.RolloutStatus{Run: run}
	return c
}

// names are the spans with their durations, in the order in which they ended.
func (p *process) names() []string {
	var all []string
	for _, s := range p.spans.GetSpans() {
		all = append(all, fmt.Sprintf("%s %s", s.Name, s.EndTime.Sub(s.StartTime)))
	}
	return all
}

func TestARolloutIsATrace(t *testing.T) {
	p := newProcess()
	before := canary(v1beta1.CanaryPhaseSucceeded, 1)
	p.See(before)
	_, asked := p.Webhook(t.Context(), "test", "podinfo", v1beta1.ConfirmRolloutHook, "gate")
	p.pass(time.Second)
	asked("")
	running := canary(v1beta1.CanaryPhaseProgressing, 2)
	_, stored := p.WriteStatus(t.Context(), before, &running.Status, "started")
	p.pass(time.Second)
	stored(errors.New("conflict"))
	p.See(running)
	within, called := p.Webhook(t.Context(), "test", "podinfo", v1beta1.RolloutHook, "load")
	p.pass(2 * time.Second)
	called("no thanks")
	p.Query(running, "prometheus", fmt.Errorf("x: %w", provider.ErrNoValues), time.Second)
	p.Query(running, "datadog", errors.New("down"), time.Second)
	p.Step(running, 2*time.Second)
	_, written := p.Write(t.Context(), "test", "podinfo", "SetRoutes")
	p.pass(time.Second)
	written(nil)
	p.See(canary(v1beta1.CanaryPhaseFinalising, 2))
	p.See(canary(v1beta1.CanaryPhaseSucceeded, 2))
	_, told := p.Webhook(t.Context(), "test", "podinfo", v1beta1.PostRolloutHook, "last")
	told("")

	want := []string{"webhook confirm-rollout 1s", "write Status 1s", "webhook rollout 2s", "check prometheus 1s", "check datadog 1s", "step 2s", "write SetRoutes 1s", "rollout 3s", "webhook post-rollout 0s"}
	if got := p.names(); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	spans := p.spans.GetSpans()
	root := spans[7]
	if root.Parent.IsValid() || !slices.Contains(root.Attributes, attribute.String("flagger.outcome", "Succeeded")) || root.Status.Code == codes.Error {
		t.Errorf("root %+v", root)
	}
	for _, s := range spans {
		if s.SpanContext.TraceID() != root.SpanContext.TraceID() || s.Name != "rollout" && s.Parent.SpanID() != root.SpanContext.SpanID() {
			t.Errorf("%s is not of the rollout", s.Name)
		}
		if failed := s.Status.Code == codes.Error; failed != slices.Contains([]string{"webhook rollout", "check datadog", "write Status"}, s.Name) {
			t.Errorf("%s failed: %t", s.Name, failed)
		}
	}
	if rule := attribute.String("flagger.rule", "started"); !slices.Contains(spans[1].Attributes, rule) {
		t.Errorf("the status was written by %v", spans[1].Attributes)
	}
	if got := trace.SpanContextFromContext(within); got.SpanID() != spans[2].SpanContext.SpanID() {
		t.Errorf("the webhook is called within span %s", got.SpanID())
	}
}

// A process that takes over goes on with the trace, and ends it.
func TestAnotherProcessGoesOn(t *testing.T) {
	first, second := newProcess(), newProcess()
	running := canary(v1beta1.CanaryPhaseProgressing, 3)
	first.See(running)
	first.Step(running, time.Second)
	second.See(running)
	second.Step(running, time.Second)
	second.See(canary(v1beta1.CanaryPhaseFailed, 3))
	a, b := first.spans.GetSpans(), second.spans.GetSpans()
	if len(a) != 1 || len(b) != 2 || a[0].SpanContext.TraceID() != b[1].SpanContext.TraceID() || a[0].Parent.SpanID() != b[1].SpanContext.SpanID() {
		t.Fatalf("got %q and %q", first.names(), second.names())
	}
	if b[1].Status.Code != codes.Error {
		t.Error("a rollout that failed looks well")
	}
	if other := identityOf("7d2b", 4); other.trace == a[0].SpanContext.TraceID() {
		t.Error("the next rollout has the same trace")
	}
}

func TestANewRevisionEndsTheTrace(t *testing.T) {
	p := newProcess()
	p.See(canary(v1beta1.CanaryPhaseProgressing, 1))
	p.pass(time.Minute)
	p.See(canary(v1beta1.CanaryPhaseProgressing, 2))
	p.Forget("test", "podinfo")
	p.Step(canary(v1beta1.CanaryPhaseProgressing, 2), time.Second)
	spans := p.spans.GetSpans()
	if len(spans) != 1 || !slices.Contains(spans[0].Attributes, attribute.String("flagger.outcome", "superseded")) {
		t.Errorf("got %q", p.names())
	}
}

func TestWithoutATracer(t *testing.T) {
	var off *Tracer
	c := canary(v1beta1.CanaryPhaseProgressing, 1)
	off.See(c)
	off.Step(c, time.Second)
	off.Query(c, "prometheus", nil, time.Second)
	off.Forget("test", "podinfo")
	ctx, end := off.Webhook(t.Context(), "test", "podinfo", v1beta1.RolloutHook, "x")
	end("no")
	_, written := off.Write(t.Context(), "test", "podinfo", "x")
	written(nil)
	_, stored := off.WriteStatus(t.Context(), c, &c.Status, "x")
	stored(nil)
	if err := off.Shutdown(t.Context()); err != nil || trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("it traces", err)
	}
}

// By the standard variables, which the SDK reads as well.
func TestFromEnvironment(t *testing.T) {
	var path, kind, header string
	var body []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		path, kind, header = r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("X-Tenant")
		body, _ = io.ReadAll(r.Body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=team-a")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	t.Setenv("OTEL_SERVICE_NAME", "ship")
	lookup := func(set map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { value, ok := set[name]; return value, ok }
	}
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	for name, set := range map[string]map[string]string{
		"nothing": {}, "empty": {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, "disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
		"no traces": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
	} {
		if tracer, err := FromEnvironment(t.Context(), lookup(set), "1.0", clock); tracer != nil || err != nil {
			t.Errorf("%s: %v, %v", name, tracer, err)
		}
	}
	wrong := lookup(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
	if _, err := FromEnvironment(t.Context(), wrong, "1.0", clock); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Error(err)
	}
	tracer, err := FromEnvironment(t.Context(), lookup(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}), "1.0", clock)
	if err != nil {
		t.Fatal(err)
	}
	tracer.See(canary(v1beta1.CanaryPhaseProgressing, 1))
	tracer.See(canary(v1beta1.CanaryPhaseFailed, 1))
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if path != "/v1/traces" || kind != "application/x-protobuf" || header != "team-a" || !strings.Contains(string(body), "ship") || !strings.Contains(string(body), "rollout") {
		t.Errorf("posted to %s: %s for %q: %q", path, kind, header, body)
	}
}
