package rollout

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestA22_TrafficIsForWhomItWasMeant(t *testing.T) {
	for name, c := range map[string]struct {
		match    bool
		weight   int32
		mirror   bool
		audience string
		want     TrafficState
	}{
		"at rest":                   {true, 0, false, "", TrafficState{Matched: true}},
		"all":                       {false, 30, false, v1beta1.AudienceAll, TrafficState{CanaryWeight: 30}},
		"all, and a match came":     {true, 30, false, v1beta1.AudienceAll, TrafficState{CanaryWeight: 30}},
		"copies, and a match came":  {true, 0, true, v1beta1.AudienceAll, TrafficState{Mirror: true}},
		"matched":                   {true, 100, false, v1beta1.AudienceMatched, TrafficState{CanaryWeight: 100, Matched: true}},
		"matched, without a match":  {false, 100, false, v1beta1.AudienceMatched, TrafficState{}},
		"copies, without a match":   {false, 0, true, v1beta1.AudienceMatched, TrafficState{}},
		"not recorded":              {false, 100, false, "", TrafficState{CanaryWeight: 100}},
		"not recorded, and a match": {true, 100, false, "", TrafficState{CanaryWeight: 100, Matched: true}},
	} {
		a := &v1beta1.CanaryAnalysis{}
		if c.match {
			a.Match = []v1beta1.AnalysisMatch{{}}
		}
		s := &v1beta1.CanaryStatus{CanaryWeight: c.weight, Rollout: &v1beta1.RolloutStatus{Mirror: c.mirror, Audience: c.audience}}
		if got := Traffic(a, s); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := Traffic(&v1beta1.CanaryAnalysis{}, &v1beta1.CanaryStatus{CanaryWeight: 20}); got != (TrafficState{CanaryWeight: 20}) {
		t.Errorf("without a record: %+v", got)
	}
}

// A weight that stays the same moves requests where it is meant for others.
func TestCapacityForAnotherAudience(t *testing.T) {
	for name, c := range map[string]struct {
		audience        string
		matched         bool
		primary, canary int32
		want            bool
	}{
		"all to a canary without pods":      {v1beta1.AudienceAll, true, 2, 0, false},
		"all to a canary with pods":         {v1beta1.AudienceAll, true, 0, 2, true},
		"others to a primary without pods":  {v1beta1.AudienceMatched, false, 0, 2, false},
		"others to a primary with pods":     {v1beta1.AudienceMatched, false, 2, 2, true},
		"nobody else while both have none":  {v1beta1.AudienceMatched, false, 0, 0, true},
		"the same, whoever is without pods": {v1beta1.AudienceMatched, true, 0, 0, true},
	} {
		f := facts(progressing, running(100), spec(func(s *v1beta1.CanarySpec) { s.Analysis.Match = []v1beta1.AnalysisMatch{{}} }))
		f.Canary.Status.Rollout.Audience = c.audience
		f.Routes.Matched, f.Primary.Available, f.Target.Available = c.matched, c.primary, c.canary
		if got := newPass(&f).hasCapacity(); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// Routes that come into being, as under another name, lead nothing to a canary that is gone.
func TestCapacityForNewRoutes(t *testing.T) {
	for name, c := range map[string]struct {
		weight, primary, canary int32
		want                    bool
	}{
		"a canary with pods":       {100, 2, 2, true},
		"one without":              {100, 2, 0, false},
		"one without, and nothing": {0, 2, 0, true},
		"nobody has pods":          {10, 0, 0, true},
	} {
		f := facts(progressing, running(c.weight))
		f.Routes, f.Primary.Available, f.Target.Available = RoutesFact{}, c.primary, c.canary
		if got := newPass(&f).hasCapacity(); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// What another operator left under way is for whom its routes are, whatever the spec became before anybody looked.
func TestAdoptedRunKeepsItsAudience(t *testing.T) {
	for name, c := range map[string]struct {
		match, routed bool
		want          string
	}{
		"a test":                             {true, true, v1beta1.AudienceMatched},
		"a test whose match was removed":     {false, true, v1beta1.AudienceMatched},
		"weights":                            {false, false, v1beta1.AudienceAll},
		"weights to which a match was added": {true, false, v1beta1.AudienceAll},
	} {
		f := facts(progressing, status(func(s *v1beta1.CanaryStatus) { s.Rollout, s.Iterations = nil, 1 }))
		f.Canary.Spec.Analysis.StepWeight, f.Canary.Spec.Analysis.Iterations = 0, 3
		f.Routes.CanaryWeight, f.Routes.Matched = 100, c.routed
		if c.match {
			f.Canary.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}}
		}
		d := Decide(f)
		if r := d.Status.Rollout; d.Rule != "adopt" || d.Status.CanaryWeight != 100 || r.Audience != c.want || len(d.Actions) > 0 {
			t.Errorf("%s: rule %s, weight %d, audience %q, actions %v", name, d.Rule, d.Status.CanaryWeight, r.Audience, d.Actions)
		}
	}
}
