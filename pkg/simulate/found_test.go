package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// routedAfter runs until the first routes are there, and returns when that was.
func routedAfter(t *testing.T, w *World) time.Duration {
	t.Helper()
	until(t, w, "routes", time.Hour, func() bool { return w.routes })
	sound(t, w)
	return w.Now()
}

// A workload is taken over when proxies have had the time to find the pods of its primary, whenever the operator is restarted or fails to
// write what it has seen.
func TestBootstrapWaitsUntilProxiesFindThePrimary(t *testing.T) {
	const readyAt, delay = time.Second, 3 * time.Second
	for n := range 12 {
		killed := New(Options{Canary: podinfo(), Provider: mesh(), Template: "v1", Replicas: 2})
		killed.KillAfter(n)
		if at := routedAfter(t, killed); at != readyAt+delay {
			t.Errorf("killed after write %d: routed after %s", n, at)
		}
		failed := New(Options{Canary: podinfo(), Provider: mesh(), Template: "v1", Replicas: 2})
		failed.FailAt(n)
		if at := routedAfter(t, failed); at < readyAt+delay || at > readyAt+delay+2*time.Second {
			t.Errorf("write %d failed: routed after %s", n, at)
		}
		rest(t, failed, initialized)
	}
}

// Pods that are lost while they are waited for, and come back, are waited for anew.
func TestBootstrapFindsAPrimaryThatComesBack(t *testing.T) {
	w := New(Options{Canary: podinfo(), Provider: mesh(), Template: "v1", Replicas: 2})
	until(t, w, "a ready primary", time.Minute, func() bool {
		return w.sight.PrimaryReadySince != nil
	})
	w.now = w.now.Add(2 * time.Second)
	w.primary.lose(w.now.Add(10 * time.Second))
	if at := routedAfter(t, w); at != 16*time.Second {
		t.Errorf("routed after %s, want 3 s after the pods came back", at)
	}
	rest(t, w, initialized)
	sound(t, w)
}

// Where nothing but a Service leads to the primary there is nobody who finds its pods late.
func TestBootstrapWithoutRoutesWaitsForNothing(t *testing.T) {
	w := New(Options{Canary: podinfo(blueGreen(3)), Provider: noMesh(), Template: "v1", Replicas: 2})
	until(t, w, "the Service", time.Minute, func() bool { return w.apex })
	if w.Now() != time.Second {
		t.Errorf("led to the primary after %s, which was ready after 1 s", w.Now())
	}
	rest(t, w, initialized)
	sound(t, w)
}

// A primary that was stopped for its update gets its requests back when proxies have found its new pods, whatever write of the promotion
// is lost or is the last of an operator.
func TestStoppedPrimaryIsFoundAnew(t *testing.T) {
	for name, fault := range map[string]func(*World, int){"killed": (*World).KillAfter, "failed": (*World).FailAt} {
		for n := range 24 {
			w := ready(t, podinfo(blueGreen(1)), func(o *Options) { o.Strategy = Strategy{Recreate: true} })
			w.Ship("v2")
			untilPhase(t, w, v1beta1.CanaryPhasePromoting)
			fault(w, n)
			var back time.Duration
			until(t, w, "routes back", time.Hour, func() bool {
				if w.primary.available(w.now) == 0 || w.primary.template != "v2" {
					back = w.Now()
				}
				return w.primary.template == "v2" && w.routed == rollout.TrafficState{}
			})
			if found := w.Now() - back; found < Settings().PropagationDelay {
				t.Errorf("%s at write %d: routed %s after the pods were ready", name, n, found)
			}
			rest(t, w, succeeded)
			sound(t, w)
		}
	}
}
