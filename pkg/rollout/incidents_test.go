package rollout

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A Canary of Flagger that could not be looked at in the first pass, or was suspended, is adopted later: no rollout begins.
func TestAdoptAfterAHurdle(t *testing.T) {
	for name, hurdle := range map[string]edit{
		"failed read": func(f *Facts) {
			f.Problem = &Problem{Reason: ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true}
		},
		"invalid":   func(f *Facts) { f.Problem = &Problem{Reason: ReasonInvalidSpec, Message: "spec.analysis: wrong"} },
		"suspended": spec(func(s *v1beta1.CanarySpec) { s.Suspend = true }),
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(succeeded, hurdle)
			f.Canary.Status = v1beta1.CanaryStatus{Phase: succeeded, LastAppliedSpec: "5d5f4b8c7", LastPromotedSpec: "5d5f4b8c7"}
			f.Canary.Status = Decide(f).Status
			f.Problem, f.Canary.Spec.Suspend = nil, false
			for _, rule := range []string{"adopt", "settled"} {
				d := Decide(f)
				if d.Rule != rule || d.Status.Phase != succeeded || len(d.Actions) > 0 {
					t.Fatalf("rule %s leads to %s, want %s", d.Rule, d.Status.Phase, rule)
				}
				f.Canary.Status = d.Status
			}
		})
	}
}
