package simulate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

var update = flag.Bool("update", false, "rewrite the golden traces")

func mesh() rollout.ProviderFact {
	return rollout.ProviderFact{
		Name: "istio", Weights: true, Routes: true, Mirror: true, MirrorWeight: true, Match: true, SessionAffinity: true, PrimaryCookie: true,
	}
}

func noMesh() rollout.ProviderFact { return rollout.ProviderFact{Name: "kubernetes"} }

func podinfo(edit ...func(*v1beta1.CanarySpec)) *v1beta1.Canary {
	c := &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "default"},
		Spec: v1beta1.CanarySpec{
			TargetRef: v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"},
			Service:   v1beta1.CanaryService{Port: 80},
			Analysis: &v1beta1.CanaryAnalysis{
				Interval: "60s", Threshold: 10, StepWeight: 10, MaxWeight: 50,
				Metrics: []v1beta1.CanaryMetric{{Name: v1beta1.MetricRequestSuccessRate, ThresholdRange: &v1beta1.CanaryThresholdRange{Min: new(99.0)}}},
			},
		},
	}
	for _, e := range edit {
		e(&c.Spec)
	}
	return c
}

func blueGreen(iterations int32) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) {
		s.Analysis.StepWeight, s.Analysis.MaxWeight, s.Analysis.Iterations = 0, 0, iterations
	}
}

func revertOnDeletion(s *v1beta1.CanarySpec) { s.RevertOnDeletion = true }

func threshold(n int32) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) { s.Analysis.Threshold = n }
}

// badSuccessRate fails every check of a template with the message of a success rate that is too low.
func badSuccessRate(bad string) func(*World, string) analysis.Verdict {
	return func(_ *World, template string) analysis.Verdict {
		if template != bad {
			return analysis.Verdict{Outcome: analysis.Pass}
		}
		return analysis.Verdict{Outcome: analysis.Fail, Message: "Halt podinfo.default advancement success rate 98.69% < 99%"}
	}
}

// scenario is one golden trace.
type scenario struct {
	name string
	opts Options
	play func(t *testing.T, w *World)
}

func rest(t *testing.T, w *World, phase v1beta1.CanaryPhase) {
	t.Helper()
	if !w.Run(2*time.Hour) || w.Status().Phase != phase {
		t.Errorf("at %s: phase %s, want to rest in %s\n%s", w.Now(), w.Status().Phase, phase, strings.Join(w.Trace, "\n"))
	}
}

func scenarios() []scenario {
	options := func(edit ...func(*v1beta1.CanarySpec)) Options {
		return Options{Canary: podinfo(edit...), Provider: mesh(), Template: "v1", Replicas: 2}
	}
	with := func(o Options, edit func(*Options)) Options { edit(&o); return o }
	promote := func(t *testing.T, w *World) {
		rest(t, w, v1beta1.CanaryPhaseInitialized)
		w.Ship("v2")
		rest(t, w, v1beta1.CanaryPhaseSucceeded)
	}
	fail := func(t *testing.T, w *World) {
		rest(t, w, v1beta1.CanaryPhaseInitialized)
		w.Ship("v2")
		rest(t, w, v1beta1.CanaryPhaseFailed)
	}
	// Old pods stop before new ones start, which takes them a while.
	slow := func(o *Options) {
		o.Strategy, o.Behaviors = Strategy{Recreate: true}, map[string]Behavior{"v2": {Startup: 89 * time.Second}}
	}
	return []scenario{
		{"bootstrap", options(), func(t *testing.T, w *World) { rest(t, w, v1beta1.CanaryPhaseInitialized) }},
		{"progressive", options(), promote},
		{"blue-green", options(blueGreen(3)), promote},
		{"blue-green-mirror", options(blueGreen(3), func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }), promote},
		{"blue-green-kubernetes", with(options(blueGreen(3)), func(o *Options) { o.Provider = noMesh() }), promote},
		{"weights-without-mesh", with(options(), func(o *Options) { o.Provider = noMesh() }), promote},
		{"ab-testing", options(blueGreen(2), func(s *v1beta1.CanarySpec) {
			s.Analysis.Match = []v1beta1.AnalysisMatch{{}}
		}), promote},
		{"step-weights", options(func(s *v1beta1.CanarySpec) {
			s.Analysis.StepWeight, s.Analysis.StepWeights, s.Analysis.StepWeightPromotion = 0, []int32{1, 2, 10, 80}, 40
		}), promote},
		{"mirror", options(func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }), promote},
		{"recreate", with(options(), slow), promote},
		{"recreate-ab-testing", with(options(blueGreen(2), func(s *v1beta1.CanarySpec) {
			s.Analysis.Match = []v1beta1.AnalysisMatch{{}}
		}), slow), promote},
		{"recreate-step-weights", with(options(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 50 }), slow), promote},
		{"recreate-skip", with(options(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }), slow), promote},
		{"recreate-blue-green", with(options(blueGreen(2)), slow), promote},
		{"recreate-kubernetes", with(options(blueGreen(2)), func(o *Options) { slow(o); o.Provider = noMesh() }), promote},
		{"failed-checks", with(options(threshold(2)), func(o *Options) { o.Metrics = badSuccessRate("v2") }), fail},
		{"deadline", with(options(), func(o *Options) {
			o.Behaviors = map[string]Behavior{"v2": {Broken: true}}
		}), fail},
		{"restart", options(), func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			w.Run(150 * time.Second)
			w.Ship("v3")
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"suspend", options(), func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			w.Run(150 * time.Second)
			w.Edit(func(s *v1beta1.CanarySpec) { s.Suspend = true })
			w.Run(10 * time.Minute)
			w.Edit(func(s *v1beta1.CanarySpec) { s.Suspend = false })
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"skip", options(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }), promote},
		{"cancel", options(), func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			w.Run(150 * time.Second)
			w.Ship("v1")
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"delete-revert", options(revertOnDeletion), func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
			w.Delete()
			rest(t, w, v1beta1.CanaryPhaseTerminated)
		}},
		{"delete-under-way", options(revertOnDeletion), func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			w.Run(150 * time.Second)
			w.Break("v2", true)
			w.Delete()
			w.Run(20 * time.Minute)
			w.Break("v2", false)
			rest(t, w, v1beta1.CanaryPhaseTerminated)
		}},
		{"failed-promotion", options(), func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			w.Run(290 * time.Second)
			w.breakPrimary()
			rest(t, w, v1beta1.CanaryPhaseFailed)
			w.mendPrimary()
			w.Ship("v3")
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"gates", with(options(func(s *v1beta1.CanarySpec) {
			s.Analysis.StepWeight, s.Analysis.MaxWeight = 50, 50
			for _, h := range []v1beta1.HookType{v1beta1.ConfirmRolloutHook, v1beta1.PreRolloutHook, v1beta1.RolloutHook,
				v1beta1.ConfirmTrafficIncreaseHook, v1beta1.ConfirmPromotionHook, v1beta1.PostRolloutHook} {
				s.Analysis.Webhooks = append(s.Analysis.Webhooks, v1beta1.CanaryWebhook{Name: "my-" + string(h), Type: h, URL: "http://x"})
			}
		}), func(o *Options) {
			asked := map[v1beta1.HookType]int{}
			o.Hooks = func(_ *World, h v1beta1.HookType, _ string) rollout.HookResult {
				asked[h]++
				return rollout.HookResult{Passed: asked[h] > 2, Text: "not yet"}
			}
		}), promote},
		{"rollback-hook", with(options(func(s *v1beta1.CanarySpec) {
			s.Analysis.Webhooks = []v1beta1.CanaryWebhook{{Name: "stop", Type: v1beta1.RollbackHook, URL: "http://x"}}
		}), func(o *Options) {
			o.Hooks = func(w *World, _ v1beta1.HookType, _ string) rollout.HookResult {
				return rollout.HookResult{Passed: w.Now() > 3*time.Minute}
			}
		}), fail},
	}
}

// breakPrimary makes new pods of the primary fail, as with a quota that only it meets.
func (w *World) breakPrimary() { w.primary.faulty = true }
func (w *World) mendPrimary()  { w.primary.faulty = false }

func TestGolden(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}

// checkGolden plays a scenario and compares its trace with the golden file.
func checkGolden(t *testing.T, s scenario) {
	t.Helper()
	w := New(s.opts)
	s.play(t, w)
	for _, v := range w.Violations() {
		t.Error(v)
	}
	got := strings.Join(w.Trace, "\n") + "\n"
	file := filepath.Join("testdata", s.name+".trace")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}

// TestCrashMatrix kills the process after every single write of every scenario. A fresh one goes on: the end is the same, no
// invariant is broken, and users are told everything exactly once.
func TestCrashMatrix(t *testing.T) {
	for _, s := range slices.Concat(scenarios(), strategies(), kindScenarios(), verdicts(), waits()) {
		t.Run(s.name, func(t *testing.T) {
			calm := New(s.opts)
			s.play(t, calm)
			for n := 1; n <= calm.Writes(); n++ {
				w := New(s.opts)
				w.KillAfter(n)
				s.play(t, w)
				sameEnd(t, fmt.Sprintf("killed after write %d", n), calm, w)
			}
		})
	}
}

// TestFaultMatrix fails every single write of every scenario once.
func TestFaultMatrix(t *testing.T) {
	for _, s := range slices.Concat(scenarios(), strategies(), kindScenarios(), verdicts(), waits()) {
		t.Run(s.name, func(t *testing.T) {
			calm := New(s.opts)
			s.play(t, calm)
			for n := 1; n <= calm.Writes(); n++ {
				w := New(s.opts)
				w.FailAt(n)
				s.play(t, w)
				sameEnd(t, fmt.Sprintf("write %d failed", n), calm, w)
			}
		})
	}
}

func sameEnd(t *testing.T, what string, calm, w *World) {
	t.Helper()
	for _, v := range w.Violations() {
		t.Errorf("%s: %s", what, v)
	}
	a, b := calm.Status(), w.Status()
	if a.Phase != b.Phase || a.CanaryWeight != b.CanaryWeight || a.LastPromotedSpec != b.LastPromotedSpec ||
		calm.PrimaryTemplate() != w.PrimaryTemplate() || calm.target.replicas != w.target.replicas {
		t.Errorf("%s: ended in %s weight %d promoted %q primary %s, want %s %d %q %s\n%s", what, b.Phase, b.CanaryWeight, b.LastPromotedSpec,
			w.PrimaryTemplate(), a.Phase, a.CanaryWeight, a.LastPromotedSpec, calm.PrimaryTemplate(), strings.Join(w.Trace, "\n"))
	}
	for _, want := range []string{"Promotion completed!", "Canary failed!", "Initialization done!", "Copying", "Terminating canary", "Terminated canary"} {
		if got, should := count(w.Events, want), count(calm.Events, want); got != should {
			t.Errorf("%s: %q told %d times, want %d", what, want, got, should)
		}
	}
}

func count(events []Event, text string) int {
	n := 0
	for _, e := range events {
		if strings.Contains(e.Message, text) {
			n++
		}
	}
	return n
}
