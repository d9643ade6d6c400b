package simulate

import (
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// However often a bootstrap is looked at, metric providers are asked once, and once in an interval while they are missing.
func TestIncidentB23_MetricProvidersAreAskedOncePerInterval(t *testing.T) {
	for name, c := range map[string]struct {
		missing  bool
		min, max int
	}{"available": {false, 1, 1}, "missing": {true, 9, 11}} {
		t.Run(name, func(t *testing.T) {
			missing, asked := c.missing, 0
			w := world(podinfo(), func(o *Options) {
				o.Behaviors["v1"] = Behavior{Startup: 10 * time.Minute}
				o.Providers = func(*World) string {
					asked++
					if missing {
						return "connection refused"
					}
					return ""
				}
			})
			w.target.pods[0].readyAt = w.now
			for w.Now() < 10*time.Minute {
				w.Run(0)
				w.now = w.now.Add(time.Second)
				w.settleCluster()
			}
			if asked < c.min || asked > c.max {
				t.Errorf("asked %d times in 600 passes of ten intervals", asked)
			}
			rest(t, w, initialized)
			if c.missing && condition(w, v1beta1.HealthyType) != "MetricsUnavailable" {
				w.Run(2 * time.Minute)
				if got := condition(w, v1beta1.HealthyType); got != "MetricsUnavailable" {
					t.Errorf("healthy: %s", got)
				}
			}
			missing = false
			findsProviders(t, w)
			if n := count(w.Events, "all the metrics providers are available!"); n != 1 {
				t.Errorf("told %d times", n)
			}
			sound(t, w)
		})
	}
}

// A metrics server that is away for a day costs a Canary at rest a question now and then, and no write, and when it is back that
// is seen.
func TestCanaryAtRestWritesNothingWhileProvidersAreMissing(t *testing.T) {
	missing, asked := true, 0
	w := world(podinfo(), func(o *Options) {
		o.Providers = func(*World) string {
			asked++
			if missing {
				return "connection refused"
			}
			return ""
		}
	})
	rest(t, w, initialized)
	w.Run(10 * time.Minute)
	writes := w.Writes()
	asked = 0
	w.Run(24 * time.Hour)
	if w.Writes() != writes {
		t.Errorf("%d writes in a day at rest", w.Writes()-writes)
	}
	if asked < 1000 || asked > 24*60+1 {
		t.Errorf("asked %d times in a day of minutes", asked)
	}
	if got := condition(w, v1beta1.HealthyType); got != "MetricsUnavailable" {
		t.Errorf("healthy: %s", got)
	}
	missing = false
	findsProviders(t, w)
	sound(t, w)
}

// findsProviders checks that providers that are back are noticed, and that nothing is waited for after that.
func findsProviders(t *testing.T, w *World) {
	t.Helper()
	w.Run(2 * time.Minute)
	if got := condition(w, v1beta1.HealthyType); got != "Healthy" || !w.wake.IsZero() {
		t.Errorf("healthy: %s, wake at %s", got, w.wake)
	}
}
