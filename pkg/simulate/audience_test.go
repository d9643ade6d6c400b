package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func weights(s *v1beta1.CanarySpec) {
	a := s.Analysis
	a.Iterations, a.Match, a.StepWeight, a.MaxWeight = 0, nil, 30, 60
}

func plainBlueGreen(s *v1beta1.CanarySpec) {
	blueGreen(3)(s)
	s.Analysis.Match = nil
}

func shareOfMatched(s *v1beta1.CanarySpec) {
	weights(s)
	s.Analysis.Match = []v1beta1.AnalysisMatch{{}}
}

// A test with the users that match says nothing about the weight that all others may get, and the other way round.
func TestA22_AnotherAudienceBeginsTheAnalysisAnew(t *testing.T) {
	for name, c := range map[string]struct {
		from, to func(*v1beta1.CanarySpec)
		// when is what the canary has at the change.
		when       int32
		iterations int32
	}{
		"a test to blue/green":          {abTest, plainBlueGreen, 100, 1},
		"a test at its end":             {abTest, plainBlueGreen, 100, 2},
		"a test to weights":             {abTest, weights, 100, 1},
		"a test to weights of matched":  {abTest, shareOfMatched, 100, 1},
		"weights to a test":             {weights, abTest, 30, 0},
		"blue/green to a test":          {plainBlueGreen, abTest, 0, 3},
		"switched blue/green to a test": {plainBlueGreen, abTest, 100, 4},
		"weights of all to matched":     {weights, shareOfMatched, 30, 0},
		"weights of matched to all":     {shareOfMatched, weights, 30, 0},
	} {
		for kill := range 4 {
			w := ready(t, podinfo(c.from))
			w.Ship("v2")
			until(t, w, name, time.Hour, func() bool {
				s := w.Status()
				return s.Phase == progressing && w.routed.CanaryWeight == c.when && s.CanaryWeight == c.when && s.Iterations == c.iterations
			})
			w.Edit(c.to)
			if kill > 0 {
				w.KillAfter(kill)
			}
			until(t, w, name+": restart", time.Minute, func() bool { return w.Status().CanaryWeight == 0 && w.Status().Iterations == 0 })
			rest(t, w, succeeded)
			serves(t, w, "v2")
			if got := count(w.Events, "Restarting analysis for podinfo.default"); got != 1 {
				t.Errorf("%s: told %d times", name, got)
			}
			sound(t, w)
		}
	}
}

// Nobody takes a canary of some users for that of everybody, whatever keeps the analysis from going on.
func TestA22_AbsentMatchLeadsNobodyToTheCanary(t *testing.T) {
	for name, c := range map[string]struct {
		phase   v1beta1.CanaryPhase
		trouble func(w *World)
	}{
		"a gate is closed":          {progressing, func(*World) {}},
		"the canary starts anew":    {progressing, func(w *World) { w.target.lose(w.now.Add(time.Minute)) }},
		"the primary is on its way": {promoting, func(w *World) { w.primary.patient = true }},
		"an old record":             {progressing, func(w *World) { w.canary.Status.Rollout.Audience = "" }},
	} {
		w := ready(t, podinfo(abTest))
		w.Ship("v2")
		until(t, w, "the test", time.Hour, func() bool { return w.Status().Phase == c.phase && w.routed.CanaryWeight == 100 })
		c.trouble(w)
		w.Edit(plainBlueGreen)
		for range 3 {
			w.Pass()
		}
		if toAll(w.routed) != 0 || w.routed.CanaryWeight != w.Status().CanaryWeight {
			t.Errorf("%s: routed %+v, the status says %d", name, w.routed, w.Status().CanaryWeight)
		}
		rest(t, w, succeeded)
		serves(t, w, "v2")
		sound(t, w)
	}
}

// A record that does not tell whom the canary is for means what the routes do.
func TestIncidentB8_TestUnderWayGoesOnAfterAnUpgrade(t *testing.T) {
	w := ready(t, podinfo(abTest))
	w.Ship("v2")
	untilWeight(t, w, 100)
	w.canary.Status.Rollout.Audience = ""
	rest(t, w, succeeded)
	if got := count(w.Events, "Restarting analysis"); got != 0 || count(w.Events, "canary iteration") != 2 {
		t.Errorf("%d restarts of a test that nobody changed\n%s", got, trace(w))
	}
	sound(t, w)
}

// Whoever has a revision that mends the primary may drop the rest of the test.
func TestA02_TestOfWhatMendsThePrimaryMayBeShortened(t *testing.T) {
	for name, to := range map[string]func(*v1beta1.CanarySpec){"blue/green": plainBlueGreen, "weights": weights} {
		w := ready(t, podinfo(abTest))
		w.Ship("v2")
		untilWeight(t, w, 100)
		w.Break("v1", true)
		w.Edit(to)
		w.Pass()
		if toAll(w.routed) != 0 {
			t.Errorf("%s: routed %+v before the primary was waited for", name, w.routed)
		}
		rest(t, w, succeeded)
		serves(t, w, "v2")
		sound(t, w)
	}
}

func TestA03_FailedPromotionOfATestLeadsEverybodyToTheCanary(t *testing.T) {
	w := ready(t, podinfo(abTest))
	w.Ship("v2")
	untilPhase(t, w, progressing)
	w.breakPrimary()
	rest(t, w, failed)
	if w.Status().CanaryWeight != 100 || w.routed.CanaryWeight != 100 || w.routed.Matched {
		t.Errorf("weight %d, routed %+v: not everybody is led to the side that serves", w.Status().CanaryWeight, w.routed)
	}
	sound(t, w)
	w.primary.faulty = false
	w.Ship("v3")
	rest(t, w, succeeded)
	serves(t, w, "v3")
	sound(t, w)
}

// Contract section 3.6: requests are copied while none is led to the canary.
func TestA22_MirrorEndsWhereTrafficBegins(t *testing.T) {
	mirrored := func(s *v1beta1.CanarySpec) { blueGreen(3)(s); s.Analysis.Mirror = true }
	for name, c := range map[string]struct {
		from, to func(*v1beta1.CanarySpec)
		at       int32
	}{
		"more iterations after the switch": {mirrored, func(s *v1beta1.CanarySpec) { s.Analysis.Iterations = 9 }, 100},
		"weights to blue/green":            {weights, mirrored, 30},
	} {
		w := ready(t, podinfo(c.from))
		w.Ship("v2")
		untilWeight(t, w, c.at)
		w.Edit(c.to)
		until(t, w, name, 2*time.Hour, func() bool {
			if w.routed.Mirror && w.routed.CanaryWeight > 0 {
				t.Fatalf("%s: mirrored at weight %d", name, w.routed.CanaryWeight)
			}
			return w.Status().Phase == succeeded
		})
		sound(t, w)
	}
}
