package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// A target that was made anew with another selector is rolled out like any other revision: the canary has all requests while the
// primary, whose selector can't be changed, is replaced.
func TestTargetMadeAnewWithAnotherSelector(t *testing.T) {
	for name, edit := range map[string]func(*v1beta1.CanarySpec){
		"weights": func(*v1beta1.CanarySpec) {}, "blue/green": blueGreen(2),
		"A/B":   func(s *v1beta1.CanarySpec) { blueGreen(2)(s); s.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
		"steps": func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 20 },
		"skip":  func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo(edit), func(o *Options) { o.Behaviors = map[string]Behavior{"v2": {Startup: 90 * time.Second}} })
			w.Remake("v2", "name")
			until(t, w, "primary without pods", time.Hour, func() bool { return w.primary.available(w.now) == 0 })
			if toAll(w.routed) != 100 || !w.ready(&w.target) {
				t.Errorf("%+v routed to a canary with %d pods", w.routed, w.target.available(w.now))
			}
			rest(t, w, succeeded)
			serves(t, w, "v2")
			if w.primary.selector != "name" || w.apexBy != "primary name" || w.backendsBy != (selectors{canary: "name", primary: "name"}) {
				t.Errorf("primary selects by %q, Services by %+v and %q", w.primary.selector, w.backendsBy, w.apexBy)
			}
			sound(t, w)
		})
	}
}

// The primary serves on, untouched, while such a target is judged and when it is taken back.
func TestBadTargetMadeAnewWithAnotherSelector(t *testing.T) {
	w := ready(t, podinfo(), func(o *Options) { o.Behaviors = map[string]Behavior{"v2": {Broken: true}} })
	w.Remake("v2", "name")
	rest(t, w, failed)
	serves(t, w, "v1")
	if w.primary.selector != "" || w.apexBy != "primary " || w.backendsBy != (selectors{canary: "name"}) {
		t.Errorf("primary selects by %q, Services by %+v and %q", w.primary.selector, w.backendsBy, w.apexBy)
	}
	w.Ship("v3")
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}

// Wherever the process is killed or a write fails, the end is the same; a primary that is gone between the two writes that replace it is
// made of the revision that the canary serves.
func TestKilledWhileThePrimaryIsReplaced(t *testing.T) {
	for n := 1; n < 40; n++ {
		for name, hurt := range map[string]func(*World){"kill": func(w *World) { w.KillAfter(n) }, "fail": func(w *World) { w.FailAt(n) }} {
			w := ready(t, podinfo())
			w.Remake("v2", "name")
			hurt(w)
			rest(t, w, succeeded)
			serves(t, w, "v2")
			sound(t, w)
			if t.Failed() {
				t.Fatalf("%s at write %d", name, n)
			}
		}
	}
}

// Provider kubernetes has no routes to replace a primary behind: it says so, goes on serving, and each way out leads out.
func TestAnotherSelectorWithoutRoutes(t *testing.T) {
	for name, out := range map[string]func(*World){
		"former labels":   func(w *World) { w.Remake("v2", "") },
		"flag":            func(w *World) { w.Relabel("") },
		"deleted primary": func(w *World) { w.DeletePrimary() },
		"provider":        func(w *World) { w.opts.Provider = mesh() },
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo(blueGreen(2)), func(o *Options) { o.Provider = noMesh() })
			w.Remake("v2", "name")
			w.Run(time.Hour)
			serves(t, w, "v1")
			if condition(w, v1beta1.HealthyType) != string(rollout.ReasonInvalidSpec) {
				t.Errorf("conditions %+v", w.Status().Conditions)
			}
			out(w)
			rest(t, w, succeeded)
			serves(t, w, "v2")
			sound(t, w)
		})
	}
}
