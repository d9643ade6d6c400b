package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A primary that stops its pods first is updated while the canary has all requests, whatever the analysis was about.
func TestPrimaryThatStopsFirstLosesNoRequest(t *testing.T) {
	edits := map[string]func(*v1beta1.CanarySpec){
		"weights": func(*v1beta1.CanarySpec) {}, "blue/green": blueGreen(2),
		"A/B":   func(s *v1beta1.CanarySpec) { blueGreen(2)(s); s.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
		"steps": func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 20 },
		"skip":  func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true },
	}
	for strategy, s := range map[string]Strategy{"Recreate": {Recreate: true}, "all missing": {Missing: 100}, "one node": {Missing: 51, RoundUp: true}} {
		for name, edit := range edits {
			t.Run(strategy+", "+name, func(t *testing.T) {
				w := ready(t, podinfo(edit), func(o *Options) {
					o.Strategy, o.Behaviors = s, map[string]Behavior{"v2": {Startup: 90 * time.Second}}
				})
				w.Ship("v2")
				until(t, w, "primary without pods", time.Hour, func() bool { return w.primary.available(w.now) == 0 })
				if toAll(w.routed) != 100 || w.target.available(w.now) == 0 {
					t.Errorf("%+v routed to a canary with %d pods", w.routed, w.target.available(w.now))
				}
				rest(t, w, succeeded)
				serves(t, w, "v2")
				sound(t, w)
			})
		}
	}
}

// A primary whose pods are evicted while it is updated leaves its share to the canary at once, and has it back when it is ready.
func TestEvictedPrimaryHandsOver(t *testing.T) {
	w := ready(t, podinfo(), func(o *Options) { o.Behaviors = map[string]Behavior{"v2": {Startup: 90 * time.Second}} })
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.primary.evict(len(w.primary.pods))
	w.settleCluster()
	w.Run(time.Second)
	if w.routed.CanaryWeight != 100 {
		t.Errorf("canary weight %d beside a primary without pods", w.routed.CanaryWeight)
	}
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}
