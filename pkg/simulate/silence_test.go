package simulate

import (
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// reporting is a mesh whose controller reports on routes.
func reporting() rollout.ProviderFact {
	p := mesh()
	p.ReportsSettled = true
	return p
}

// A gateway of which nobody reports anything stops nothing, and that is told: once when it is found out, and once in a run.
func TestSilentGatewayStopsNothing(t *testing.T) {
	w := world(podinfo(), provider(reporting()))
	w.silent = true
	rest(t, w, initialized)
	if at := w.Now(); at > 70*time.Second {
		t.Errorf("initialized after %s", at)
	}
	tellsOfSilence(t, w, 1)
	w.Ship("v2")
	rest(t, w, succeeded)
	serves(t, w, "v2")
	tellsOfSilence(t, w, 2)
	w.opts.Metrics = badSuccessRate("v3")
	w.Ship("v3")
	rest(t, w, failed)
	serves(t, w, "v2")
	tellsOfSilence(t, w, 3)
	sound(t, w)
}

func tellsOfSilence(t *testing.T, w *World, times int) {
	t.Helper()
	const text = "nobody reports"
	n := 0
	for _, e := range w.Events {
		if strings.Contains(e.Message, text) {
			n++
		}
	}
	if n != times {
		t.Errorf("told %d times, want %d\n%s", n, times, trace(w))
	}
	reason, says := condition(w, v1beta1.HealthyType), message(w, v1beta1.HealthyType)
	if reason != string(rollout.ReasonRoutesNotReported) || !strings.Contains(says, text) {
		t.Errorf("condition %s: %s", reason, says)
	}
}

// No way back waits for a report that never comes, or that says no: it ends as soon as one without any report would.
func TestNoWayBackWaitsForAReport(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(t *testing.T, w *World)
		end   v1beta1.CanaryPhase
		runs  string
	}{
		"rollback": {func(_ *testing.T, w *World) { w.opts.Metrics = badSuccessRate("v2") }, failed, "v1"},
		"cancel":   {func(_ *testing.T, w *World) { w.Ship("v1") }, succeeded, "v1"},
		"promotion": {func(t *testing.T, w *World) {
			untilPhase(t, w, finalising)
		}, succeeded, "v2"},
	} {
		t.Run(name, func(t *testing.T) {
			after := func(p rollout.ProviderFact, refuse bool) time.Duration {
				w := ready(t, podinfo(threshold(1)), provider(p))
				w.Ship("v2")
				untilWeight(t, w, 10)
				c.begin(t, w)
				w.unsettled = refuse && c.end == succeeded
				untilRetreat := func() bool {
					return w.Status().Rollout.Stage == "rollback" || w.Status().Rollout.Stage == "cancel" || w.Status().Phase == finalising
				}
				until(t, w, "way back", time.Hour, untilRetreat)
				w.unsettled = refuse
				rest(t, w, c.end)
				serves(t, w, c.runs)
				sound(t, w)
				if refuse && condition(w, v1beta1.HealthyType) != string(rollout.ReasonRoutesNotSettled) {
					t.Errorf("not told: %s", message(w, v1beta1.HealthyType))
				}
				return w.Status().LastTransitionTime.Sub(w.start)
			}
			if refused, unreported := after(reporting(), true), after(mesh(), false); refused != unreported {
				t.Errorf("ends after %s when the gateway refuses the route, %s when nobody reports", refused, unreported)
			}
		})
	}
}

// Routes that can't be repaired, because the primary that is to get more has no pods, hold an analysis no longer than the deadline.
func TestDriftToADeadPrimaryEnds(t *testing.T) {
	for name, patient := range map[string]bool{"stuck": false, "nobody says so": true} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, podinfo())
			w.Ship("v2")
			untilWeight(t, w, 20)
			w.DriftRoutes(60)
			w.primary.patient = patient
			w.primary.lose(w.now.Add(10 * time.Hour))
			w.primary.faulty = true
			until(t, w, "all requests to the canary", 11*time.Minute, func() bool { return w.routed.CanaryWeight == 100 })
			w.primary.faulty = false
			rest(t, w, succeeded)
			serves(t, w, "v2")
			sound(t, w)
		})
	}
}

// Neither side of a promotion need get ready: it ends at the deadline.
func TestPromotionWithoutAReadySideEnds(t *testing.T) {
	w := ready(t, podinfo())
	w.Ship("v2")
	untilPhase(t, w, finalising)
	for _, d := range []*deployment{&w.primary, &w.target} {
		d.patient, d.pods[0].never = true, true
	}
	begin := w.Now()
	rest(t, w, failed)
	if took := w.Status().LastTransitionTime.Sub(w.start) - begin; took > 11*time.Minute {
		t.Errorf("ends after %s", took)
	}
	serves(t, w, "v2")
	sound(t, w)
}
