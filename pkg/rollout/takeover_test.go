package rollout

import (
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
			named := d.Status.Rollout.Promoted.Fingerprint == "v2:1" && d.Status.LastPromotedSpec == "v2:1"
			if named != (c.rule != "start") {
				t.Errorf("promoted %+v, %s", d.Status.Rollout.Promoted, d.Status.LastPromotedSpec)
			}
		})
	}
}
