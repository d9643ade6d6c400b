package simulate

import (
	"testing"
	"time"
)

// Pods that somebody gives a target at rest, as a tool that applies a number of replicas from Git, get no requests and cost money. They go
// once in an interval, with no run and one message each time, and who applies them every second is not fought every second.
func TestReplicasFromGitAreScaledBack(t *testing.T) {
	w := world(podinfo())
	rest(t, w, initialized)
	run := w.canary.Status.Rollout.Run
	w.target.replicas = 3
	w.settleCluster()
	w.Run(5 * time.Minute)
	if w.target.replicas != 0 || len(w.target.pods) != 0 {
		t.Fatalf("%d replicas", w.target.replicas)
	}
	const text = "podinfo.default has pods that no rollout gave it and that get no requests, scaling it to zero again"
	if n := count(w.Events, text); n != 1 {
		t.Errorf("told %d times", n)
	}
	if !w.wake.IsZero() {
		t.Errorf("wakes at %s", w.wake)
	}

	writes := w.Writes()
	for range 600 {
		w.target.replicas = 3
		w.settleCluster()
		w.Run(time.Second)
	}
	if n := count(w.Events, text); n < 6 || n > 12 {
		t.Errorf("told %d times in ten intervals", n)
	}
	if n := w.Writes() - writes; n > 60 {
		t.Errorf("%d writes in ten intervals", n)
	}
	if s := w.canary.Status; s.Phase != initialized || s.Rollout.Run != run {
		t.Errorf("%s, run %d after %d", s.Phase, s.Rollout.Run, run)
	}
	w.Ship("v2")
	rest(t, w, succeeded)
	sound(t, w)
}
