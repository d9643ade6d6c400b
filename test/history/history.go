// Package history proves from a record of what was written to an API server that no revision of a target was skipped, and
// that nothing was promoted that had not been analyzed.
//
// A Recorder watches the objects of a namespace and keeps each version of each. Moments turns them into the line of
// situations that a rollout went through, and Check goes along it. It trusts nothing that the operator says about the
// primary: what runs there is taken from the primary itself and from the copies of its configs.
package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Content is what the pods of one side run with.
type Content struct {
	// Template is the fingerprint of the pod template. That of a primary is taken after what tells it from its target was
	// undone. Empty for a workload that does not exist.
	Template string
	// Configs are the checksums of ConfigMaps and Secrets by configmap/<name> and secret/<name>, with the names that they
	// have for the target.
	Configs map[string]string
}

// Equal is whether two contents are the same.
func (c Content) Equal(other Content) bool {
	return c.Template == other.Template && maps.Equal(c.Configs, other.Configs)
}

// String is short enough for messages and still tells contents apart.
func (c Content) String() string {
	parts := []string{clipped(c.Template)}
	for _, name := range slices.Sorted(maps.Keys(c.Configs)) {
		parts = append(parts, name+"="+clipped(c.Configs[name]))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func clipped(s string) string {
	const enough = 9
	return s[:min(len(s), enough)]
}

// Step is how far an analysis has led traffic to a revision.
type Step struct{ Weight, Iteration int32 }

// Status is the part of the status of a Canary that the proof rests on.
type Status struct {
	Phase v1beta1.CanaryPhase
	// Run is the number of the analysis.
	Run int64
	// Target is the revision that the status is about, Promoted the one that the primary is said to run.
	Target, Promoted Content
	Step             Step
	FailedChecks     int32
	// Due is when the next step may be taken, zero for at once.
	Due time.Time
}

func (s *Status) resting() bool {
	switch s.Phase {
	case v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed:
		return true
	default:
		return false
	}
}

// analyzing is whether a revision is judged.
func (s *Status) analyzing() bool {
	return s.Phase == v1beta1.CanaryPhaseProgressing || s.Phase == v1beta1.CanaryPhaseWaitingPromotion
}

// running is whether a run has begun that has no verdict yet.
func (s *Status) running() bool {
	return s.analyzing() || s.Phase == v1beta1.CanaryPhasePromoting || s.Phase == v1beta1.CanaryPhaseFinalising
}

func (s *Status) equal(other *Status) bool {
	return s.Phase == other.Phase && s.Run == other.Run && s.Step == other.Step && s.FailedChecks == other.FailedChecks &&
		s.Due.Equal(other.Due) && s.Target.Equal(other.Target) && s.Promoted.Equal(other.Promoted)
}

// Moment is the situation after one write.
type Moment struct {
	// Version is the resource version of the write, At when a watch told of it, which is never before it was made.
	Version int64
	At      time.Time
	// Target is what the user asks for, Primary what the pods of the primary are started with.
	Target, Primary Content
	Status          Status
	// Skip is whether the user wants no analysis.
	Skip bool
}

// Rules say what an analysis consists of.
type Rules struct {
	// Steps are those that a revision has to be seen at, one after the other, before it may be promoted.
	Steps []Step
	// Threshold is how many failed checks end an analysis.
	Threshold int32
	// Notice is how long a change may go unnoticed while no promotion is under way.
	Notice time.Duration
}

// Violation is a promise that was broken.
type Violation struct {
	Moment int
	// Version and At are those of the moment.
	Version int64
	At      time.Time
	// Rule is one word for the promise.
	Rule string
	Text string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s at version %d (%s): %s", v.Rule, v.Version, v.At.Format("15:04:05.000"), v.Text)
}

// Summary counts what a history is made of, to show that the proof was about something.
type Summary struct {
	// Revisions are the changes of the target and its configs, the first state included.
	Revisions int
	// Runs are the analyses, of which some were promoted, some without being analyzed, some failed, some were taken back
	// with their change, and the others gave way to a newer revision.
	Runs, Promoted, Skipped, Failed, Canceled, Superseded int
	// Met counts the changes by the phase in which they came.
	Met map[v1beta1.CanaryPhase]int
}

// Add takes another history in.
func (s *Summary) Add(other Summary) {
	s.Revisions += other.Revisions
	s.Runs += other.Runs
	s.Promoted += other.Promoted
	s.Skipped += other.Skipped
	s.Failed += other.Failed
	s.Canceled += other.Canceled
	s.Superseded += other.Superseded
	for phase, n := range other.Met {
		s.met(phase, n)
	}
}

func (s *Summary) met(phase v1beta1.CanaryPhase, n int) {
	if s.Met == nil {
		s.Met = map[v1beta1.CanaryPhase]int{}
	}
	s.Met[phase] += n
}

func (s Summary) String() string {
	return fmt.Sprintf("%d revisions, %d runs: %d promoted (%d of them unanalyzed as asked for), %d failed, %d canceled, %d superseded; changes met the phases %v",
		s.Revisions, s.Runs, s.Promoted, s.Skipped, s.Failed, s.Canceled, s.Superseded, s.Met)
}
