package rollout

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A share is asked for where weights divide all requests, and nowhere else.
func TestWhichStepsAskForAShare(t *testing.T) {
	analysis := func(change func(a *v1beta1.CanaryAnalysis)) edit {
		return spec(func(s *v1beta1.CanarySpec) { change(s.Analysis) })
	}
	for name, tc := range map[string]struct {
		edits []edit
		asks  bool
	}{
		"a weight":                {[]edit{running(10)}, true},
		"all requests":            {[]edit{running(100)}, true},
		"before the first weight": {[]edit{running(0)}, false},
		"ignored":                 {[]edit{running(10), analysis(func(a *v1beta1.CanaryAnalysis) { a.Split = &v1beta1.SplitPolicy{Mode: v1beta1.SplitIgnore} })}, false},
		"blue/green":              {[]edit{running(100), analysis(func(a *v1beta1.CanaryAnalysis) { a.Iterations = 3 })}, false},
		"an A/B test":             {[]edit{running(100), analysis(func(a *v1beta1.CanaryAnalysis) { a.Iterations, a.Match = 3, []v1beta1.AnalysisMatch{{}} })}, false},
		"testers first":           {[]edit{running(10), analysis(func(a *v1beta1.CanaryAnalysis) { a.CanaryMatch = []v1beta1.AnalysisMatch{{}} })}, false},
		"sessions":                {[]edit{running(10), analysis(func(a *v1beta1.CanaryAnalysis) { a.SessionAffinity = &v1beta1.SessionAffinity{} })}, false},
		"copies":                  {[]edit{running(10), func(f *Facts) { f.Canary.Status.Rollout.Mirror = true }}, false},
		"a canary that serves":    {[]edit{running(100), func(f *Facts) { f.Canary.Status.Rollout.ServingSide = v1beta1.ServingCanary }}, false},
		"no routes":               {[]edit{running(10), func(f *Facts) { f.Provider = ProviderFact{Name: "kubernetes"} }}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(progressing, append(tc.edits, spec(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics = []v1beta1.CanaryMetric{{Name: "m"}} }))...)
			p := newPass(&f)
			s := p.metricsQuestion().Check.Split
			if (s != nil) != tc.asks {
				t.Fatalf("asked for %+v", s)
			}
			if s != nil && (s.Weight != f.Canary.Status.CanaryWeight || s.Settling != 3*time.Second || s.Mode != v1beta1.SplitObserve) {
				t.Errorf("asked for %+v", s)
			}
		})
	}
}
