package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// A canary whose pods are gone gets no requests and no copies of requests, whatever else is wrong with the Canary.
func TestIncidentB3_DeadCanaryGetsNothingWhateverIsWrong(t *testing.T) {
	affinity := func(s *v1beta1.CanarySpec) { s.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "c"} }
	strategies := map[string]func(*v1beta1.CanarySpec){
		"weights":           func(*v1beta1.CanarySpec) {},
		"session affinity":  affinity,
		"mirror":            func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true },
		"mirror blue/green": func(s *v1beta1.CanarySpec) { blueGreen(3)(s); s.Analysis.Mirror = true },
		"A/B":               func(s *v1beta1.CanarySpec) { blueGreen(3)(s); s.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
	}
	faults := map[string]func(w *World){
		"the target is deleted": func(w *World) { w.DeleteTarget() },
		"the spec is wrong": func(w *World) {
			w.SetProblem(&rollout.Problem{Reason: rollout.ReasonInvalidSpec, Message: "spec.analysis: set stepWeight"})
			for i := range w.target.pods {
				w.target.pods[i].never = true
			}
		},
	}
	for name, strategy := range strategies {
		for fault, happens := range faults {
			t.Run(name+", "+fault, func(t *testing.T) {
				w := ready(t, podinfo(strategy))
				w.nonces = func() [2]string { return [2]string{"a", "b"} }
				w.Ship("v2")
				until(t, w, "request", time.Hour, func() bool { return w.routed.CanaryWeight > 0 || w.routed.Mirror })
				w.Run(time.Second)
				happens(w)
				w.KillAfter(1)
				w.Run(time.Second)
				if w.routed.CanaryWeight != 0 || w.routed.Mirror || w.Status().SessionAffinityCookie != "" {
					t.Errorf("routed %+v with cookie %q", w.routed, w.Status().SessionAffinityCookie)
				}
				before := w.Writes()
				w.Run(9 * time.Minute)
				if w.Writes() != before {
					t.Errorf("%d writes while nothing changes", w.Writes()-before)
				}
				w.SetProblem(nil)
				w.Ship("v2")
				w.Break("v2", false)
				rest(t, w, succeeded)
				serves(t, w, "v2")
				sound(t, w)
			})
		}
	}
}
