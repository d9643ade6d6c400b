package demo

import (
	"bytes"
	"context"
	"errors"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/hack/testbed/internal/load"
)

func TestSetFlags(t *testing.T) {
	got := setFlags([]string{"-log-level=info", "--mesh-provider=istio", "-metrics-server=a"},
		map[string]string{"mesh-provider": "contour", "metrics-server": "b"})
	want := []string{"-log-level=info", "-mesh-provider=contour", "-metrics-server=b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The demo works on the manifests that users apply.
func TestManifestsOfTheTree(t *testing.T) {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	if image, err := OperatorImage(root); err != nil || image == "" {
		t.Errorf("image of the operator: %q, %v", image, err)
	}
	d := &demo{cfg: Config{Manifests: filepath.Join(root, "hack", "testbed", "demo")}}
	if err := d.readAnalysis(); err != nil {
		t.Fatal(err)
	}
	if got := d.results.servingLimit(); got != 70*time.Second {
		t.Errorf("limit of a release is %s, want 5 steps of 10 s and 20 s", got)
	}
}

func window(version, pod string, answered int) load.Window {
	return load.Window{
		Sent: answered, Answered: answered,
		Version: map[string]load.Group{version: {Answered: answered}},
		Pod:     map[string]load.Group{pod: {Answered: answered}},
	}
}

// kept is a demo in which every promise is kept.
func kept() (results, []weightSpan, load.Window) {
	r := results{
		analysis: analysis{StepWeight: 10, MaxWeight: 20, Threshold: 2}, interval: 10 * time.Second,
		noticed: 100 * time.Millisecond, serving: 40 * time.Second, promotion: 50 * time.Second, halted: true,
		promoted: window(GoodVersion, "podinfo-primary-x", 10), taken: window(GoodVersion, "podinfo-primary-x", 10),
	}
	weights := []weightSpan{
		{run: GoodVersion, wanted: 10, measured: 0.11},
		{run: GoodVersion, wanted: 20, measured: 0.16},
		{run: FaultyVersion, wanted: 10, measured: 0.10},
	}
	return r, weights, load.Window{Sent: 100}
}

func TestEachBrokenPromiseIsFound(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil  func(r *results, weights []weightSpan, total *load.Window)
		broken string
	}{
		"nothing":             {func(*results, []weightSpan, *load.Window) {}, ""},
		"old version served":  {func(r *results, _ []weightSpan, _ *load.Window) { r.promoted = window(FirstVersion, "p", 1) }, "was promoted"},
		"nobody served":       {func(r *results, _ []weightSpan, _ *load.Window) { r.promoted = load.Window{} }, "was promoted"},
		"bad one serves":      {func(r *results, _ []weightSpan, _ *load.Window) { r.taken = window(FaultyVersion, "p", 1) }, "taken back"},
		"bad one not halted":  {func(r *results, _ []weightSpan, _ *load.Window) { r.halted = false }, "taken back"},
		"bad one advanced":    {func(_ *results, w []weightSpan, _ *load.Window) { w[2].wanted, w[2].measured = 20, 0.2 }, "halted at 20 %"},
		"a loss":              {func(_ *results, _ []weightSpan, w *load.Window) { w.Lost = 1 }, "1 of 100 requests"},
		"no traffic":          {func(_ *results, _ []weightSpan, w *load.Window) { w.Sent = 0 }, "0 of 0 requests"},
		"weight off":          {func(_ *results, w []weightSpan, _ *load.Window) { w[1].measured = 0.26 }, "worst: 26.00 % at 20 %"},
		"weight not measured": {func(_ *results, w []weightSpan, _ *load.Window) { w[1].measured = math.NaN() }, "within 5 points"},
		"step left out":       {func(_ *results, w []weightSpan, _ *load.Window) { w[0].wanted, w[0].measured = 20, 0.2 }, "1 of 2 steps"},
		"noticed late":        {func(r *results, _ []weightSpan, _ *load.Window) { r.noticed = time.Second }, "noticed after 1.00 s"},
		"served late":         {func(r *results, _ []weightSpan, _ *load.Window) { r.serving = 41 * time.Second }, "served everybody after 41.0 s"},
		"never seen to serve": {func(r *results, _ []weightSpan, _ *load.Window) { r.serving = 0 }, "served everybody after 0.0 s"},
	} {
		t.Run(name, func(t *testing.T) {
			r, weights, total := kept()
			tt.spoil(&r, weights, &total)
			var broken []string
			for _, c := range r.checks(weights, total) {
				if !c.kept {
					broken = append(broken, c.text)
				}
			}
			text := strings.Join(broken, "; ")
			if tt.broken == "" && text != "" || tt.broken != "" && (len(broken) != 1 || !strings.Contains(text, tt.broken)) {
				t.Errorf("broken promises: %q, want one with %q", text, tt.broken)
			}
		})
	}
}

// measured stands for the traffic: it answers with the share it was asked for.
type measured struct{ windows [][2]time.Time }

func (m *measured) Window(from, to time.Time) load.Window {
	m.windows = append(m.windows, [2]time.Time{from, to})
	return load.Window{Pod: map[string]load.Group{"podinfo-primary-a": {Answered: 90}, "podinfo-b": {Answered: 10}}}
}

func canary(phase string, weight int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
		"phase": phase, "canaryWeight": weight,
		"conditions": []any{map[string]any{"type": "Healthy", "status": "False", "message": "waiting for pods"}},
	}}}
}

func TestTrackerMeasuresEachWeightWhenItEnds(t *testing.T) {
	begin := time.Unix(1000, 0)
	clk := clocktesting.NewFakeClock(begin)
	traffic := &measured{}
	var out bytes.Buffer
	tracker := newTracker(clk, newPrinter(&out, clk), traffic)
	tracker.begin(GoodVersion)
	tracker.measure()

	tracker.observeCanary(canary("Progressing", 10)) // after no time: not measured
	clk.Step(10 * time.Second)
	tracker.observeCanary(canary("Progressing", 10)) // no change
	tracker.observeCanary(canary("Promoting", 20))
	clk.Step(2 * time.Second) // too short to be measured
	weights, phases := tracker.finish()

	if len(weights) != 1 || weights[0].wanted != 10 || weights[0].measured != 0.1 || weights[0].run != GoodVersion {
		t.Errorf("measured %+v, want weight 10 once", weights)
	}
	want := [][2]time.Time{{begin.Add(settle), begin.Add(10 * time.Second)}}
	if diff := cmp.Diff(want, traffic.windows); diff != "" {
		t.Errorf("windows, which leave out the time to settle (-want +got):\n%s", diff)
	}
	if len(phases) != 2 || phases[0].to.Sub(phases[0].from) != 10*time.Second {
		t.Errorf("phases %+v, want Progressing for 10 s and Promoting", phases)
	}
	if !strings.Contains(out.String(), "wanted 10 %, measured 10.00 %") {
		t.Errorf("the measurement is not in the output:\n%s", out.String())
	}
}

func TestWaitSaysWhatWasSeenInstead(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	tracker := newTracker(clk, newPrinter(&bytes.Buffer{}, clk), &measured{})
	tracker.begin(GoodVersion)
	tracker.observeCanary(canary("Progressing", 10))

	result := make(chan error)
	go func() {
		result <- tracker.wait(t.Context(), clk, time.Minute, "phase Succeeded", inPhase("Succeeded", "Failed"))
	}()
	for !clk.HasWaiters() {
		runtime.Gosched()
	}
	clk.Step(time.Minute)
	err := <-result
	for _, part := range []string{"1m0s", "phase Succeeded", `"Progressing"`, "weight 10", "waiting for pods"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want %q in it", err, part)
		}
	}

	tracker.observeCanary(canary("Failed", 0))
	if err := tracker.wait(t.Context(), clk, time.Minute, "phase Succeeded", inPhase("Succeeded", "Failed")); err == nil {
		t.Error("a failed rollout is no error at once")
	}
	tracker.observeCanary(canary("Succeeded", 0))
	tracker.begin(FaultyVersion)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	if err := tracker.wait(ctx, clk, time.Minute, "phase Succeeded", inPhase("Succeeded", "Failed")); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause: phases of the run before do not count", err)
	}
}

func TestEventsOfTheRunBeforeDoNotCount(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	tracker := newTracker(clk, newPrinter(&bytes.Buffer{}, clk), &measured{})
	event := func(kind, message string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"involvedObject": map[string]any{"kind": kind}, "message": message}}
	}
	tracker.observeEvent(event("Canary", "New revision detected! Scaling up podinfo.test"))
	tracker.observeEvent(event("Pod", "Halt"))
	if _, ok := tracker.now.find("New revision"); !ok {
		t.Error("the event was not seen")
	}
	if _, ok := tracker.now.find("Halt"); ok {
		t.Error("an event about a pod was taken for one about the Canary")
	}
	tracker.begin(FaultyVersion)
	if _, ok := tracker.now.find("New revision"); ok {
		t.Error("the event of the run before is still seen")
	}
}

func TestOnlyTheFirstOfARowOfWaitsIsShown(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	var out bytes.Buffer
	tracker := newTracker(clk, newPrinter(&out, clk), &measured{})
	for _, message := range []string{
		"a not ready: waiting for rollout to finish: 0 of 2",
		"a not ready: waiting for rollout to finish: 1 of 2",
		"b not ready: waiting for rollout to finish: 1 of 2",
		"Advance",
		"Advance",
		"b not ready: waiting for rollout to finish: 0 of 2",
	} {
		tracker.observeEvent(&unstructured.Unstructured{Object: map[string]any{
			"involvedObject": map[string]any{"kind": "Canary"}, "message": message,
		}})
	}
	if shown := strings.Count(out.String(), "\n"); shown != 5 || len(tracker.now.events) != 6 {
		t.Errorf("%d shown of %d, want 5 of 6:\n%s", shown, len(tracker.now.events), out.String())
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string][]string{
		"short":               {"short"},
		"exactly te":          {"exactly te"},
		"a few words more":    {"a few", "words more"},
		"unbreakablylong":     {"unbreakablylong"},
		"  wanted 10 percent": {"  wanted", "10 percent"},
	} {
		if diff := cmp.Diff(want, wrap(text, 10)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
