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
	}
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
		at, since := f.Now.Sub(f.Canary.CreationTimestamp.Time), time.Duration(-1)
		for from, place := range places {
			if from <= at && from > since {
				since, f.Queue.Position = from, place
			}
		}
		f.OthersFirst = f.Queue.Position > 0 && rollout.Pending(f)
	}
}

func TestGoldenWaits(t *testing.T) {
	for _, s := range waits() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}
