package simulate

import (
	"fmt"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// A target that gets its pods back right after it lost them is counted by what its controller heard of the pods before. No request
// goes to it before it has pods, whatever is reported, and it passes as if it had been reported at once.
func TestReportsOfPodsThatWentAreNotBelieved(t *testing.T) {
	for _, lag := range []time.Duration{0, time.Second, 5 * time.Second, 20 * time.Second} {
		t.Run(fmt.Sprint(lag), func(t *testing.T) {
			configs := "1"
			w := ready(t, podinfo(threshold(1)), func(o *Options) {
				o.Lag = lag
				o.Behaviors = map[string]Behavior{"v2": {Startup: 30 * time.Second}}
				o.Metrics = badSuccessRate("v2")
				o.Adapt = func(f *rollout.Facts) {
					f.Target.Revision.Configs = map[string]string{"configmap/podinfo": configs}
					f.Primary.CopyConfigs = map[string]string{"configmap/podinfo": "1"}
					if f.Primary.Revision.Fingerprint == "v2" {
						f.Primary.CopyConfigs = f.Target.Revision.Configs
					}
				}
			})
			w.Ship("v2")
			until(t, w, "a target without pods", time.Hour, func() bool { return w.Status().Phase == v1beta1.CanaryPhaseFailed && w.target.replicas == 0 })
			configs, w.opts.Metrics = "2", nil
			until(t, w, "requests for the canary", time.Hour, func() bool { return w.routed.CanaryWeight > 0 })
			if w.target.available(w.now) == 0 {
				t.Errorf("%d%% of the requests go to a canary without pods", w.routed.CanaryWeight)
			}
			rest(t, w, v1beta1.CanaryPhaseSucceeded)
			sound(t, w)
		})
	}
}

// The same for a Canary that is deleted right after its run: its target gets no requests back before it has pods.
func TestDeletionRightAfterARun(t *testing.T) {
	w := ready(t, podinfo(threshold(1), func(s *v1beta1.CanarySpec) { s.RevertOnDeletion = true }), func(o *Options) {
		o.Lag = 5 * time.Second
		o.Behaviors = map[string]Behavior{"v2": {Startup: 30 * time.Second}}
		o.Metrics = badSuccessRate("v2")
	})
	w.Ship("v2")
	until(t, w, "a target without pods", time.Hour, func() bool { return w.Status().Phase == v1beta1.CanaryPhaseFailed && w.target.replicas == 0 })
	w.Delete()
	until(t, w, "traffic back", time.Hour, func() bool { return !w.apex })
	if w.target.available(w.now) == 0 {
		t.Error("traffic went back to a target without pods")
	}
	sound(t, w)
}

// Pods that are lost before the first request, and come back, get it when proxies have had the time to find them.
func TestCanaryThatComesBackIsFoundAnew(t *testing.T) {
	const away = 10 * time.Second
	w := ready(t, podinfo())
	w.Ship("v2")
	seeReady(w)
	lost := w.Now()
	w.target.lose(w.now.Add(away))
	until(t, w, "requests for the canary", time.Hour, func() bool { return w.routed.CanaryWeight > 0 })
	if at := w.Now() - lost - away; at != Settings().PropagationDelay {
		t.Errorf("requests %s after the pods came back", at)
	}
	rest(t, w, succeeded)
	sound(t, w)
}

// Nor does a process that takes over lead requests to pods that it has not seen for long enough, although nothing is written of the wait.
func TestTheWaitForProxiesBeginsAnewWithTheProcess(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	seeReady(w)
	writes := w.writes
	w.now = w.now.Add(Settings().PropagationDelay - time.Second)
	w.Pass()
	if w.writes != writes {
		t.Errorf("%d writes while proxies find the pods", w.writes-writes)
	}
	killed := w.Now()
	w.Kill()
	until(t, w, "requests for the canary", time.Hour, func() bool { return w.routed.CanaryWeight > 0 })
	if after := w.Now() - killed; after != Settings().PropagationDelay {
		t.Errorf("requests %s after the kill", after)
	}
	rest(t, w, succeeded)
	sound(t, w)
}

// seeReady runs until the pods of the canary were seen ready, and no longer.
func seeReady(w *World) {
	for w.sight.NextCheckAt == nil {
		if !w.Pass() && w.sight.NextCheckAt == nil {
			w.now = w.nextEvent()
			w.settleCluster()
		}
	}
}
