package controller

import (
	"slices"
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
		var decided []string
		for _, s := range spans.GetSpans() {
			if s.SpanContext.TraceID() != root.SpanContext.TraceID() || s.Parent.SpanID() != root.SpanContext.SpanID() {
				continue
			}
			kind, _, _ := strings.Cut(s.Name, " ")
			found[kind]++
			for _, a := range s.Attributes {
				if s.Name == "write Status" && a.Key == "flagger.rule" {
					decided = append(decided, a.Value.AsString())
				}
			}
		}
		// The write that begins the rollout is the first that belongs to it, and the one that ends it is of it, too.
		if len(decided) < 5 || decided[0] != "start" || !slices.Contains(decided, "finalising") {
			t.Errorf("statuses were written by the rules %q", decided)
		}
		if !root.SpanContext.IsValid() || found["step"] == 0 || found["webhook"] == 0 || found["write"] == 0 {
			t.Errorf("the rollout has the spans %v", found)
		}
		if took := root.EndTime.Sub(root.StartTime); took < 10e9 {
			t.Errorf("it took %s", took)
		}
	})(t)
}
