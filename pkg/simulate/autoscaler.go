package simulate

import (
	"time"

	"flagger.app/flagger/pkg/rollout"
)

// pollEvery is how often the autoscaler looks for work.
const pollEvery = 30 * time.Second

// autoscaler is a ScaledObject of KEDA for the target and, made by the operator, one for the primary. Without work it leaves both
// without pods.
type autoscaler struct {
	// exists is whether the target has one, idle whether there is no work.
	exists, idle bool
	// told is the number of pods that the target was told to be left with, none if empty.
	told string
	// made is whether the primary has one, floor its least number of pods.
	made  bool
	floor int32
	// polledAt is when it looked last.
	polledAt time.Time
}

// fact is what the rules see of it.
func (a *autoscaler) fact(want int32) rollout.ScalerFact {
	if !a.exists {
		return rollout.ScalerFact{}
	}
	return rollout.ScalerFact{
		Wanted: true, InPlace: a.made && a.floor == want, AdmitsZero: true, Pausable: true, Paused: a.told == "0", Held: a.told == "1",
	}
}

// wantedFloor is the least number of pods that the primary is to have now.
func (w *World) wantedFloor() int32 {
	if rollout.KeepsPrimaryUp(w.canary.Status.Phase) {
		return 1
	}
	return 0
}

// wants is how many pods it gives a workload that has some number of them.
func (a *autoscaler) wants(has, least int32) int32 {
	if a.idle {
		return least
	}
	return max(1, has)
}

// targetWants and primaryWants are how many pods it gives the two.
func (w *World) targetWants() int32 {
	switch a := &w.scaler; a.told {
	case "0":
		return 0
	case "1":
		return 1
	default:
		return a.wants(w.target.replicas, 0)
	}
}

func (w *World) primaryWants() int32 {
	if !w.scaler.made {
		return w.primary.replicas
	}
	return w.scaler.wants(w.primary.replicas, w.scaler.floor)
}

// autoscale does what the autoscaler does when it looks for work.
func (w *World) autoscale() {
	a := &w.scaler
	if !a.exists || w.now.Before(a.polledAt.Add(pollEvery)) {
		return
	}
	a.polledAt = w.now
	w.target.scale(w.now, w.targetWants())
	w.primary.scale(w.now, w.primaryWants())
}

// nextPoll is when it changes something. Zero means never, as things are.
func (w *World) nextPoll() time.Time {
	a := &w.scaler
	changes := w.target.exists && w.target.replicas != w.targetWants() || w.primary.exists && w.primary.replicas != w.primaryWants()
	if at := a.polledAt.Add(pollEvery); a.exists && changes {
		if at.After(w.now) {
			return at
		}
		return w.now.Add(time.Millisecond)
	}
	return time.Time{}
}

// atZero is whether a workload is without pods because its autoscaler means it to be.
func (w *World) atZero(d *deployment) bool {
	return w.scaler.exists && w.scaler.idle && d.exists && d.replicas == 0
}

// applyScaling carries out the actions that are about the autoscaler.
func (w *World) applyScaling(a rollout.Action) {
	switch a.(type) {
	case rollout.EnsurePrimaryScaler:
		w.scaler.made, w.scaler.floor = true, w.wantedFloor()
	case rollout.RaisePrimary:
		if w.primary.replicas == 0 {
			w.primary.scale(w.now, 1)
		}
	case rollout.HoldTarget:
		w.scaler.told = "1"
		if w.target.replicas == 0 {
			w.target.scale(w.now, 1)
		}
	case rollout.ScaleTargetUp, rollout.RestoreTarget:
		w.scaler.told = ""
	case rollout.ScaleTargetToZero, rollout.PauseTarget:
		w.scaler.told = "0"
	default:
	}
}
