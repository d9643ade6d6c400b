package rollout

import (
	"slices"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// B-21: a cookie was made while routes were written and stored afterwards. Whoever crashed in between, or met a conflict,
// made another one, and users lost their side.
func TestB21_CookieIsStoredWithTheStepThatRoutesIt(t *testing.T) {
	affinity := spec(func(s *v1beta1.CanarySpec) {
		s.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "canary"}
	})
	f := facts(progressing, running(0), affinity, func(f *Facts) { f.Nonces = [2]string{"aaa", "bbb"} })
	d := Decide(f)
	if d.Status.CanaryWeight == 0 || d.Status.SessionAffinityCookie != "canary=aaa" || !slices.Contains(d.Actions, Action(EnsureRoutes{})) {
		t.Fatalf("weight %d, cookie %q, actions %v", d.Status.CanaryWeight, d.Status.SessionAffinityCookie, d.Actions)
	}
	// The status was written, the routes were not.
	f.Canary.Status, f.Nonces = d.Status, [2]string{"ccc", "ddd"}
	f.Routes.InPlace = false
	again := Decide(f)
	if again.Status.SessionAffinityCookie != "canary=aaa" || !slices.Contains(again.Actions, Action(EnsureRoutes{})) {
		t.Errorf("after a crash: cookie %q, actions %v", again.Status.SessionAffinityCookie, again.Actions)
	}
}
