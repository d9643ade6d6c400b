package controller

import (
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/tracing"
)

// What a rollout did is one trace: its steps, webhooks and writes.
func TestRolloutIsTraced(t *testing.T) {
	inBubble(func(t *testing.T) {
		a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
		a.edit(canaryResource, "podinfo", []any{map[string]any{"name": "load", "type": "rollout", "url": "http://load"}}, "spec", "analysis", "webhooks")
		spans := tracetest.NewInMemoryExporter()
		l := newLoop(t, a, 1, func(cfg *Config) { cfg.Tracer = tracing.New(cfg.Clock, sdktrace.WithSyncer(spans)) })
		l.start()
		l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
		a.paint("podinfo", "blue")
		l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
		l.untilIdle()
		var root tracetest.SpanStub
		for _, s := range spans.GetSpans() {
			if s.Name == "rollout" {
				root = s
			}
		}
		found := map[string]int{}
		for _, s := range spans.GetSpans() {
			if s.SpanContext.TraceID() == root.SpanContext.TraceID() && s.Parent.SpanID() == root.SpanContext.SpanID() {
				kind, _, _ := strings.Cut(s.Name, " ")
				found[kind]++
			}
		}
		if !root.SpanContext.IsValid() || found["step"] == 0 || found["webhook"] == 0 || found["write"] == 0 {
			t.Errorf("the rollout has the spans %v", found)
		}
		if took := root.EndTime.Sub(root.StartTime); took < 10e9 {
			t.Errorf("it took %s", took)
		}
	})(t)
}
