package simulate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func renamed(s *v1beta1.CanarySpec) { s.Service.Name = "renamed" }

// retired passes until nothing is left under a former name.
func retired(t *testing.T, w *World) {
	t.Helper()
	until(t, w, "the retirement", time.Hour, func() bool {
		r := w.Status().Rollout
		return r != nil && len(r.Routing) == 1 && r.Routing[0] == w.names()
	})
	if n := len(w.formers.routes) + len(w.formers.services); n > 0 {
		t.Errorf("%d former names have objects", n)
	}
}

// B-31: a rename at any moment of a rollout, with a kill after any write, ends with nothing under the former name, and the target
// keeps its pods as long as former routes lead to them.
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
