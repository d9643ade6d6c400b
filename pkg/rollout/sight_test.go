package rollout

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A wait that begins with a sight costs no write unless it is a long one. What was seen is void for any other stage than that in which it
// was seen.
func TestSight(t *testing.T) {
	seen := func(d time.Duration) edit {
		return func(f *Facts) {
			f.Sight = Sight{Run: f.Canary.Status.Rollout.Run, Phase: finalisingP, CanaryDrainedAt: micro(now.Add(-d))}
		}
	}
	every := func(interval string) edit {
		return spec(func(s *v1beta1.CanarySpec) { s.Analysis.Interval = interval })
	}
	edits := []edit{running(0), stage(""), every("10s"), func(f *Facts) { f.Primary.Copy = "v2:2" }}
	for name, c := range map[string]struct {
		edits []edit
		// drained is since when the target is known to get nothing, before now, written what the status says of it. Negative is not at all.
		drained, written time.Duration
		wake             time.Time
		pods             bool
	}{
		"is kept in mind":                 {nil, 0, -1, now.Add(10 * time.Second), true},
		"goes on":                         {[]edit{seen(4 * time.Second)}, 4 * time.Second, -1, now.Add(6 * time.Second), true},
		"ends":                            {[]edit{seen(10 * time.Second)}, 10 * time.Second, -1, time.Time{}, false},
		"of a long wait is written":       {[]edit{every("30s")}, 0, 0, now.Add(30 * time.Second), true},
		"stays there whatever is written": {[]edit{status(func(s *v1beta1.CanaryStatus) { s.Rollout.PrimaryReadySince = micro(now) })}, 0, -1, now.Add(10 * time.Second), true},
		"of another stage is void":        {[]edit{seen(time.Hour), func(f *Facts) { f.Sight.Stage = stageSkip }}, 0, -1, now.Add(10 * time.Second), true},
		"of another run is void":          {[]edit{seen(time.Hour), func(f *Facts) { f.Sight.Run-- }}, 0, -1, now.Add(10 * time.Second), true},
		"is over when traffic is back":    {[]edit{seen(time.Hour), func(f *Facts) { f.Routes.CanaryWeight = 10 }}, -1, -1, time.Time{}, true},
		"that was written is taken back by a write": {[]edit{status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.CanaryDrainedAt = micro(now.Add(-time.Hour))
		}), func(f *Facts) { f.Routes.CanaryWeight = 10 }}, -1, -1, time.Time{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(finalisingP, edits...)
			f.Canary.Status = Decide(f).Status
			f.Canary.Status.Rollout.CanaryDrainedAt = nil
			for _, e := range c.edits {
				e(&f)
			}
			d := Decide(f)
			ago := func(s *Sight, st *v1beta1.RolloutStatus) (drained, written time.Duration) {
				drained, written = -1, -1
				if st.CanaryDrainedAt != nil {
					written = now.Sub(st.CanaryDrainedAt.Time)
					drained = written
				}
				if s.CanaryDrainedAt != nil {
					drained = now.Sub(s.CanaryDrainedAt.Time)
				}
				return drained, written
			}
			drained, written := ago(&d.Sight, d.Status.Rollout)
			if drained != c.drained || written != c.written {
				t.Errorf("drained for %s, and by the status for %s, want %s and %s", drained, written, c.drained, c.written)
			}
			if c.written < 0 && c.drained >= 0 && f.Canary.Status.Rollout.PrimaryReadySince == nil && !d.Status.Equal(&f.Canary.Status) {
				t.Error("the status is written")
			}
			if !d.Wake.Equal(c.wake) {
				t.Errorf("wake at %s, want %s", d.Wake, c.wake)
			}
			if taken := len(d.Actions) > 0 && d.Actions[len(d.Actions)-1] == (ScaleTargetToZero{}); taken == c.pods {
				t.Errorf("actions %v", d.Actions)
			}
		})
	}
}
