package simulate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func renamed(s *v1beta1.CanarySpec) { s.Service.Name = "renamed" }

// retired passes until nothing is left under a previous name.
func retired(t *testing.T, w *World) {
	t.Helper()
	until(t, w, "the retirement", time.Hour, func() bool {
		r := w.Status().Rollout
		return r != nil && len(r.Routing) == 1 && r.Routing[0] == w.names()
	})
	if n := len(w.previous.routes) + len(w.previous.services); n > 0 {
		t.Errorf("%d former names have objects", n)
	}
}

// B-31: a rename at any moment of a rollout, with a kill after any write, ends with nothing under the previous name, and the target
// keeps its pods as long as previous routes lead to them.
func TestB31_RenameAtAnyMoment(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for moment := range 40 {
			for _, kill := range []int{0, 1, 2, 3, 4, 5} {
				t.Run(fmt.Sprintf("fails=%t/%d/%d", fails, moment, kill), func(t *testing.T) {
					w := world(podinfo())
					if fails {
						w.opts.Metrics = func(w *World, template string) analysis.Verdict {
							if template == "v2" && w.Status().CanaryWeight >= 20 {
								return analysis.Verdict{Outcome: analysis.Fail}
							}
							return analysis.Verdict{Outcome: analysis.Pass}
						}
					}
					passes, did, shipped := 0, false, false
					until(t, w, "an end", 5*time.Hour, func() bool {
						ended := w.Status().Phase == succeeded || w.Status().Phase == failed
						if passes++; !did && (passes > moment || ended) {
							did = true
							w.Edit(renamed)
							if kill > 0 {
								w.KillAfter(kill)
							}
							return false
						}
						if w.Status().Phase == initialized && !shipped {
							w.Ship("v2")
							shipped = true
						}
						return did && ended
					})
					retired(t, w)
					sound(t, w)
					told := 0
					for _, e := range w.Events {
						if strings.Contains(e.Message, "former name podinfo") {
							told++
						}
					}
					if told > 1 {
						t.Errorf("told %d times", told)
					}
				})
			}
		}
	}
}

// B-31: who renames and renames back loses nothing.
func TestB31_RenameAndBack(t *testing.T) {
	w := ready(t, podinfo())
	w.Edit(renamed)
	w.Pass()
	w.Pass()
	w.Edit(func(s *v1beta1.CanarySpec) { s.Service.Name = "" })
	retired(t, w)
	if !w.apex || !w.routes {
		t.Errorf("apex %t, routes %t", w.apex, w.routes)
	}
	w.Run(time.Minute)
	writes := w.Writes()
	w.Pass()
	if w.Writes() != writes {
		t.Errorf("%d writes at rest", w.Writes()-writes)
	}
	sound(t, w)
}

// become makes another provider the one in force.
func (w *World) become(p rollout.ProviderFact) {
	before := w.names()
	w.opts.Provider = p
	w.rename(before)
}

// B-23: a provider without routes leaves no weight behind that would mean something to the next one.
func TestB23_ProviderWithoutRoutesHasNoWeight(t *testing.T) {
	for _, broken := range []bool{false, true} {
		for name, strategy := range map[string]func(*v1beta1.CanarySpec){
			"weights": func(*v1beta1.CanarySpec) {},
			"mirror":  func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true },
			"A/B":     abTest,
		} {
			t.Run(fmt.Sprintf("%s, broken=%t", name, broken), func(t *testing.T) {
				w := ready(t, podinfo(strategy))
				w.Ship("v2")
				until(t, w, "request", time.Hour, func() bool { return w.routed.SendsToCanary() })
				w.become(noMesh())
				end := succeeded
				if broken {
					w.breakPrimary()
					end = failed
				}
				w.Run(time.Minute)
				if got := w.wanted(); got.SendsToCanary() {
					t.Errorf("%+v without routes", got)
				}
				rest(t, w, end)
				w.mendPrimary()
				w.primary.recover(w.now)
				w.settleCluster()
				w.Run(time.Minute)
				w.become(mesh())
				rest(t, w, end)
				if got := w.Status(); w.routed.SendsToCanary() || got.Rollout.ServingSide != "" {
					t.Errorf("routed %+v, served by %q", w.routed, got.Rollout.ServingSide)
				}
				sound(t, w)
			})
		}
	}
}

// B-23: the same for a canary that serves because its primary did not come up.
func TestB23_ServingCanaryLosesItsRoutes(t *testing.T) {
	w := ready(t, podinfo())
	w.breakPrimary()
	w.Ship("v2")
	rest(t, w, failed)
	w.mendPrimary()
	w.primary.recover(w.now)
	w.settleCluster()
	w.become(noMesh())
	w.Run(time.Minute)
	if s := w.Status(); s.CanaryWeight != 0 || s.Rollout.ServingSide != "" {
		t.Errorf("weight %d, served by %q", s.CanaryWeight, s.Rollout.ServingSide)
	}
	w.Ship("v3")
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}
