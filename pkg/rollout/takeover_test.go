package rollout

import (
	"reflect"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A target that returns to what the primary runs is no change, even if another operator promoted that and nobody noted what
// it was: a revision that failed under Flagger is often taken back under its successor.
func TestTakenBackAfterTakeover(t *testing.T) {
	for name, c := range map[string]struct {
		phase v1beta1.CanaryPhase
		edits []edit
		rule  string
		next  v1beta1.CanaryPhase
	}{
		"failed":                              {failed, nil, "reverted", failed},
		"analyzed":                            {progressing, nil, "cancel", progressing},
		"failed, other configs":               {failed, []edit{reads("one"), targetReads("two")}, "start", progressing},
		"failed, and the primary is not well": {failed, []edit{func(f *Facts) { f.Primary.Health = Health{State: Waiting} }}, "start", progressing},
		"failed to something else":            {failed, []edit{targetRuns("3", 3)}, "start", progressing},
		"the canary serves": {failed, []edit{status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.ServingSide, s.CanaryWeight = v1beta1.ServingCanary, 100
		}), func(f *Facts) { f.Routes.CanaryWeight = 100 }}, "start", progressing},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(c.phase, append(c.edits, status(func(s *v1beta1.CanaryStatus) {
				s.Rollout.Target, s.Rollout.Promoted = refTo(rev("2", 2)), &v1beta1.RevisionRef{Fingerprint: unknownRevision}
			}))...)
			if f.Target.Revision.Fingerprint == "v2:1" {
				f.Target.Revision.Generation = 3
			}
			d := Decide(f)
			if d.Rule != c.rule || d.Status.Phase != c.next {
				t.Fatalf("rule %s leads to %s, want %s to %s", d.Rule, d.Status.Phase, c.rule, c.next)
			}
			named := d.Status.Rollout.Promoted.Fingerprint == "v2:1" && d.Status.LastPromotedSpec == "flagger1"
			if named != (c.rule != "start") {
				t.Errorf("promoted %+v, %s", d.Status.Rollout.Promoted, d.Status.LastPromotedSpec)
			}
		})
	}
}

// Flagger counts the switch of blue/green to the canary as one more iteration, and notes it nowhere else.
func TestBlueGreenIsTakenOverWhereItIs(t *testing.T) {
	for name, c := range map[string]struct {
		iterations, weight int32
		provider           edit
		next               v1beta1.CanaryPhase
		stage              string
	}{
		"under test":                      {2, 0, nil, progressing, stageAnalysis},
		"tested":                          {3, 0, nil, progressing, stageSwitched},
		"switched":                        {4, 100, nil, promotingTo, ""},
		"iterations lowered":              {4, 0, nil, progressing, stageSwitched},
		"tested, without routes":          {3, 0, withoutRoutes, progressing, stageSwitched},
		"switched, without routes":        {4, 0, withoutRoutes, promotingTo, ""},
		"iterations lowered, is mirrored": {5, 0, func(f *Facts) { f.Routes.Mirror = true }, progressing, stageSwitched},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(progressing, targetRuns("2", 2), spec(func(s *v1beta1.CanarySpec) { s.Analysis.Iterations = 3 }))
			f.Canary.Status = v1beta1.CanaryStatus{Phase: progressing, LastAppliedSpec: "5d5f4b8c7", LastPromotedSpec: "5d5f4b8c7",
				Iterations: c.iterations}
			f.Routes.CanaryWeight = c.weight
			if c.provider != nil {
				c.provider(&f)
			}
			for _, rule := range []string{"adopt", "advance"} {
				d := Decide(f)
				if d.Rule != rule {
					t.Fatalf("rule %s, want %s", d.Rule, rule)
				}
				f.Canary.Status = d.Status
			}
			if s := f.Canary.Status; s.Phase != c.next || s.Rollout.Stage != c.stage {
				t.Errorf("phase %s stage %q, want %s %q", s.Phase, s.Rollout.Stage, c.next, c.stage)
			}
		})
	}
}

func withoutRoutes(f *Facts) { f.Provider, f.Routes = ProviderFact{Name: "kubernetes"}, RoutesFact{} }

// A Canary that is taken over says what a deletion would do in the one write that this costs, and not in one of its own before,
// while it gets its finalizer.
func TestTakeoverTellsOfDeletion(t *testing.T) {
	f := facts(succeeded, noPods, status(func(s *v1beta1.CanaryStatus) { s.Rollout = nil }))
	d := Decide(f)
	if c := condition(&d.Status, v1beta1.HealthyType); d.Rule != "adopt" || c == nil || c.Reason != string(ReasonHealthy) || c.Message == "" {
		t.Fatalf("rule %s, condition %+v", d.Rule, c)
	}
	f.Canary = f.Canary.DeepCopy()
	f.Canary.Status = d.Status
	if again := Decide(f); !reflect.DeepEqual(again.Status, d.Status) || len(again.Actions) > 0 {
		t.Errorf("another write of %+v", again.Status)
	}
	f.Canary.Spec.RevertOnDeletion = true
	f.Canary.Status.Rollout = nil
	f.Canary.Status.Conditions = nil
	if early := Decide(f); early.Rule != "finalizer" || condition(&early.Status, v1beta1.HealthyType) != nil {
		t.Errorf("rule %s writes %+v", early.Rule, early.Status)
	}
}

// A Canary that is taken over says what is ignored of it in the one write that this costs.
func TestTakeoverOfIgnoredFields(t *testing.T) {
	f := facts(succeeded, noPods, spec(func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }), status(func(s *v1beta1.CanaryStatus) { s.Rollout = nil }),
		func(f *Facts) { f.Provider = ProviderFact{Name: "kubernetes"} })
	d := Decide(f)
	c := condition(&d.Status, v1beta1.HealthyType)
	if d.Rule != "adopt" || c == nil || c.Status != "True" || c.Reason != string(ReasonUnsupportedFields) {
		t.Fatalf("rule %s, condition %+v", d.Rule, c)
	}
	f.Canary = f.Canary.DeepCopy()
	f.Canary.Status = d.Status
	if again := Decide(f); !reflect.DeepEqual(again.Status, d.Status) || len(again.Actions) > 0 {
		t.Errorf("another write of %+v", again.Status)
	}
}
