package rollout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Short waits begin with what a pass has seen, and end with a change that is written anyway. A write for the sight alone, and another one
// when it is over, would keep nothing of worth: whoever takes over has to see for himself, and then waits anew. So the process keeps it in
// mind.

// maxUnwritten is the longest wait that is not written down. It is about as long as another process takes to get the lease
// of one that was killed.
const maxUnwritten = 15 * time.Second

// Sight is since when a process has seen what short waits depend on. The zero value has seen nothing.
type Sight struct {
	// Run, Phase and Stage are those of the status that it is about. With any other it counts for nothing.
	Run   int64
	Phase v1beta1.CanaryPhase
	Stage string
	// CanaryDrainedAt, PrimaryReadySince and NextCheckAt mean what they mean in the status, the last one as long as a run has not
	// announced its start.
	CanaryDrainedAt, PrimaryReadySince, NextCheckAt *metav1.MicroTime
}

// sights are the times of the record that may be kept in mind, each with its place in a Sight. A NextCheckAt that was announced is more than
// the wait for proxies.
func sights(st *v1beta1.RolloutStatus, s *Sight, announced bool) [3][2]**metav1.MicroTime {
	pairs := [3][2]**metav1.MicroTime{
		{&st.CanaryDrainedAt, &s.CanaryDrainedAt}, {&st.PrimaryReadySince, &s.PrimaryReadySince}, {&st.NextCheckAt, &s.NextCheckAt},
	}
	if announced {
		pairs[2] = pairs[0]
	}
	return pairs
}

// announced is whether the start of the run is told, if it is one.
func (p *pass) announced() bool {
	return p.next.Phase != v1beta1.CanaryPhaseProgressing || p.st.Stage != ""
}

// recall adds to the record what this process has seen since it was written.
func (p *pass) recall() {
	s := p.f.Sight
	if s.Run != p.st.Run || s.Phase != p.next.Phase || s.Stage != p.st.Stage {
		return
	}
	for _, pair := range sights(p.st, &s, p.announced()) {
		if written, seen := pair[0], pair[1]; *written == nil {
			*written = (*seen).DeepCopy()
		}
	}
}

// settleSight takes out of the next status what is to be kept in mind, and returns it. What was written and holds no longer is no sight: it
// has to be taken back.
func (p *pass) settleSight() Sight {
	s := Sight{Run: p.st.Run, Phase: p.next.Phase, Stage: p.st.Stage}
	stored := p.c.Status.Rollout
	if stored == nil {
		stored = &v1beta1.RolloutStatus{}
	}
	seen, was := sights(p.st, &s, p.announced()), sights(stored, &Sight{}, p.announced())
	for i, pair := range seen {
		if *was[i][0] == nil {
			*pair[1] = (*pair[0]).DeepCopy()
		}
	}
	if !p.longWait(&s) {
		for _, pair := range seen {
			if *pair[1] != nil {
				*pair[0] = nil
			}
		}
	}
	return s
}

// longWait is whether what was seen is worth a write.
func (p *pass) longWait(s *Sight) bool {
	found := s.PrimaryReadySince != nil || s.NextCheckAt != nil
	return found && p.f.Settings.PropagationDelay > maxUnwritten || s.CanaryDrainedAt != nil && p.canaryDrainTime() > maxUnwritten
}
