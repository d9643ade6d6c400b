package simulate

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// Delete deletes the Canary. It is gone at once unless our finalizer holds it.
func (w *World) Delete() {
	if w.gone || w.canary.DeletionTimestamp != nil {
		return
	}
	w.note("somebody deletes the Canary")
	at := metav1.NewTime(w.now)
	w.canary.DeletionTimestamp = &at
	w.collect()
}

// Gone is whether the Canary has vanished, and with it what it owned.
func (w *World) Gone() bool { return w.gone }

// collect removes a deleted Canary that nothing holds, as the API server and the garbage collector do.
func (w *World) collect() {
	if w.canary.DeletionTimestamp == nil || len(w.canary.Finalizers) > 0 {
		return
	}
	w.note("the Canary and its primary are gone")
	w.gone, w.questions, w.wake = true, nil, time.Time{}
	w.primary = deployment{name: w.primary.name}
}

// reverted is whether Services and routes are as the user had them.
func (w *World) reverted() bool {
	return w.canary.DeletionTimestamp != nil && w.free()
}

// free is whether nothing leads to the primary.
func (w *World) free() bool { return !w.apex && !w.routes }

// applyDeletion carries out the actions that belong to deletions.
func (w *World) applyDeletion(a rollout.Action) {
	switch a.(type) {
	case rollout.AddFinalizer:
		w.canary.Finalizers = append(w.canary.Finalizers, v1beta1.Finalizer)
	case rollout.RemoveFinalizer:
		w.canary.Finalizers = slices.DeleteFunc(w.canary.Finalizers, func(f string) bool { return f == v1beta1.Finalizer })
		w.collect()
	case rollout.RestoreTarget:
		w.target.scale(w.now, max(1, w.target.replicas, w.primary.replicas))
	case rollout.RevertRouting:
		if !w.free() {
			w.freeSince = w.now
		}
		w.apex, w.routes, w.routed = false, false, rollout.TrafficState{}
	default:
	}
}

// told is whether an event with a text was published.
func (w *World) told(text string) bool {
	return slices.ContainsFunc(w.Events, func(e Event) bool { return strings.Contains(e.Message, text) })
}

// letsGo is whether the only action takes the finalizer away, for which nothing of the cluster has to be known.
func letsGo(actions []rollout.Action) bool {
	_, ok := actions[0].(rollout.RemoveFinalizer)
	return ok && len(actions) == 1
}

// checkDeletion holds the actions of a deletion against the invariants 1 and 2.
func (w *World) checkDeletion(a rollout.Action) {
	switch a.(type) {
	case rollout.AddFinalizer:
		if w.canary.DeletionTimestamp != nil {
			w.violate(7, "finalizer added to a Canary that is being deleted, which no API server accepts")
		}
	case rollout.RemoveFinalizer:
		if w.canary.DeletionTimestamp == nil || !w.canary.Spec.RevertOnDeletion {
			return
		}
		if !w.told("Terminated canary") {
			w.violate(7, "the Canary goes and nobody was told")
		}
		if w.primary.exists && (!w.free() || w.now.Sub(w.freeSince) < w.drainTime(w.taken)) {
			w.violate(2, "the primary goes although traffic may still reach it")
		}
	case rollout.RevertRouting:
		// Nothing can be handed back to a target that its user deleted as well, and one that its autoscaler took down is as it was
		// without a Canary.
		takenDown := w.scaler.exists && w.scaler.told == "" && w.target.replicas == 0
		if w.target.exists && w.target.available(w.now) == 0 && w.primary.available(w.now) > 0 && !takenDown {
			w.violate(1, "clients led to a target without a ready pod")
		}
	default:
	}
}
