package rollout

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestCookies(t *testing.T) {
	affinity := spec(func(s *v1beta1.CanarySpec) {
		s.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "canary", PrimaryCookieName: "primary"}
	})
	cookies := func(c, p, previous string) edit {
		return status(func(s *v1beta1.CanaryStatus) {
			s.SessionAffinityCookie, s.PrimarySessionAffinityCookie, s.PreviousSessionAffinityCookie = c, p, previous
		})
	}
	fresh := func(f *Facts) { f.Nonces = [2]string{"aaa", "bbb"} }
	for name, c := range map[string]struct {
		facts                     Facts
		canary, primary, previous string
	}{
		"the first step makes both": {facts(progressing, running(0), affinity, fresh), "canary=aaa", "primary=bbb", ""},
		"B-20 the next one renews the primary's": {
			facts(progressing, running(10), affinity, fresh, cookies("canary=x", "primary=y", "")), "canary=x", "primary=bbb", ""},
		"B-20 without a name there is none": {
			facts(progressing, running(10), affinity, fresh, spec(func(s *v1beta1.CanarySpec) { s.Analysis.SessionAffinity.PrimaryCookieName = "" })),
			"canary=aaa", "", ""},
		"a wait keeps them": {
			facts(progressing, running(10), affinity, fresh, cookies("canary=x", "primary=y", ""), func(f *Facts) { unready(&f.Target, Waiting, 1) }),
			"canary=x", "primary=y", ""},
		"the end remembers the canary's": {
			facts(promotingTo, running(30), affinity, fresh, cookies("canary=x", "primary=y", ""), func(f *Facts) { f.Primary.Copy = "v2:2" }),
			"", "", "canary=x"},
		"without affinity there are none": {facts(succeeded, cookies("canary=x", "primary=y", "canary=z")), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := Decide(c.facts).Status
			if s.SessionAffinityCookie != c.canary || s.PrimarySessionAffinityCookie != c.primary || s.PreviousSessionAffinityCookie != c.previous {
				t.Errorf("cookies %q %q %q, want %q %q %q", s.SessionAffinityCookie, s.PrimarySessionAffinityCookie, s.PreviousSessionAffinityCookie,
					c.canary, c.primary, c.previous)
			}
		})
	}
}
