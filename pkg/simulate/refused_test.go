package simulate

import (
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// refuseCopies makes every copy to the primary fail.
func (w *World) refuseCopies() {
	w.refuse = func(a rollout.Action) bool { _, copies := a.(rollout.EnsurePrimary); return copies }
}

// An admission webhook that never admits the new primary ends the rollout, and the old primary serves on.
func TestIncidentB11_RefusedCopyEnds(t *testing.T) {
	for _, p := range []rollout.ProviderFact{mesh(), noMesh()} {
		for name, edit := range map[string]func(*v1beta1.CanarySpec){
			"blue/green": blueGreen(2),
			"skip":       func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true },
		} {
			w := ready(t, podinfo(edit), provider(p))
			w.refuseCopies()
			w.Ship("v2")
			untilPhase(t, w, promoting)
			began := w.now
			w.KillAfter(5)
			rest(t, w, failed)
			if took := w.now.Sub(began); took < 10*time.Minute || took > 12*time.Minute {
				t.Errorf("%s, %s: ended after %s with a deadline of ten minutes", p.Name, name, took)
			}
			serves(t, w, "v1")
			if w.target.replicas != 0 {
				t.Errorf("%s, %s: the refused revision keeps %d pods", p.Name, name, w.target.replicas)
			}
			if n := count(w.Events, "Promotion of podinfo.default failed, primary can't be updated"); n != 1 {
				t.Errorf("%s, %s: told %d times", p.Name, name, n)
			}
			w.refuse = nil
			w.Ship("v3")
			rest(t, w, succeeded)
			serves(t, w, "v3")
			sound(t, w)
		}
	}
}

// A primary that somebody changed meanwhile is no place to go back to.
func TestIncidentB1_RefusedCopyOfAChangedPrimaryLeavesTheCanary(t *testing.T) {
	w := ready(t, podinfo())
	w.refuseCopies()
	w.Ship("v2")
	untilPhase(t, w, promoting)
	w.EditPrimary("other")
	rest(t, w, failed)
	if w.routed.CanaryWeight != 100 || w.target.available(w.now) == 0 {
		t.Errorf("weight %d on a canary with %d pods", w.routed.CanaryWeight, w.target.available(w.now))
	}
	if m := message(w, v1beta1.HealthyType); !strings.Contains(m, "primary can't be updated") {
		t.Errorf("the condition says %q", m)
	}
	w.refuse = nil
	w.Ship("v3")
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}

// Nothing that is refused for ever keeps a run going for ever.
func TestIncidentB11_RefusedChangesEndTheAnalysis(t *testing.T) {
	for name, refused := range map[string]func(*World, rollout.Action) bool{
		"scale up": func(_ *World, a rollout.Action) bool { _, ok := a.(rollout.ScaleTargetUp); return ok },
		"a step": func(w *World, a rollout.Action) bool {
			_, ok := a.(rollout.EnsureRoutes)
			return ok && w.Status().CanaryWeight > 0
		},
	} {
		w := ready(t, podinfo())
		w.refuse = func(a rollout.Action) bool { return refused(w, a) }
		w.Ship("v2")
		rest(t, w, failed)
		if w.Now() > 13*time.Minute {
			t.Errorf("%s: ended at %s", name, w.Now())
		}
		serves(t, w, "v1")
		w.refuse = nil
		w.Ship("v3")
		rest(t, w, succeeded)
		sound(t, w)
	}
}
