package history

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	initializing = v1beta1.CanaryPhaseInitializing
	initialized  = v1beta1.CanaryPhaseInitialized
	progressing  = v1beta1.CanaryPhaseProgressing
	promoting    = v1beta1.CanaryPhasePromoting
	finalising   = v1beta1.CanaryPhaseFinalising
	succeeded    = v1beta1.CanaryPhaseSucceeded
	failed       = v1beta1.CanaryPhaseFailed
)

// script writes a history moment by moment, a second apart.
type script struct {
	moments []Moment
	now     Moment
}

func (s *script) next() *script {
	s.now.Version++
	s.now.At = s.now.At.Add(time.Second)
	s.moments = append(s.moments, s.now)
	return s
}

func revision(template, config string) Content {
	return Content{Template: template, Configs: map[string]string{"configmap/settings": config}}
}

func (s *script) asks(template, config string) *script {
	s.now.Target = revision(template, config)
	return s.next()
}

func (s *script) runs(template, config string) *script {
	s.now.Primary = revision(template, config)
	return s.next()
}

func (s *script) says(edit func(*Status)) *script {
	edit(&s.now.Status)
	return s.next()
}

func (s *script) phase(phase v1beta1.CanaryPhase) *script {
	return s.says(func(st *Status) { st.Phase = phase })
}

// passes is time in which nothing is written but what does not matter.
func (s *script) passes(d time.Duration) *script {
	s.now.At = s.now.At.Add(d)
	return s.says(func(st *Status) { st.FailedChecks++ })
}

// begins is the start of a run of what the target is.
func (s *script) begins() *script {
	return s.says(func(st *Status) {
		st.Phase, st.Target, st.Step, st.FailedChecks = progressing, s.now.Target, Step{}, 0
		st.Run++
	})
}

func (s *script) steps(weights ...int32) *script {
	for _, w := range weights {
		s.says(func(st *Status) { st.Step.Weight, st.Due = w, s.now.At.Add(2*time.Second) })
	}
	return s
}

func (s *script) promotes() *script {
	s.phase(promoting)
	to := s.now.Status.Target
	s.runs(s.now.Primary.Template, to.Configs["configmap/settings"])
	return s.runs(to.Template, to.Configs["configmap/settings"])
}

func (s *script) succeeds() *script {
	s.says(func(st *Status) { st.Phase, st.Step = finalising, Step{} })
	return s.says(func(st *Status) { st.Phase, st.Promoted = succeeded, st.Target })
}

func (s *script) fails() *script {
	return s.says(func(st *Status) { st.Phase, st.Step = failed, Step{} })
}

// taken is a target that a Canary has taken over.
func taken() *script {
	s := &script{now: Moment{At: time.Unix(0, 0)}}
	s.asks("v1", "one")
	s.says(func(st *Status) { st.Phase, st.Target = initializing, s.now.Target })
	s.now.Primary = Content{Configs: map[string]string{"configmap/settings": "one"}}
	s.next().runs("v1", "one")
	return s.says(func(st *Status) { st.Phase, st.Promoted = initialized, st.Target })
}

func rules() Rules {
	return Rules{Steps: []Step{{Weight: 20}, {Weight: 40}}, Threshold: 2, Notice: 10 * time.Second}
}

func TestGoodHistories(t *testing.T) {
	for name, c := range map[string]struct {
		story *script
		want  Summary
	}{
		"at rest":  {taken(), Summary{Revisions: 1}},
		"promoted": {taken().asks("v2", "one").begins().steps(20, 40).promotes().succeeds(), Summary{Revisions: 2, Runs: 1, Promoted: 1}},
		"a config alone": {
			taken().asks("v1", "two").begins().steps(20, 40).promotes().succeeds(),
			Summary{Revisions: 2, Runs: 1, Promoted: 1},
		},
		"failed, then mended": {
			taken().asks("v2", "one").begins().steps(20).fails().asks("v3", "one").begins().steps(20, 40).promotes().succeeds(),
			Summary{Revisions: 3, Runs: 2, Promoted: 1, Failed: 1},
		},
		"superseded under way": {
			taken().asks("v2", "one").begins().steps(20).asks("v2", "two").begins().steps(20, 40).promotes().succeeds(),
			Summary{Revisions: 3, Runs: 2, Promoted: 1, Superseded: 1},
		},
		"superseded unseen": {
			taken().asks("v2", "one").asks("v3", "one").begins().steps(20, 40).promotes().succeeds(),
			Summary{Revisions: 3, Runs: 1, Promoted: 1},
		},
		"changed in a promotion": {
			taken().asks("v2", "one").begins().steps(20, 40).phase(promoting).runs("v2", "one").asks("v3", "one").passes(time.Minute).
				succeeds().begins().steps(20, 40).promotes().succeeds(),
			Summary{Revisions: 3, Runs: 2, Promoted: 2},
		},
		"taken back": {
			taken().asks("v2", "one").begins().steps(20).asks("v1", "one").says(func(st *Status) { st.Target, st.Step = st.Promoted, Step{} }).
				phase(succeeded),
			Summary{Revisions: 3, Runs: 1, Canceled: 1},
		},
		"failed, taken back, and tried again": {
			taken().asks("v2", "one").begins().steps(20).fails().asks("v1", "one").says(func(st *Status) { st.Target = st.Promoted }).
				asks("v2", "one").begins().steps(20).fails(),
			Summary{Revisions: 4, Runs: 2, Failed: 2},
		},
		"steps again after the canary died": {
			taken().asks("v2", "one").begins().steps(20, 0, 20, 40).promotes().succeeds(),
			Summary{Revisions: 2, Runs: 1, Promoted: 1},
		},
		"unanalyzed as asked for": {
			skipping().asks("v2", "one").begins().promotes().succeeds(),
			Summary{Revisions: 2, Runs: 1, Promoted: 1, Skipped: 1},
		},
		"a primary that was deleted": {
			taken().asks("v2", "one").begins().steps(20).fails().runs("", "one").runs("v1", "one"),
			Summary{Revisions: 2, Runs: 1, Failed: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			violations, got := Check(c.story.moments, rules())
			got.Met = nil
			for _, v := range violations {
				t.Error(v)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
		})
	}
}

func skipping() *script {
	s := taken()
	s.now.Skip = true
	return s.next()
}

func TestBadHistories(t *testing.T) {
	good := func() *script { return taken().asks("v2", "two").begins().steps(20, 40) }
	for name, c := range map[string]struct {
		story *script
		want  []string
	}{
		"a step is left out":          {taken().asks("v2", "one").begins().steps(20).promotes().succeeds(), []string{unanalyzed}},
		"no step at all":              {taken().asks("v2", "one").begins().promotes().succeeds(), []string{unanalyzed}},
		"no run":                      {taken().asks("v2", "one").runs("v2", "one"), []string{unanalyzed, lost}},
		"before the status":           {good().runs("v2", "two").phase(promoting).succeeds(), []string{unanalyzed}},
		"something else is promoted":  {good().phase(promoting).asks("v3", "two").runs("v3", "two"), []string{unanalyzed, lost}},
		"another config is promoted":  {good().phase(promoting).runs("v1", "three"), []string{unanalyzed, lost}},
		"a config is left behind":     {good().phase(promoting).runs("v2", "one"), []string{unanalyzed, lost}},
		"another one's config":        {taken().runs("v1", "two"), []string{unanalyzed, lost}},
		"a failed check too many":     {taken().asks("v2", "one").begins().steps(20).passes(0).passes(0).steps(40).promotes().succeeds(), []string{unanalyzed}},
		"the steps of another run":    {taken().asks("v2", "one").begins().steps(20).asks("v3", "one").begins().steps(40).promotes().succeeds(), []string{unanalyzed}},
		"a verdict in a hurry":        {taken().asks("v2", "one").begins().says(hurried(20)).says(hurried(40)).promotes().succeeds(), []string{tooEarly}},
		"a revision that never was":   {taken().says(func(st *Status) { st.Phase, st.Target, st.Run = progressing, revision("v9", "one"), 1 }).fails(), []string{invented, lost}},
		"a run without a change":      {taken().begins().steps(20, 40).promotes().succeeds(), []string{unasked}},
		"a verdict on something else": {taken().asks("v2", "one").begins().asks("v3", "one").says(func(st *Status) { st.Target = revision("v3", "one"); st.Phase = failed }), []string{dropped}},
		"the run goes on with another revision": {
			taken().asks("v2", "one").begins().steps(20).asks("v3", "one").says(func(st *Status) { st.Target = revision("v3", "one") }).
				steps(40).promotes().succeeds(),
			[]string{dropped, unanalyzed},
		},
		"a run vanishes":                   {taken().asks("v2", "one").begins().steps(20).phase(initialized), []string{dropped, lost}},
		"success without a promotion":      {taken().asks("v2", "one").begins().steps(20).says(func(st *Status) { st.Phase, st.Promoted = succeeded, st.Target }), []string{untrue, dropped, lost}},
		"success before the copy":          {good().phase(promoting).succeeds(), []string{untrue, lost}},
		"restarted for nothing":            {taken().asks("v2", "one").begins().steps(20).begins().steps(20, 40).promotes().succeeds(), []string{unasked, dropped}},
		"a change nobody took up":          {taken().asks("v2", "one").passes(11 * time.Second), []string{unnoticed, lost}},
		"a change skipped for the next":    {taken().asks("v2", "one").passes(11*time.Second).asks("v3", "one").begins().steps(20, 40).promotes().succeeds(), []string{unnoticed}},
		"a change under way not taken up":  {taken().asks("v2", "one").begins().asks("v3", "one").passes(11 * time.Second).begins().fails(), []string{unnoticed}},
		"the end in the middle":            {good(), []string{lost}},
		"the last change has no verdict":   {good().promotes().succeeds().asks("v3", "two"), []string{lost}},
		"a config change has no verdict":   {good().promotes().succeeds().asks("v2", "three"), []string{lost}},
		"a deleted primary is made of new": {taken().asks("v2", "one").begins().steps(20).fails().runs("", "one").runs("v2", "one"), []string{unanalyzed}},
	} {
		t.Run(name, func(t *testing.T) {
			violations, _ := Check(c.story.moments, rules())
			var got []string
			for _, v := range violations {
				got = append(got, v.Rule)
			}
			if diff := cmp.Diff(c.want, slices.Compact(got)); diff != "" {
				t.Errorf("violations (-want +got):\n%s\n%v", diff, violations)
			}
		})
	}
}

// hurried takes a step whose judgment is due in a minute, which nobody awaits.
func hurried(weight int32) func(*Status) {
	return func(st *Status) { st.Step.Weight, st.Due = weight, time.Unix(3600, 0) }
}

func TestChangesAreCountedByPhase(t *testing.T) {
	s := taken().asks("v2", "one").begins().asks("v3", "one").begins().steps(20, 40).promotes().asks("v4", "one").asks("v5", "one")
	_, sum := Check(s.moments, rules())
	sum.Add(Summary{Runs: 3, Met: map[v1beta1.CanaryPhase]int{promoting: 1, failed: 1}})
	want := Summary{Revisions: 5, Runs: 5, Superseded: 1, Met: map[v1beta1.CanaryPhase]int{initialized: 1, progressing: 1, promoting: 3, failed: 1}}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}
