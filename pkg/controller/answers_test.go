package controller

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// An API server may say "not found" of what exists: the one that answers does not know the resource yet, or no longer.

func unknownResource() error {
	return apierrors.NewGenericServerResponse(404, "update", schema.GroupResource{}, "", "", 0, true)
}

// failOnce makes the next call of a kind fail.
func (a *api) failOnce(call string, err error) {
	var failed atomic.Bool
	a.failWith(func(c string) error {
		if c == call && failed.CompareAndSwap(false, true) {
			return err
		}
		return nil
	})
}

// untilCalm lets time pass without any news from the cluster until a condition holds.
func (l *loop) untilCalm(what string, ok func() bool) {
	l.t.Helper()
	for range 60 {
		l.untilIdle()
		if ok() {
			return
		}
		l.clock.Step(time.Second)
	}
	l.t.Errorf("a minute without news did not bring about: %s", what)
}

func TestStatusWriteThatFindsNothingIsRepeated(t *testing.T) {
	synctest.Test(t, testStatusWriteThatFindsNothingIsRepeated)
}

func testStatusWriteThatFindsNothingIsRepeated(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	l.untilIdle()
	a.failOnce("update canaries/status", unknownResource())
	before := l.passes()
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	eventually(t, "a pass", func() bool { return l.passes() > before })
	l.untilCalm("the start of the analysis", func() bool { return l.phase("podinfo") == v1beta1.CanaryPhaseProgressing })
}

func TestFinalizerThatWasNotFoundIsRemoved(t *testing.T) {
	synctest.Test(t, testFinalizerThatWasNotFoundIsRemoved)
}

func testFinalizerThatWasNotFoundIsRemoved(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), usersService("podinfo"), revertible("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.failOnce("patch canaries", unknownResource())
	a.delete("podinfo")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseTerminated)
	l.untilCalm("the finalizer to go", func() bool {
		return !slices.Contains(a.get(canaryResource, "podinfo").GetFinalizers(), v1beta1.Finalizer)
	})
}

func TestEventsSurviveAServerThatIsNotReadyForThem(t *testing.T) {
	for name, err := range map[string]error{
		"not found": unknownResource(),
		"forbidden": apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", errors.New("the role was given a moment ago")),
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			l := newLoop(t, newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo")), 1)
			var once sync.Once
			l.kube.PrependReactor("create", "events", func(action clienttesting.Action) (refuse bool, _ runtime.Object, _ error) {
				told := action.(clienttesting.CreateAction).GetObject().(*corev1.Event)
				if strings.HasPrefix(told.Message, "Initialization done!") {
					once.Do(func() { refuse = true })
				}
				return refuse, nil, err
			})
			l.start()
			l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
			l.atRest("podinfo")
			if !slices.Contains(l.messages(), "Initialization done! podinfo.test") {
				t.Errorf("the event was lost: %q", l.messages())
			}
			if n := l.logs.FilterMessageSnippet("Initialization done!").Len(); n != 1 {
				t.Errorf("logged %d times", n)
			}
		}))
	}
}
