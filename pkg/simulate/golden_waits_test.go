package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// waits are scenarios in which a change has to wait for others before its rollout begins.
func waits() []scenario {
	return []scenario{
		{"waits-for-its-turn", Options{Canary: podinfo(withHook(v1beta1.ConfirmRolloutHook)), Provider: mesh(), Template: "v1", Replicas: 2,
			Adapt: queued(map[time.Duration]int32{0: 7, 20 * time.Minute: 6, 30 * time.Minute: 3, 40 * time.Minute: 1, 50 * time.Minute: 0}),
		}, func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			pass(w, 25*time.Minute)
			pass(w, 10*time.Minute)
			w.Ship("v3")
			pass(w, time.Minute)
			w.Ship("v1")
			pass(w, time.Minute)
			w.Ship("v4")
			pass(w, 5*time.Minute)
			pass(w, 10*time.Minute)
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"waits-for-schedule", Options{Canary: podinfo(), Provider: mesh(), Template: "v1", Replicas: 2, Adapt: closed(false, true)},
			func(t *testing.T, w *World) {
				rest(t, w, v1beta1.CanaryPhaseInitialized)
				w.Ship("v2")
				w.Run(30 * time.Minute)
				w.Ship("v3")
				rest(t, w, v1beta1.CanaryPhaseSucceeded)
			}},
		{"held-by-schedule", Options{Canary: podinfo(threshold(5)), Provider: mesh(), Template: "v1", Replicas: 2, Adapt: closed(true, false, true, false, true),
			Metrics: badSuccessRate("v3")},
			func(t *testing.T, w *World) {
				rest(t, w, v1beta1.CanaryPhaseInitialized)
				pass(w, 56*time.Minute)
				w.Ship("v2")
				rest(t, w, v1beta1.CanaryPhaseSucceeded)
				pass(w, 54*time.Minute)
				w.Ship("v3")
				rest(t, w, v1beta1.CanaryPhaseFailed)
			}},
		{"urgent", Options{Canary: podinfo(), Provider: mesh(), Template: "v1", Replicas: 2, Adapt: closed(true, true, true)},
			func(t *testing.T, w *World) {
				rest(t, w, v1beta1.CanaryPhaseInitialized)
				w.Ship("v2")
				w.Run(10 * time.Minute)
				w.canary.Annotations = map[string]string{v1beta1.UrgentAnnotation: "INC-1"}
				rest(t, w, v1beta1.CanaryPhaseSucceeded)
				w.Ship("v3")
				w.Run(10 * time.Minute)
				rest(t, w, v1beta1.CanaryPhaseSucceeded)
			}},
		{"waits-for-canaries", Options{Canary: podinfo(behindBackend("")), Provider: mesh(), Template: "v1", Replicas: 2,
			Adapt: backend(map[time.Duration]rollout.DependencyState{
				0: rollout.DependencyPromoted, time.Hour: rollout.DependencyUnderWay, 80 * time.Minute: rollout.DependencyFailed,
				90 * time.Minute: rollout.DependencyUnderWay, 100 * time.Minute: rollout.DependencyPromoted}),
		}, func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
			pass(w, time.Hour)
			w.Ship("v3")
			for range 5 {
				pass(w, 10*time.Minute)
			}
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"waits-for-canaries-too-long", Options{Canary: podinfo(behindBackend(v1beta1.AtDeadlineFail)), Provider: mesh(), Template: "v1", Replicas: 2,
			Adapt: backend(map[time.Duration]rollout.DependencyState{0: rollout.DependencyMissing, 2 * time.Hour: rollout.DependencyPromoted}),
		}, func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			pass(w, 10*time.Minute)
			pass(w, time.Hour)
			rest(t, w, v1beta1.CanaryPhaseFailed)
			pass(w, time.Hour)
			w.Ship("v3")
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
		{"waits-for-canaries-and-begins", Options{Canary: podinfo(behindBackend(v1beta1.AtDeadlineBegin)), Provider: mesh(), Template: "v1", Replicas: 2,
			Adapt: backend(map[time.Duration]rollout.DependencyState{0: rollout.DependencySuspended}),
		}, func(t *testing.T, w *World) {
			rest(t, w, v1beta1.CanaryPhaseInitialized)
			w.Ship("v2")
			pass(w, time.Hour)
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
		}},
	}
}

// closed is a schedule by the hour, which holds rollouts under way or not: it is closed in those that are said to be, and open from then on.
func closed(holds bool, hours ...bool) func(*rollout.Facts) {
	return func(f *rollout.Facts) {
		hour := int(f.Now.Sub(f.Canary.CreationTimestamp.Time).Hours())
		if underWay := rollout.UnderWay(f.Canary.Status.Phase); hour >= len(hours) || !hours[hour] || !underWay && !rollout.Pending(f) {
			return
		}
		opens := hour
		for opens < len(hours) && hours[opens] {
			opens++
		}
		f.Schedule = rollout.ScheduleFact{Closed: true, Holds: holds, By: "spec.analysis.schedule",
			Opens: f.Canary.CreationTimestamp.Add(time.Duration(opens) * time.Hour)}
	}
}

// behindBackend makes a Canary depend on another one.
func behindBackend(atDeadline string) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) {
		s.DependsOn = &v1beta1.DependsOn{Canaries: []v1beta1.CanaryReference{{Name: "backend"}}, AtDeadline: atDeadline}
	}
}

// backend is how far that one is, by the time.
func backend(states map[time.Duration]rollout.DependencyState) func(*rollout.Facts) {
	return func(f *rollout.Facts) {
		f.Dependencies = []rollout.DependencyFact{{Name: "backend.default", State: latest(f, states)}}
	}
}

// latest is what holds at the time of a pass.
func latest[T any](f *rollout.Facts, all map[time.Duration]T) (now T) {
	at, since := f.Now.Sub(f.Canary.CreationTimestamp.Time), time.Duration(-1)
	for from, what := range all {
		if from <= at && from > since {
			since, now = from, what
		}
	}
	return now
}

// pass lets time go by in which nothing happens here, and then somebody asks for a pass.
func pass(w *World, d time.Duration) {
	w.Run(0)
	w.now = w.now.Add(d)
	w.Run(0)
}

// queued is a place in the queue that changes with the time; 0 is the turn.
func queued(places map[time.Duration]int32) func(*rollout.Facts) {
	return func(f *rollout.Facts) {
		f.Settings.MaxRollouts = 3
		f.Queue.Position = latest(f, places)
		f.OthersFirst = f.Queue.Position > 0 && rollout.Pending(f)
	}
}

func TestGoldenWaits(t *testing.T) {
	for _, s := range waits() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}
