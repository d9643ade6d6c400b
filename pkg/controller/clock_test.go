package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
)

// wallClock is a clock whose time of day somebody sets, while timers go on as if nothing had happened.
type wallClock struct {
	*clocktesting.FakeClock
	mu  sync.Mutex
	off time.Duration
}

func (c *wallClock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

func (c *wallClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.FakeClock.Now().Add(c.off)
}

func (c *wallClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// clockLife is a Canary that goes through all phases while the clock is set once.
type clockLife struct {
	*loop
	wall *wallClock
	// began is the time of the timers, which is the one that pods and users know.
	began time.Time

	mu sync.Mutex
	// approved is whether the gates are open; checks are the times of the checks of the analysis.
	approved bool
	checks   []time.Duration
	// seen are the moments so far, as phase and stage. At the moment at the clock is set off.
	seen []string
	at   string
	off  time.Duration
	// stuck keeps the pods of the target from getting ready.
	stuck bool
}

func newClockLife(t *testing.T, at string, off time.Duration) *clockLife {
	t.Helper()
	canary := revertible("podinfo")
	spec := canary.Object["spec"].(map[string]any)
	spec["analysis"] = map[string]any{"interval": "10s", "threshold": int64(1), "iterations": int64(3)}
	withWebhooks(canary,
		map[string]any{"name": "start", "type": "confirm-rollout", "url": "http://gate.test"},
		map[string]any{"name": "check", "type": "rollout", "url": "http://gate.test"},
		map[string]any{"name": "end", "type": "confirm-promotion", "url": "http://gate.test"})
	l := &clockLife{wall: &wallClock{}, at: at, off: off}
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), canary)
	a.client.PrependReactor("update", "canaries", l.written)
	l.loop = newLoop(t, a, 1, func(c *Config) {
		l.wall.FakeClock = c.Clock.(*clocktesting.FakeClock)
		c.Clock = l.wall
	})
	l.began = l.clock.Now()
	l.hooks.answer = l.answer
	l.start()
	return l
}

// written notes the moments, and sets the clock at the one at which somebody does.
func (l *clockLife) written(action clienttesting.Action) (bool, runtime.Object, error) {
	written := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured).Object
	phase, _, _ := unstructured.NestedString(written, "status", "phase")
	stage, _, _ := unstructured.NestedString(written, "status", "rollout", "stage")
	moment := strings.TrimSuffix(phase+" "+stage, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.seen, moment) {
		l.seen = append(l.seen, moment)
		if moment == l.at {
			l.wall.set(l.off)
		}
	}
	return false, nil, nil
}

func (l *clockLife) has(phase v1beta1.CanaryPhase) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.seen, func(moment string) bool { return strings.Split(moment, " ")[0] == string(phase) })
}

// reach lets time pass until a condition holds, at most half an hour.
func (l *clockLife) reach(what string, ok func() bool) {
	l.t.Helper()
	for end := l.elapsed() + 30*time.Minute; !ok(); {
		if l.elapsed() > end {
			l.t.Fatalf("half an hour did not bring about: %s; so far %q", what, l.seen)
		}
		l.untilIdle()
		for _, name := range l.api.deployments() {
			if !l.stuck || name != "podinfo" {
				l.api.makeReady(name)
			}
		}
		l.clock.Step(time.Second)
	}
}

func (l *clockLife) elapsed() time.Duration { return l.clock.Now().Sub(l.began) }

func (l *clockLife) answer(_ context.Context, h v1beta1.CanaryWebhook) hook.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.Name == "check" {
		l.checks = append(l.checks, l.elapsed())
		return hook.Result{Passed: true, Status: 200}
	}
	return hook.Result{Passed: l.approved, Status: 200}
}

func (l *clockLife) approve(approved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.approved = approved
}

// clockPhases are the phases of the life, in their order.
func clockPhases() []v1beta1.CanaryPhase {
	return []v1beta1.CanaryPhase{
		v1beta1.CanaryPhaseInitializing, v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseWaiting, v1beta1.CanaryPhaseProgressing,
		v1beta1.CanaryPhaseWaitingPromotion, v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising,
		v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseTerminating,
	}
}

// live goes through all phases.
func (l *clockLife) live() {
	l.t.Helper()
	for _, phase := range clockPhases() {
		switch phase {
		case v1beta1.CanaryPhaseWaiting:
			l.reach("the target to be scaled down", func() bool { return replicasOf(l.api, "podinfo") == 0 })
			l.api.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
		case v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhasePromoting:
			l.approve(true)
		case v1beta1.CanaryPhaseWaitingPromotion:
			l.approve(false)
		case v1beta1.CanaryPhaseTerminating:
			l.api.delete("podinfo")
		}
		l.reach(string(phase), func() bool { return l.has(phase) })
	}
	l.reach("the finalizer to go", func() bool {
		return !slices.Contains(l.api.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
}

// clockMoments are the moments at which the clock is set, by how far. Set forward while somebody waits for pods, it makes the
// wait look longer than it may be: nobody can tell that from time that has passed.
func clockMoments() map[time.Duration][]string {
	whatever := []string{
		"Initializing copying", "Initializing routing", "Initialized", "Waiting", "Progressing analysis", "WaitingPromotion analysis",
		"Finalising", "Succeeded", "Terminating returning", "Terminating reverting", "Terminating draining",
	}
	return map[time.Duration][]string{
		3 * time.Hour:  whatever,
		-3 * time.Hour: append([]string{"Progressing", "Promoting"}, whatever...),
	}
}

// Somebody sets the clock, or a replica with another clock takes over. Nothing is promoted on fewer checks, checks keep their
// distance, no deadline fires that has not passed by the clock, and nothing waits for the clock to come back.
func TestClockIsSet(t *testing.T) {
	for off, moments := range clockMoments() {
		for _, moment := range moments {
			t.Run(fmt.Sprintf("%s at %s", off, moment), inBubble(func(t *testing.T) {
				l := newClockLife(t, moment, off)
				l.live()
				l.mu.Lock()
				defer l.mu.Unlock()
				if !slices.Contains(l.seen, moment) {
					t.Errorf("the clock was not set: %q", l.seen)
				}
				// The first iteration is not checked, the last is checked once for each time that the gate is asked.
				if len(l.checks) < 4 {
					t.Errorf("promoted after %d checks", len(l.checks))
				}
				if early := l.early(); early > 1 || early > 0 && off < 0 {
					t.Errorf("%d checks came too early: %v", early, l.checks)
				}
				for _, message := range l.messages() {
					if strings.Contains(message, "deadline") || strings.Contains(message, "failed") || strings.Contains(message, "Rolling back") {
						t.Errorf("told %q", message)
					}
				}
			}))
		}
	}
}

// early counts the checks that came before their time. It is known to the second or two that the test is ahead of the passes.
func (l *clockLife) early() (n int) {
	for i := 1; i < len(l.checks); i++ {
		if l.checks[i]-l.checks[i-1] < 8*time.Second {
			n++
		}
	}
	return n
}

// A clock that was set back while somebody waits for pods does not make the wait longer by as much.
func TestDeadlineOutlivesAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, testDeadlineOutlivesAClockThatIsSetBack)
}

func testDeadlineOutlivesAClockThatIsSetBack(t *testing.T) {
	l := newClockLife(t, "Progressing", -3*time.Hour)
	l.api.edit(canaryResource, "podinfo", int64(60), "spec", "progressDeadlineSeconds")
	l.reach("the target to be scaled down", func() bool { return replicasOf(l.api, "podinfo") == 0 })
	l.stuck = true
	l.approve(true)
	l.api.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	shipped := l.elapsed()
	l.reach("a rollback", func() bool { return l.has(v1beta1.CanaryPhaseFailed) })
	if took := l.elapsed() - shipped; took < 55*time.Second || took > 5*time.Minute {
		t.Errorf("rolled back after %s, the deadline is a minute", took)
	}
}
