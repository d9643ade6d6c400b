package controller

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/hook/hooktest"
	"flagger.app/flagger/pkg/router/services"
)

// gated is a Canary of a Deployment of the same name with a gate in front of its rollouts.
func gated(name string, gate map[string]any) *unstructured.Unstructured {
	canary := canaryFor(name)
	gate["type"], gate["url"] = "confirm-rollout", "http://gate.test/"
	withWebhooks(canary, gate)
	return canary
}

// paint changes the template of a Deployment.
func (a *api) paint(name, color string) {
	a.t.Helper()
	a.edit(deploymentResource, name, color, "spec", "template", "metadata", "labels", "color")
}

// A-06, invariant 3: what is approved is the revision that was asked about. Nothing interrupts a question about a Service, so
// that the approval arrives when the target is another one already.
func TestA06_ApprovalOfAServiceIsForOneRevision(t *testing.T) {
	synctest.Test(t, testA06_ApprovalOfAServiceIsForOneRevision)
}

func testA06_ApprovalOfAServiceIsForOneRevision(t *testing.T) {
	service := usersService("podinfo")
	canary := gated("podinfo", map[string]any{"name": "gate", "timeout": "5m"})
	canary.Object["spec"].(map[string]any)["targetRef"] = map[string]any{"apiVersion": "v1", "kind": "Service", "name": "podinfo"}
	a := newAPI(t, service, canary)
	l := newLoop(t, a, 1)
	asked, approvals := make(chan struct{}, 10), make(chan hook.Result)
	var calls atomic.Int32
	l.hooks.answer = func(context.Context, v1beta1.CanaryWebhook) hook.Result {
		asked <- struct{}{}
		if calls.Add(1) == 1 {
			// It does not hear that nobody wants to know any more.
			return <-approvals
		}
		return hook.Result{Text: "no"}
	}
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(serviceResource, "podinfo", "two", "spec", "selector", "app")
	<-asked
	a.edit(serviceResource, "podinfo", "three", "spec", "selector", "app")
	eventually(t, "the cache to show the newer revision", func() bool {
		u, err := l.main.Get(services.Ref("test", "podinfo"))
		if err != nil {
			t.Fatal(err)
		}
		selector, _, _ := unstructured.NestedString(u.Object, "spec", "selector", "app")
		return selector == "three"
	})
	approvals <- hook.Result{Passed: true}
	l.untilPhase("podinfo", v1beta1.CanaryPhaseWaiting)
	l.untilIdle()
	if got := l.phase("podinfo"); got != v1beta1.CanaryPhaseWaiting {
		t.Errorf("phase %s: the approval of two was taken for one of three", got)
	}
}

// B-04: the checksum that a gate gets belongs to the revision that waits for it, however it is written.
func TestB04_GateIsToldTheRevisionThatWaits(t *testing.T) {
	synctest.Test(t, testB04_GateIsToldTheRevisionThatWaits)
}

func testB04_GateIsToldTheRevisionThatWaits(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), gated("podinfo", map[string]any{"name": "bad"}))
	calls := &hooktest.Recorder{}
	l := newLoop(t, a, 1, func(c *Config) { c.Hooks = calls }).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	told := func(color string) string {
		l.untilIdle()
		before := len(calls.Checksums())
		a.paint("podinfo", color)
		l.until("a question about "+color, func() bool { return len(calls.Checksums()) > before })
		return calls.Checksums()[before]
	}
	blue, green, again := told("blue"), told("green"), told("blue")
	if blue == "" || blue == green || blue != again {
		t.Errorf("asked about blue with %q, then with %q, and about green with %q", blue, again, green)
	}
}

// Contract section 5.2: a gate that is told to be quiet alerts nobody, and stays a gate.
func TestMutedGateAlertsNobody(t *testing.T) { synctest.Test(t, testMutedGateAlertsNobody) }

func testMutedGateAlertsNobody(t *testing.T) {
	const alert = "Canary is waiting for approval."
	for _, muted := range []bool{false, true} {
		a := newAPI(t, readyDeployment("podinfo", 2), gated("podinfo", map[string]any{"name": "gate", "muteAlert": muted}))
		l := newLoop(t, a, 1)
		l.hooks.answer = func(context.Context, v1beta1.CanaryWebhook) hook.Result { return hook.Result{Text: "no"} }
		l.start()
		l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
		a.paint("podinfo", "blue")
		l.untilPhase("podinfo", v1beta1.CanaryPhaseWaiting)
		l.atRest("podinfo")
		if slices.Contains(l.notifier.sent(), alert) == muted {
			t.Errorf("muted: %t, alerts %q", muted, l.notifier.sent())
		}
	}
}

// scrape lists the series about Canaries, without the buckets of histograms.
func (l *loop) scrape() []string {
	w := httptest.NewRecorder()
	l.Telemetry.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var series []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "flagger_canary") && !strings.Contains(line, "_bucket{") {
			series = append(series, strings.TrimSpace(line))
		}
	}
	return series
}

// Incidents B9, B20 and B25, B-29: a reading decides about a rollout, its end and its numbers reach those who collect them, and
// they go with the Canary.
func TestB29_NumbersOfARolloutAreServedAndGo(t *testing.T) {
	const labels = `deployment_strategy="blue-green",name="podinfo",namespace="test"} 1`
	for name, c := range map[string]struct {
		value  float64
		end    v1beta1.CanaryPhase
		series []string
	}{
		"good": {100, v1beta1.CanaryPhaseSucceeded, []string{
			`flagger_canary_successes_total{analysis_status="completed",` + labels,
			`flagger_canary_status{name="podinfo",namespace="test"} 1`,
			`flagger_canary_phase{name="podinfo",namespace="test",phase="Succeeded"} 1`,
			`flagger_canary_metric_analysis{metric="errors",name="podinfo",namespace="test"} 100`,
		}},
		"bad": {98, v1beta1.CanaryPhaseFailed, []string{
			`flagger_canary_failures_total{analysis_status="completed",` + labels,
			`flagger_canary_status{name="podinfo",namespace="test"} 2`,
			`flagger_canary_phase{name="podinfo",namespace="test",phase="Failed"} 1`,
			`flagger_canary_metric_analysis{metric="errors",name="podinfo",namespace="test"} 98`,
			`flagger_canary_checks_total{metric="errors",name="podinfo",namespace="test",outcome="fail"} 1`,
		}},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
			l := newLoop(t, a, 1)
			a.edit(canaryResource, "podinfo", []any{map[string]any{"name": "errors", "query": "x"}}, "spec", "analysis", "metrics")
			l.metrics.readings = []analysis.Reading{{
				Metric: v1beta1.CanaryMetric{Name: "errors", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: new(99.0)}},
				Source: analysis.Inline, State: analysis.Value, Value: c.value,
			}}
			l.start()
			l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
			a.paint("podinfo", "blue")
			l.until("an end", func() bool {
				p := l.phase("podinfo")
				return p == v1beta1.CanaryPhaseSucceeded || p == v1beta1.CanaryPhaseFailed
			})
			if got := l.phase("podinfo"); got != c.end {
				t.Errorf("phase %s with a reading of %v", got, c.value)
			}
			l.atRest("podinfo")
			l.untilIdle()
			got := l.scrape()
			for _, want := range append(c.series,
				`flagger_canary_weight{namespace="test",workload="podinfo-primary"} 100`,
				`flagger_canary_weight{namespace="test",workload="podinfo"} 0`) {
				if !slices.Contains(got, want) {
					t.Errorf("no %s in %q", want, got)
				}
			}
			if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "flagger_canary_duration_seconds_count{") }) {
				t.Errorf("no durations in %q", got)
			}
			if !slices.ContainsFunc(got, func(s string) bool {
				return strings.HasPrefix(s, `flagger_canary_phase_seconds_total{name="podinfo",namespace="test",phase="Progressing",wait="none"}`)
			}) {
				t.Errorf("no time in the phases in %q", got)
			}
			if err := a.client.Tracker().Delete(canaryResource, "test", "podinfo"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the series to go", func() bool { return len(l.scrape()) == 0 })
		}))
	}
}
