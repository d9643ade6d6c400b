package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// buggy gets ready and answers half of its requests with an error.
const buggy = "stefanprodan/podinfo:6.9.4"

// TestNothingLost leads applications through everything that can happen to them, while they are asked without a pause: no
// request is lost, and each time they come to rest where they should.
func TestNothingLost(tt *testing.T) {
	tt.Parallel()
	// Those that take long come first.
	for _, c := range []struct {
		name string
		live func(*loaded)
		// weights is whether it needs what a Service alone can't do.
		weights bool
	}{
		{name: "takeover from Flagger", live: takeovers},
		{name: "removal of operator", live: removals},
		{name: "newer revisions at the end", live: newerAtTheEnd},
		{name: "deadlines", live: deadlines},
		{name: "failing checks", live: failingChecks},
		{name: "gates", live: closedGates},
		{name: "strategies", live: strategies, weights: true},
		{name: "newer revisions", live: newerRevisions},
		{name: "commands", live: commands},
	} {
		tt.Run(c.name, func(tt *testing.T) {
			tt.Parallel()
			if c.weights && planeUnderTest(tt) == nil {
				tt.Skip("run make e2e-contour")
			}
			l := newLoaded(tt, 1)
			l.begin()
			l.operates()
			c.live(l)
			l.load.end(l)
		})
	}
}

// failingChecks takes canaries back after their first, middle and last step.
func failingChecks(l *loaded) {
	l.onboard()
	l.promote(v2)
	interval := l.read().Spec.Analysis.Interval
	// There is time to make the checks fail after the last step.
	l.interval("2s")
	for i, image := range []string{v3, v1, buggy} {
		l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(image) }, func() {
			l.reaches(int32(i + 1))
			l.metric("50")
		})
		l.metric("100")
		l.rests(v2)
	}
	l.interval(interval)
	l.promote(v1)
	if asked := l.load.versions()[faulty] > 0; asked != (l.plane != nil) {
		l.Errorf("the buggy version was asked by users: %t", asked)
	}
}

// closedGates rolls back by command, and while a promotion or a rollout waits for its approval.
func closedGates(l *loaded) {
	l.set(v1beta1.ConfirmRolloutHook, true)
	l.onboard(l.asks(v1beta1.ConfirmRolloutHook, v1beta1.ConfirmPromotionHook, v1beta1.RollbackHook))
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v2) }, func() {
		l.reaches(2)
		l.set(v1beta1.RollbackHook, true)
	})
	l.set(v1beta1.RollbackHook, false)
	l.rests(v1)

	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v3) }, func() {
		l.enters(v1beta1.CanaryPhaseWaitingPromotion)
		l.set(v1beta1.RollbackHook, true)
	})
	l.set(v1beta1.RollbackHook, false)
	l.rests(v1)

	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v2) }, func() {
		l.enters(v1beta1.CanaryPhaseWaitingPromotion)
		l.metric("50")
	})
	l.metric("100")
	l.rests(v1)

	l.set(v1beta1.ConfirmRolloutHook, false)
	l.ship(v3)
	l.enters(v1beta1.CanaryPhaseWaiting)
	l.set(v1beta1.RollbackHook, true)
	l.settled(v1beta1.CanaryPhaseFailed)
	l.set(v1beta1.RollbackHook, false)
	l.rests(v1)

	l.set(v1beta1.ConfirmRolloutHook, true)
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
		l.enters(v1beta1.CanaryPhaseWaitingPromotion)
		l.set(v1beta1.ConfirmPromotionHook, true)
	})
	l.rests(v2)
}

func readyz() map[string]any {
	return map[string]any{"exec": nil, "httpGet": map[string]any{"path": "/readyz", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10, "initialDelaySeconds": 0}
}

// slowly is a probe that needs some seconds to find a pod ready.
func slowly() map[string]any {
	probe := readyz()
	probe["initialDelaySeconds"] = 2
	return probe
}

// never is a probe that finds no pod ready.
func never() map[string]any {
	probe := readyz()
	probe["httpGet"] = map[string]any{"path": "/not-there", "port": "http"}
	return probe
}

// notAsPrimary is a probe that finds the pods of the target ready, but not those of the primary.
func notAsPrimary() map[string]any {
	probe := readyz()
	probe["httpGet"] = nil
	probe["exec"] = map[string]any{"command": []any{"sh", "-c", `case "$HOSTNAME" in podinfo-primary-*) exit 1;; esac`}}
	return probe
}

// deadlines ships a revision that never gets ready, and one that does so only before its promotion. The canary of that one
// goes on serving until a revision comes that is better.
func deadlines(l *loaded) {
	l.onboard(func(c *v1beta1.Canary) { *c.Spec.ProgressDeadlineSeconds = 5 })
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.probe(v2, never()) }, nil)
	l.rests(v1)

	l.deadline(60)
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.probe(v2, notAsPrimary()) }, func() {
		l.enters(v1beta1.CanaryPhasePromoting)
		l.deadline(5)
	})
	serving := v1
	if l.plane != nil {
		serving = v2
	}
	l.load.comeFrom(l.team, versionOf(serving))
	// A primary that is on its way holds an analysis for as long as this.
	l.deadline(15)
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.probe(v3, readyz()) }, nil)
	l.rests(v3)
}

// newerRevisions ships another revision, or the promoted one again, before an analysis is through.
func newerRevisions(l *loaded) {
	l.onboard()
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
		l.reaches(2)
		l.ship(v3)
	})
	l.rests(v3)

	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v1) }, func() {
		l.reaches(2)
		l.ship(v3)
	})
	l.rests(v3)
}

// newerAtTheEnd ships another revision while the one before it is promoted.
func newerAtTheEnd(l *loaded) {
	l.onboard()
	l.probe(v3, slowly())
	l.promoting(v3)
	l.ship(v2)
	l.settles(v1beta1.CanaryPhaseSucceeded, v2)

	l.probe(v1, slowly())
	l.promoting(v1)
	l.probe(v2, never())
	l.until("the analysis of the last revision", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.CanaryPhaseProgressing && l.primaryRuns(v1)
	})
	l.deadline(5)
	l.settles(v1beta1.CanaryPhaseFailed, v1)
	l.deadline(60)

	l.probe(v2, readyz())
	l.enters(v1beta1.CanaryPhaseFinalising)
	l.ship(v3)
	l.settles(v1beta1.CanaryPhaseSucceeded, v3)
}

// promoting waits until an image was copied to the primary, whose pods are not there yet. A newer revision that comes before
// the copy replaces it.
func (l *loaded) promoting(image string) {
	l.Helper()
	l.until("copy of "+image, func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.CanaryPhasePromoting && l.primaryRuns(image)
	})
}

// commands suspends a run and skips analyses.
func commands(l *loaded) {
	l.onboard()
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
		l.reaches(2)
		l.edit(func(s *v1beta1.CanarySpec) { s.Suspend = true })
		l.until("suspension", func(c *v1beta1.Canary) bool {
			h := healthy(c)
			return h != nil && h.Status == corev1.ConditionFalse && h.Reason == "Suspended"
		})
		l.load.goOn(l.team, 100)
		l.edit(func(s *v1beta1.CanarySpec) { s.Suspend = false })
	})
	l.rests(v2)

	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v1) }, func() {
		l.reaches(2)
		l.edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })
	})
	l.rests(v1)
	l.promote(v2)
}

// strategies promotes in each of the ways that a gateway offers.
func strategies(l *loaded) {
	l.onboard()
	shift := func(image string, change func(*v1beta1.CanaryAnalysis)) {
		l.edit(func(s *v1beta1.CanarySpec) {
			s.Analysis.StepWeight, s.Analysis.MaxWeight = 0, 0
			change(s.Analysis)
		})
		l.promote(image)
	}
	shift(v2, func(a *v1beta1.CanaryAnalysis) { a.StepWeights, a.StepWeightPromotion = []int32{5, 50, 100}, 40 })
	shift(v1, func(a *v1beta1.CanaryAnalysis) { a.StepWeights, a.StepWeightPromotion, a.Iterations = nil, 0, 2 })
	shift(v2, func(a *v1beta1.CanaryAnalysis) {
		a.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x-insider": {Exact: "1"}}}}
	})
}

// removals stops the operator in each phase as Kubernetes would, and starts another one hours later. What pods need to get ready is
// over by then.
func removals(l *loaded) {
	replacements(l, func() {
		for _, name := range []string{"podinfo", "podinfo-primary"} {
			l.untilObject(deployments, name, func(u *unstructured.Unstructured) bool {
				pods, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
				return rolledOut(u, pods)
			})
		}
		l.age(5 * time.Hour)
	})
}

// takeovers lets Flagger be replaced by this operator, at rest and in each phase.
func takeovers(l *loaded) { replacements(l, l.asFlagger) }

func replacements(l *loaded, meanwhile func()) {
	l.onboard(l.asks(v1beta1.ConfirmPromotionHook))
	l.replaced(meanwhile)
	for i, c := range []struct {
		probe map[string]any
		when  func()
	}{
		{slowly(), func() { l.enters(v1beta1.CanaryPhaseProgressing) }},
		{readyz(), func() { l.reaches(2) }},
		{readyz(), func() { l.enters(v1beta1.CanaryPhaseWaitingPromotion) }},
		{slowly(), l.promotes(v1beta1.CanaryPhasePromoting)},
		{readyz(), l.promotes(v1beta1.CanaryPhaseFinalising)},
	} {
		l.set(v1beta1.ConfirmPromotionHook, false)
		image := []string{v2, v1}[i%2]
		l.probe(image, c.probe)
		c.when()
		l.replaced(meanwhile)
		l.set(v1beta1.ConfirmPromotionHook, true)
		l.settles(v1beta1.CanaryPhaseSucceeded, image)
	}
}

// promotes opens the gate and waits for a phase behind it.
func (l *loaded) promotes(to v1beta1.CanaryPhase) func() {
	return func() {
		l.set(v1beta1.ConfirmPromotionHook, true)
		l.enters(to)
	}
}

// replaced stops the operator, does something while there is none, and starts another one.
func (l *loaded) replaced(meanwhile func()) {
	l.Helper()
	if err := l.o.stop(); err != nil {
		l.Errorf("a normal stop: %v", err)
	}
	meanwhile()
	l.load.goOn(l.team, 50)
	l.operates()
}

// age makes the status older.
func (l *loaded) age(by time.Duration) {
	l.Helper()
	l.rewrite(func(s *v1beta1.CanaryStatus) {
		for _, at := range []*metav1.MicroTime{s.Rollout.StageStartedAt, s.Rollout.NextCheckAt, s.Rollout.CanaryDrainedAt} {
			if at != nil {
				at.Time = at.Add(-by)
			}
		}
		for i := range s.Conditions {
			c := &s.Conditions[i]
			c.LastTransitionTime.Time = c.LastTransitionTime.Add(-by)
			c.LastUpdateTime.Time = c.LastUpdateTime.Add(-by)
		}
		s.LastTransitionTime.Time = s.LastTransitionTime.Add(-by)
	})
}

// asFlagger makes the status one that Flagger could have left: without our record, and with hashes of its own.
func (l *loaded) asFlagger() {
	l.Helper()
	l.rewrite(func(s *v1beta1.CanaryStatus) {
		s.Rollout, s.LastAppliedSpec, s.LastPromotedSpec = nil, "69f856df46", "6d4896b7f7"
		promoted := s.Conditions[:0]
		for _, c := range s.Conditions {
			if c.Type == v1beta1.PromotedType {
				promoted = append(promoted, c)
			}
		}
		s.Conditions = promoted
	})
}

func (l *loaded) rewrite(change func(*v1beta1.CanaryStatus)) {
	l.Helper()
	c := l.read()
	change(&c.Status)
	_, err := l.flagger.FlaggerV1beta1().Canaries(l.ns).UpdateStatus(l.Context(), c, metav1.UpdateOptions{})
	l.must(err)
}
