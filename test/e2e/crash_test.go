package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// TestKilled kills the operator at random moments of rollouts and starts another one. The end is always the same, no request
// is lost, and users are told everything once. Half of the rollouts are taken back, and half of the operators share their Canaries.
func TestKilled(tt *testing.T) {
	tt.Parallel()
	const teams = 4
	seed := rand.Uint64()
	tt.Logf("seed %d", seed)
	for i := range teams {
		tt.Run(fmt.Sprint(i), func(tt *testing.T) {
			tt.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			l, kills := newLoaded(tt, 1), 6
			if i%2 == 1 {
				// Shards of a process that was killed are taken over when its lease has run out.
				l.args, kills = sharing(3), 2
			}
			l.begin()
			l.operates()
			l.onboard(weighted)
			for k := range kills / 2 {
				l.surviveKill(v1beta1.CanaryPhaseSucceeded, []string{v2, v1}[k%2], time.Duration(random.IntN(7000))*time.Millisecond)
				l.metric("50")
				l.surviveKill(v1beta1.CanaryPhaseFailed, v3, time.Duration(random.IntN(5000))*time.Millisecond)
				l.metric("100")
			}
			l.load.end(l)
			events := l.events()
			for text, want := range map[string]int{
				"Scaling up": kills, "canary weight 20": kills, "Restarting": 0,
				"Copying": kills / 2, "Promotion completed!": kills / 2, "canary weight 40": kills / 2, "canary weight 60": kills / 2,
				"Halt": kills, "failed checks threshold reached 2": kills / 2, "Canary failed!": kills / 2,
			} {
				if n := count(events, text); n != want {
					l.Errorf("%q told %d times, want %d:\n%s", text, n, want, strings.Join(events, "\n"))
				}
			}
		})
	}
}

// weighted shifts traffic in steps, of a mesh that nobody asks where there is no gateway.
func weighted(c *v1beta1.Canary) {
	if c.Spec.Provider == "kubernetes" {
		c.Spec.Provider, c.Spec.Analysis = "istio", canary().Spec.Analysis
	}
}

// surviveKill ships an image, kills the operator after a while, and sees another one finish the rollout.
func (l *loaded) surviveKill(end v1beta1.CanaryPhase, image string, after time.Duration) {
	l.Helper()
	before := l.read().Status.Rollout.Run
	promoted := image
	if end == v1beta1.CanaryPhaseFailed {
		_, promoted = l.team.replicas("podinfo-primary")
	}
	l.ship(image)
	letPass(after)
	l.o.kill()
	l.operates()
	c := l.until(string(end)+" with "+image, func(c *v1beta1.Canary) bool {
		return c.Status.Phase == end && c.Status.Rollout.Run > before && len(c.Status.Rollout.Outbox) == 0
	})
	l.Logf("%s: killed after %s", image, after)
	if c.Status.Rollout.Promoted.FlaggerHash != c.Status.LastPromotedSpec {
		l.Errorf("status %+v", c.Status)
	}
	l.rests(promoted)
}

func (t *team) primaryRuns(image string) bool {
	d, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo-primary", metav1.GetOptions{})
	return err == nil && d.Spec.Template.Spec.Containers[0].Image == image
}
