package simulate

import (
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func otherTarget(s *v1beta1.CanarySpec) { s.TargetRef.Name = "other" }
func sameTarget(s *v1beta1.CanarySpec)  { s.TargetRef.Name = "podinfo" }

// A Canary that is led to another target keeps what serves, says what to do, and goes on once it is led back.
func TestAnotherTargetIsRefused(t *testing.T) {
	everyPhase(t, nil, func(t *testing.T, w *World, _ v1beta1.CanaryPhase) {
		routed, ran := w.routed, w.primary.template
		w.Edit(otherTarget)
		w.Run(5 * time.Minute)
		if w.primary.template != ran || w.routed != routed || w.target.replicas == 0 && routed.CanaryWeight > 0 || len(w.previous.services) > 0 {
			t.Errorf("primary runs %s after %s, routed %+v after %+v", w.primary.template, ran, w.routed, routed)
		}
		healthy := false
		for _, c := range w.Status().Conditions {
			healthy = healthy || strings.Contains(c.Message, "set it back, or delete the Canary and create one for the other target")
		}
		if !healthy || count(w.Events, "spec.targetRef: podinfo.default was rolled out for Deployment podinfo") != 1 {
			t.Errorf("conditions %+v, events %+v", w.Status().Conditions, w.Events)
		}
		w.Edit(sameTarget)
		w.Ship("v3")
		rest(t, w, succeeded)
		serves(t, w, "v3")
	})
}

// A primary that is gone is made again for the target that it belongs to.
func TestAnotherTargetKeepsThePrimary(t *testing.T) {
	w := ready(t, podinfo())
	w.Edit(otherTarget)
	w.DeletePrimary()
	w.Run(time.Hour)
	serves(t, w, "v1")
	w.Edit(sameTarget)
	rest(t, w, initialized)
	sound(t, w)
}

// What a deletion gives back is what was taken.
func TestAnotherTargetGetsNoTraffic(t *testing.T) {
	w := ready(t, podinfo(revertOnDeletion))
	w.Edit(otherTarget)
	w.Delete()
	w.Run(time.Hour)
	if !w.Gone() || w.target.available(w.now) != 2 {
		t.Errorf("gone: %t, %d pods of the former target", w.Gone(), w.target.available(w.now))
	}
	sound(t, w)
}

// A target that was deleted and created again under its name is another object, and no other target.
func TestTargetThatWasCreatedAgain(t *testing.T) {
	w := ready(t, podinfo())
	w.DeleteTarget()
	w.Run(time.Minute)
	w.Ship("v2")
	rest(t, w, succeeded)
	serves(t, w, "v2")
	sound(t, w)
}
