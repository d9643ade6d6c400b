package telemetry

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/metrics/provider"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

func canary(namespace, name, target string) *v1beta1.Canary {
	c := &v1beta1.Canary{}
	c.Namespace, c.Name = namespace, name
	c.Spec.TargetRef.Name = target
	return c
}

// scrape returns the sample lines of the operator's own metrics, without histogram buckets.
func scrape(t *testing.T, r *Recorder) []string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "flagger_") && !strings.Contains(line, "_bucket{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestMetrics(t *testing.T) {
	r := New("1.2.3", "istio")
	c := canary("test", "podinfo-canary", "podinfo")
	r.See(c)
	r.Phase(c, v1beta1.CanaryPhaseProgressing)
	r.Weights(c, 90, 10)
	r.Readings(c, []analysis.Reading{
		{Metric: v1beta1.CanaryMetric{Name: "request-success-rate"}, Source: analysis.SuccessRate, State: analysis.Value, Value: 99.5},
		{Metric: v1beta1.CanaryMetric{Name: "request-duration"}, Source: analysis.Duration, State: analysis.Value, Value: 1500},
		{Metric: v1beta1.CanaryMetric{Name: "errors"}, Source: analysis.Template, State: analysis.NoData},
		{Metric: v1beta1.CanaryMetric{Name: "latency"}, Source: analysis.Template, State: analysis.Value, Value: 7},
	})
	r.Duration(c, 1500*time.Millisecond)
	r.Succeeded(c, false)
	r.Succeeded(c, false)
	r.Succeeded(c, true)
	bg := canary("test", "b", "b")
	bg.Spec.Analysis = &v1beta1.CanaryAnalysis{Iterations: 5}
	r.Failed(bg)
	r.Decision("start")
	r.Decision("start")
	want := []string{
		`flagger_canary_duration_seconds_sum{name="podinfo",namespace="test"} 1.5`,
		`flagger_canary_duration_seconds_count{name="podinfo",namespace="test"} 1`,
		`flagger_canary_failures_total{analysis_status="completed",deployment_strategy="blue-green",name="b",namespace="test"} 1`,
		`flagger_canary_healthy{name="podinfo",namespace="test",reason="Healthy"} 1`,
		`flagger_canary_metric_analysis{metric="latency",name="podinfo",namespace="test"} 7`,
		`flagger_canary_metric_analysis{metric="request-duration",name="podinfo",namespace="test"} 1.5`,
		`flagger_canary_metric_analysis{metric="request-success-rate",name="podinfo",namespace="test"} 99.5`,
		`flagger_canary_phase{name="podinfo",namespace="test",phase="Progressing"} 1`,
		`flagger_canary_status{name="podinfo",namespace="test"} 0`,
		`flagger_canary_successes_total{analysis_status="completed",deployment_strategy="canary",name="podinfo",namespace="test"} 2`,
		`flagger_canary_successes_total{analysis_status="skipped",deployment_strategy="canary",name="podinfo",namespace="test"} 1`,
		`flagger_canary_total{namespace="test"} 2`,
		`flagger_canary_weight{namespace="test",workload="podinfo"} 10`,
		`flagger_canary_weight{namespace="test",workload="podinfo-primary"} 90`,
		`flagger_info{mesh_provider="istio",version="1.2.3"} 1`,
		`flagger_rule_total{rule="start"} 2`,
	}
	if diff := cmp.Diff(want, scrape(t, r)); diff != "" {
		t.Error(diff)
	}
}

// B-07: only 0, 1 and 2 exist, and everything that neither progresses nor failed is 1.
func TestB07Status(t *testing.T) {
	for phase, want := range map[v1beta1.CanaryPhase]string{
		v1beta1.CanaryPhaseInitializing: "1", v1beta1.CanaryPhaseInitialized: "1", v1beta1.CanaryPhaseWaiting: "1",
		v1beta1.CanaryPhaseProgressing: "0", v1beta1.CanaryPhaseWaitingPromotion: "1", v1beta1.CanaryPhasePromoting: "1",
		v1beta1.CanaryPhaseFinalising: "1", v1beta1.CanaryPhaseSucceeded: "1", v1beta1.CanaryPhaseFailed: "2",
	} {
		r := New("", "")
		c := canary("test", "a", "a")
		r.Phase(c, v1beta1.CanaryPhaseProgressing)
		r.Phase(c, phase)
		got := scrape(t, r)
		if !slices.Contains(got, `flagger_canary_status{name="a",namespace="test"} `+want) {
			t.Errorf("%s: %q, want %s", phase, got, want)
		}
		if !slices.Contains(got, `flagger_canary_phase{name="a",namespace="test",phase="`+string(phase)+`"} 1`) {
			t.Errorf("%s: %q has no such phase", phase, got)
		}
		if n := strings.Count(strings.Join(got, "\n"), "flagger_canary_phase{"); n != 1 {
			t.Errorf("%s: %d phases", phase, n)
		}
	}
}

func everything(r *Recorder, c *v1beta1.Canary) {
	r.Phase(c, v1beta1.CanaryPhaseSucceeded)
	r.Weights(c, 100, 0)
	r.Split(dividing(c, 40, 60))
	r.Readings(c, []analysis.Reading{{Metric: v1beta1.CanaryMetric{Name: "m"}, State: analysis.Value, Value: 1}})
	r.Duration(c, time.Second)
	r.Succeeded(c, false)
	r.Failed(c)
	r.Checks(c, []v1beta1.MetricVerdict{{Name: "m", Outcome: "pass"}})
	started := time.Unix(1000, 0)
	waiting := c.DeepCopy()
	waiting.Status.Phase = v1beta1.CanaryPhaseWaiting
	r.Spent(waiting, started)
	r.Spent(c, started.Add(time.Second))
	late(r, c)
}

// dividing is the same Canary in a rollout whose last check counted so many requests.
func dividing(c *v1beta1.Canary, canary, primary int64) *v1beta1.Canary {
	c = c.DeepCopy()
	c.Status.Phase = v1beta1.CanaryPhaseProgressing
	c.Status.Rollout = &v1beta1.RolloutStatus{Run: 3, Checks: &v1beta1.ChecksStatus{Run: 3, Split: &v1beta1.SplitStatus{CanaryRequests: canary, PrimaryRequests: primary}}}
	return c
}

// The share is that of the run under way, and no more than that.
func TestMeasuredShare(t *testing.T) {
	c := canary("test", "podinfo", "podinfo")
	share := func(r *Recorder) (lines []string) {
		for _, line := range scrape(t, r) {
			if strings.HasPrefix(line, "flagger_canary_measured_weight") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	for name, after := range map[string]func(c *v1beta1.Canary){
		"the end of the run": func(c *v1beta1.Canary) { c.Status.Phase = v1beta1.CanaryPhaseSucceeded },
		"another run":        func(c *v1beta1.Canary) { c.Status.Rollout.Run++ },
		"no requests":        func(c *v1beta1.Canary) { c.Status.Rollout.Checks.Split = &v1beta1.SplitStatus{} },
		"no share asked for": func(c *v1beta1.Canary) { c.Status.Rollout.Checks.Split = nil },
		"no checks":          func(c *v1beta1.Canary) { c.Status.Rollout.Checks = nil },
	} {
		r, running := New("1", "istio"), dividing(c, 40, 60)
		r.Split(running)
		want := []string{`flagger_canary_measured_weight{namespace="test",workload="podinfo"} 40`, `flagger_canary_measured_weight{namespace="test",workload="podinfo-primary"} 60`}
		if diff := cmp.Diff(want, share(r)); diff != "" {
			t.Error(diff)
		}
		after(running)
		r.Split(running)
		if left := share(r); len(left) > 0 {
			t.Errorf("after %s: %q", name, left)
		}
	}
}

// late is what may be heard of a Canary that is gone.
func late(r *Recorder, c *v1beta1.Canary) {
	r.Query(c, "prometheus", nil, time.Second)
	r.Alert(c, nil)
	hooks := &Hooks{Caller: passing{}, Recorder: r, Clock: clocktesting.NewFakePassiveClock(time.Unix(0, 0))}
	hooks.CallAll(context.Background(), []v1beta1.CanaryWebhook{{Name: "x"}}, hook.Payload{Namespace: c.Namespace, Name: c.Name}, "key")
}

type passing struct{}

func (passing) Call(_ context.Context, h v1beta1.CanaryWebhook, _ hook.Payload, _ string) hook.Result {
	return hook.Result{Passed: h.Name != "bad"}
}

// B-29: series stayed when a Canary went, and a namespace kept its last total.
func TestB29SeriesGoWithTheCanary(t *testing.T) {
	r := New("1", "istio")
	empty := scrape(t, r)
	a, b := canary("one", "a", "a"), canary("one", "b", "b")
	everything(r, a)
	before := scrape(t, r)
	everything(r, b)
	everything(r, canary("two", "a", "a"))
	r.Forget("two", "a")
	r.Forget("one", "b")
	r.Forget("one", "b")
	r.Forget("one", "never seen")
	late(r, b)
	if diff := cmp.Diff(before, scrape(t, r)); diff != "" {
		t.Error(diff)
	}
	r.Forget("one", "a")
	if diff := cmp.Diff(empty, scrape(t, r)); diff != "" {
		t.Error(diff)
	}
}

func TestB29CanariesWithTargetsOfTheSameName(t *testing.T) {
	r := New("1", "istio")
	deployment, service := canary("one", "a", "app"), canary("one", "b", "app")
	everything(r, deployment)
	r.See(service)
	r.Forget("one", "b")
	got := scrape(t, r)
	if !slices.Contains(got, `flagger_canary_weight{namespace="one",workload="app-primary"} 100`) || !slices.Contains(got, `flagger_canary_total{namespace="one"} 1`) {
		t.Errorf("series of the other Canary are gone: %q", got)
	}
}

func TestAnotherTargetLeavesNothingBehind(t *testing.T) {
	r, fresh := New("1", "istio"), New("1", "istio")
	everything(r, canary("one", "a", "old"))
	everything(r, canary("one", "a", "new"))
	everything(fresh, canary("one", "a", "new"))
	if diff := cmp.Diff(scrape(t, fresh), scrape(t, r)); diff != "" {
		t.Error(diff)
	}
}

func TestB29SeriesGoWithTheMetric(t *testing.T) {
	r := New("1", "istio")
	c := canary("one", "a", "a")
	value := func(name string, state analysis.State) analysis.Reading {
		return analysis.Reading{Metric: v1beta1.CanaryMetric{Name: name}, State: state, Value: 1}
	}
	r.Readings(c, []analysis.Reading{value("old", analysis.Value), value("kept", analysis.Value)})
	r.Readings(c, []analysis.Reading{value("kept", analysis.Failed), value("new", analysis.Value)})
	want := []string{
		`flagger_canary_metric_analysis{metric="kept",name="a",namespace="one"} 1`,
		`flagger_canary_metric_analysis{metric="new",name="a",namespace="one"} 1`,
	}
	got := slices.DeleteFunc(scrape(t, r), func(s string) bool { return !strings.HasPrefix(s, nameAnalysis) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The wait for people is apart from the time that a rollout takes. Nobody accounts for the time before the first look.
func TestSpent(t *testing.T) {
	r, now := New("1", "istio"), time.Unix(1000, 0)
	c := canary("one", "a-canary", "a")
	for _, step := range []struct {
		phase v1beta1.CanaryPhase
		told  v1beta1.HookType
		took  time.Duration
	}{
		{v1beta1.CanaryPhaseProgressing, "", time.Minute},
		{v1beta1.CanaryPhaseProgressing, v1beta1.ConfirmTrafficIncreaseHook, time.Hour},
		{v1beta1.CanaryPhaseProgressing, "", time.Minute},
		{v1beta1.CanaryPhaseWaitingPromotion, v1beta1.ConfirmPromotionHook, 2 * time.Hour},
		{v1beta1.CanaryPhasePromoting, "", 30 * time.Second},
		{v1beta1.CanaryPhaseFinalising, "", time.Second},
		{v1beta1.CanaryPhaseSucceeded, "", 24 * time.Hour},
		{v1beta1.CanaryPhaseWaiting, "", time.Minute},
		{v1beta1.CanaryPhaseFailed, "", time.Minute},
	} {
		c.Status.Phase, c.Status.Rollout = step.phase, &v1beta1.RolloutStatus{ToldHook: step.told}
		r.Spent(c, now)
		now = now.Add(step.took)
	}
	got := slices.DeleteFunc(scrape(t, r), func(s string) bool { return !strings.HasPrefix(s, namePhaseTime) })
	want := []string{
		`flagger_canary_phase_seconds_total{name="a",namespace="one",phase="Finalising",wait="none"} 1`,
		`flagger_canary_phase_seconds_total{name="a",namespace="one",phase="Progressing",wait="approval"} 3600`,
		`flagger_canary_phase_seconds_total{name="a",namespace="one",phase="Progressing",wait="none"} 120`,
		`flagger_canary_phase_seconds_total{name="a",namespace="one",phase="Promoting",wait="none"} 30`,
		`flagger_canary_phase_seconds_total{name="a",namespace="one",phase="Waiting",wait="approval"} 60`,
		`flagger_canary_phase_seconds_total{name="a",namespace="one",phase="WaitingPromotion",wait="approval"} 7200`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is kept of the series that are there has to go with them: the next Canary with a target of that name is shown.
func TestStandingIsShownAgain(t *testing.T) {
	r := New("1", "istio")
	c := canary("one", "a", "a")
	c.Status.Conditions = []v1beta1.CanaryCondition{{Type: v1beta1.HealthyType, Status: corev1.ConditionFalse, Reason: "CanaryNotReady"}}
	everything(r, c)
	before := scrape(t, r)
	r.Forget("one", "a")
	everything(r, c)
	if diff := cmp.Diff(before, scrape(t, r)); diff != "" {
		t.Error(diff)
	}
	r.Phase(c, "")
	if got := strings.Join(scrape(t, r), "\n"); strings.Contains(got, "flagger_canary_phase{") {
		t.Errorf("a Canary without a phase has a series of one:\n%s", got)
	}
}

// What a Canary costs that changes its phase does not depend on how many there are.
func BenchmarkPhase(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("among %d", n), func(b *testing.B) {
			r := New("1", "istio")
			for i := range n {
				r.Phase(canary("one", fmt.Sprint("app-", i), fmt.Sprint("app-", i)), v1beta1.CanaryPhaseInitialized)
			}
			c := canary("one", "app-0", "app-0")
			for b.Loop() {
				r.Phase(c, v1beta1.CanaryPhaseProgressing)
				r.Phase(c, v1beta1.CanaryPhasePromoting)
			}
		})
	}
}

// There is one series, of the present reason. A Canary that nobody has found anything wrong with is healthy.
func TestHealth(t *testing.T) {
	r := New("1", "istio")
	c := canary("one", "a-canary", "a")
	for _, step := range []struct {
		conditions []v1beta1.CanaryCondition
		want       string
	}{
		{nil, `reason="Healthy"} 1`},
		{[]v1beta1.CanaryCondition{{Type: v1beta1.PromotedType, Status: corev1.ConditionFalse, Reason: "Failed"}}, `reason="Healthy"} 1`},
		{[]v1beta1.CanaryCondition{{Type: v1beta1.HealthyType, Status: corev1.ConditionFalse, Reason: "CanaryNotReady"}}, `reason="CanaryNotReady"} 0`},
		{[]v1beta1.CanaryCondition{{Type: v1beta1.HealthyType, Status: corev1.ConditionTrue, Reason: "PortNotDeclared"}}, `reason="PortNotDeclared"} 1`},
	} {
		c.Status.Conditions = step.conditions
		r.Phase(c, v1beta1.CanaryPhaseProgressing)
		got := slices.DeleteFunc(scrape(t, r), func(s string) bool { return !strings.HasPrefix(s, nameHealthy) })
		if diff := cmp.Diff([]string{nameHealthy + `{name="a",namespace="one",` + step.want}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLeads(t *testing.T) {
	r := New("1", "istio")
	for acts, want := range map[bool]string{false: "0", true: "1"} {
		r.Leads("flagger-leader-election", acts)
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if line := nameLeader + `{name="flagger-leader-election"} ` + want + "\n"; !strings.Contains(w.Body.String(), line) {
			t.Errorf("acts %t: no %s", acts, line)
		}
	}
}

func TestWhatIsAsked(t *testing.T) {
	r := New("1", "istio")
	c := canary("one", "a-canary", "a")
	r.See(c)
	for _, err := range []error{nil, nil, fmt.Errorf("x: %w", provider.ErrNoValues), errors.New("down")} {
		r.Query(c, "datadog", err, 2*time.Second)
		r.Alert(c, err)
	}
	r.Checks(c, []v1beta1.MetricVerdict{
		{Name: "errors", Outcome: "pass"}, {Name: "errors", Outcome: "fail"}, {Name: "errors", Outcome: "fail"}, {Name: "errors", Outcome: "error"},
	})
	hooks := &Hooks{Caller: passing{}, Recorder: r, Clock: clocktesting.NewFakePassiveClock(time.Unix(0, 0))}
	payload := hook.Payload{Namespace: "one", Name: "a-canary"}
	hooks.Call(t.Context(), v1beta1.CanaryWebhook{Name: "e", Type: v1beta1.EventHook}, payload, "k")
	hooks.CallAll(t.Context(), []v1beta1.CanaryWebhook{{Name: "good"}, {Name: "bad"}, {Name: "not called"}}, payload, "k")
	got := strings.Join(scrape(t, r), "\n")
	for _, want := range []string{
		`flagger_metric_query_duration_seconds_count{name="a",namespace="one",provider="datadog",result="value"} 2`,
		`flagger_metric_query_duration_seconds_sum{name="a",namespace="one",provider="datadog",result="no_data"} 2`,
		`flagger_metric_query_duration_seconds_count{name="a",namespace="one",provider="datadog",result="error"} 1`,
		`flagger_alerts_total{name="a",namespace="one",result="delivered"} 2`,
		`flagger_alerts_total{name="a",namespace="one",result="failed"} 2`,
		`flagger_canary_checks_total{metric="errors",name="a",namespace="one",outcome="pass"} 1`,
		`flagger_canary_checks_total{metric="errors",name="a",namespace="one",outcome="fail"} 2`,
		`flagger_canary_checks_total{metric="errors",name="a",namespace="one",outcome="error"} 1`,
		`flagger_hook_duration_seconds_count{name="a",namespace="one",result="passed",type="event"} 1`,
		`flagger_hook_duration_seconds_count{name="a",namespace="one",result="passed",type="rollout"} 1`,
		`flagger_hook_duration_seconds_count{name="a",namespace="one",result="failed",type="rollout"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	r := New("1", "istio")
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			for range 50 {
				everything(r, canary("one", name, name))
				r.Forget("one", name)
			}
		})
	}
	wg.Wait()
	if got := scrape(t, r); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
}

func TestRuntimeMetricsAreServed(t *testing.T) {
	w := httptest.NewRecorder()
	New("1", "istio").Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range []string{"go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(w.Body.String(), "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
}

func TestDocs(t *testing.T) {
	const file = "../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(file, []byte(Docs()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Docs(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md is out of date, run go test ./pkg/telemetry -update: %s", diff)
	}
	names := regexp.MustCompile("(?m)^\\| `([a-z_]+)`").FindAllStringSubmatch(string(got), -1)
	if len(names) != len(definitions()) {
		t.Errorf("%d metrics are described, there are %d", len(names), len(definitions()))
	}
}
