package rollout

import (
	"reflect"
	"testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Every analysis step counts once for flagger_canary_duration_seconds: the first, which judges nothing, and one that fails.
func TestAnalysisStepsAreCounted(t *testing.T) {
	metrics := spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m", Query: "q"}} })
	verdict := func(o analysis.Outcome) edit {
		return func(f *Facts) { f.Checks.Metrics = &analysis.Verdict{Outcome: o} }
	}
	notDue := status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now.Add(1e9)) })
	due := status(func(s *v1beta1.CanaryStatus) { s.Rollout.NextCheckAt = micro(now) })
	for name, c := range map[string]struct {
		edits []edit
		want  []Outcome
	}{
		"first step":             {[]edit{running(0), stage(""), due}, []Outcome{OutcomeAnalyzed}},
		"not found by proxies":   {[]edit{running(0), stage("")}, nil},
		"pre-rollout hook fails": {[]edit{running(0), stage(""), hook(v1beta1.PreRolloutHook), answer(v1beta1.PreRolloutHook, false)}, []Outcome{OutcomeAnalyzed}},
		"closed gate before the first": {[]edit{running(0), hook(v1beta1.ConfirmTrafficIncreaseHook), answer(v1beta1.ConfirmTrafficIncreaseHook, false)},
			[]Outcome{OutcomeAnalyzed}},
		"next step":    {[]edit{running(10), metrics, verdict(analysis.Pass)}, []Outcome{OutcomeAnalyzed}},
		"failed check": {[]edit{running(10), metrics, verdict(analysis.Fail)}, []Outcome{OutcomeAnalyzed}},
		"not due":      {[]edit{running(10), notDue}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(facts(v1beta1.CanaryPhaseProgressing, c.edits...))
			if !reflect.DeepEqual(d.Outcomes, c.want) {
				t.Errorf("rule %s: outcomes %v, want %v", d.Rule, d.Outcomes, c.want)
			}
		})
	}
}
