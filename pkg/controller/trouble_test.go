package controller

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// passMinute lets a minute pass and returns how many passes it took.
func (l *loop) passMinute() int {
	l.t.Helper()
	l.untilIdle()
	before := l.passes()
	for range 60 {
		l.clock.Step(time.Second)
		l.untilIdle()
	}
	return l.passes() - before
}

// restless counts up, as ports and request numbers in the texts of errors do.
type restless struct {
	mu sync.Mutex
	n  int
}

func (r *restless) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return fmt.Sprintf("read tcp 10.0.0.1:%d->10.0.0.2:443: connection reset by peer", 40000+r.n)
}

// A failure is told in the status and in an event. Neither may call for the next pass when the text differs each time.
func TestFailureInEverOtherWordsBacksOff(t *testing.T) {
	synctest.Test(t, testFailureInEverOtherWordsBacksOff)
}

func testFailureInEverOtherWordsBacksOff(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	var r restless
	a.failWith(func(call string) error {
		if call == "create services" {
			return apierrors.NewInternalError(errors.New(r.text()))
		}
		return nil
	})
	l.start()
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(rollout.ReasonApplyFailed) })
	if passes := l.passMinute(); passes > 20 {
		t.Errorf("%d passes in a minute of failures", passes)
	}
	a.failWith(nil)
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}

// A panic that carries a stack, or an address, reads differently each time.
func TestPanicInEverOtherWordsBacksOff(t *testing.T) {
	synctest.Test(t, testPanicInEverOtherWordsBacksOff)
}

func testPanicInEverOtherWordsBacksOff(t *testing.T) {
	bad := canaryFor("bad")
	bad.Object["spec"].(map[string]any)["analysis"].(map[string]any)["metrics"] = []any{
		map[string]any{"name": "request-success-rate", "interval": "1m", "thresholdRange": map[string]any{"min": int64(99)}},
	}
	a := newAPI(t, readyDeployment("bad", 1), bad)
	l := newLoop(t, a, 1)
	var r restless
	l.metrics.set(func(*v1beta1.Canary) error { panic("no such thing\ngoroutine of " + r.text()) })
	l.start()
	l.until("a condition", func() bool {
		return l.healthy("bad").Reason == string(rollout.ReasonInternalError) && l.phase("bad") == v1beta1.CanaryPhaseInitialized
	})
	if passes := l.passMinute(); passes > 20 {
		t.Errorf("%d passes in a minute of panics", passes)
	}
	if message := l.healthy("bad").Message; !strings.Contains(message, "no such thing") || strings.Contains(message, "goroutine") {
		t.Errorf("message %q", message)
	}
	if got := len(l.events()); got > 3 {
		t.Errorf("%d events about one panic", got)
	}
}

// prune makes the API server drop status.rollout, as the CRD of Flagger does, until it is told to stop.
func prune(a *api) (stop func()) {
	var mu sync.Mutex
	old := true
	a.client.PrependReactor("update", "canaries", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		update := action.(clienttesting.UpdateActionImpl)
		u := update.GetObject().(*unstructured.Unstructured)
		if old {
			unstructured.RemoveNestedField(u.Object, "status", "rollout")
		}
		return len(update.UpdateOptions.DryRun) > 0, u.DeepCopy(), nil
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		old = false
	}
}

// With the CRD of Flagger our record of a rollout is lost on the way. Nothing may be done without it.
func TestOutdatedCRDIsToldAndStopsNothing(t *testing.T) {
	synctest.Test(t, testOutdatedCRDIsToldAndStopsNothing)
}

func testOutdatedCRDIsToldAndStopsNothing(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	update := prune(a)
	l := newLoop(t, a, 1).start()
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(reasonOutdatedCRD) })
	if got := l.healthy("podinfo").Message; !strings.Contains(got, "canaries.flagger.app") || !strings.Contains(got, "crd.yaml") {
		t.Errorf("message %q", got)
	}
	a.reset()
	if passes := l.passMinute(); passes > 20 {
		t.Errorf("%d passes in a minute", passes)
	}
	for _, call := range a.recorded() {
		if strings.HasPrefix(call, "create") || strings.HasPrefix(call, "patch") {
			t.Errorf("call %s with a CRD that drops the status", call)
		}
	}
	if got := replicasOf(a, "podinfo"); got != 2 {
		t.Errorf("the target has %d replicas", got)
	}
	if got := len(l.events()); got != 1 {
		t.Errorf("%d events: %q", got, l.messages())
	}
	update()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("to be healthy again", func() bool { return l.healthy("podinfo").Status == "True" })
}

// A status that the schema of the CRD refuses can't say so itself.
func TestRefusedStatusIsToldInAnEvent(t *testing.T) {
	synctest.Test(t, testRefusedStatusIsToldInAnEvent)
}

func testRefusedStatusIsToldInAnEvent(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	a.failWith(func(call string) error {
		if call == "update canaries/status" {
			return apierrors.NewInvalid(v1beta1.SchemeGroupVersion.WithKind("Canary").GroupKind(), "podinfo", nil)
		}
		return nil
	})
	l.start()
	l.until("an event", func() bool {
		return strings.Contains(strings.Join(l.messages(), "\n"), "failed to sync canary podinfo.test status")
	})
	if passes := l.passMinute(); passes > 20 {
		t.Errorf("%d passes in a minute", passes)
	}
	if got := len(l.events()); got != 1 {
		t.Errorf("%d events: %q", got, l.messages())
	}
	a.failWith(nil)
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}

// An API server that refuses events keeps neither alerts nor webhooks from their receivers.
func TestForbiddenEventsHoldUpNothing(t *testing.T) {
	synctest.Test(t, testForbiddenEventsHoldUpNothing)
}

func testForbiddenEventsHoldUpNothing(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	l.kube.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(deploymentResource.GroupResource(), "x", errors.New("no RBAC"))
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the alert", func() bool { return len(l.notifier.sent()) == 1 })
	l.atRest("podinfo")
	if l.logs.FilterMessageSnippet("Initialization done!").Len() != 1 {
		t.Error("the message was not logged once")
	}
	if l.logs.FilterMessageSnippet("event was refused").Len() == 0 {
		t.Error("the refusal was not logged")
	}
}

// The event of a notice may take several attempts; the log is no place to count them.
func TestNoticeIsLoggedOnceHoweverOftenItsEventFails(t *testing.T) {
	synctest.Test(t, testNoticeIsLoggedOnceHoweverOftenItsEventFails)
}

func testNoticeIsLoggedOnceHoweverOftenItsEventFails(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	var mu sync.Mutex
	refused := 0
	l.kube.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if refused == 3 {
			return false, nil, nil
		}
		refused++
		return true, nil, apierrors.NewInternalError(errors.New("etcd is away"))
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the event", func() bool { return slices.Contains(l.messages(), "Initialization done! podinfo.test") })
	for _, message := range l.messages() {
		if got := l.logs.FilterMessage(message).Len(); got != 1 {
			t.Errorf("%q was logged %d times", message, got)
		}
	}
}

// An error of the API server may quote a whole object. 32 of them would be more than etcd stores.
func TestLongErrorsAreCut(t *testing.T) { synctest.Test(t, testLongErrorsAreCut) }

func testLongErrorsAreCut(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	a.failWith(func(call string) error {
		if call == "create services" {
			return apierrors.NewInternalError(errors.New(strings.Repeat("ä", 200<<10)))
		}
		return nil
	})
	l.start()
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(rollout.ReasonApplyFailed) })
	if got := l.healthy("podinfo").Message; len(got) > 4<<10 || !strings.HasSuffix(got, "ä…") {
		t.Errorf("a message of %d bytes", len(got))
	}
}

func TestTimeForWebhooks(t *testing.T) {
	for name, test := range map[string]struct {
		hooks []v1beta1.CanaryWebhook
		want  time.Duration
	}{
		"none":         {nil, time.Second},
		"default":      {[]v1beta1.CanaryWebhook{{}}, 11 * time.Second},
		"own timeouts": {[]v1beta1.CanaryWebhook{{Timeout: "5m"}, {Timeout: "30s", Retries: 2}}, time.Second + 5*time.Minute + 90*time.Second + time.Minute},
		"bounded":      {[]v1beta1.CanaryWebhook{{Timeout: "9000h"}}, time.Hour},
	} {
		if got := timeFor(test.hooks); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestTimeForWebhooksDoesNotOverflow(t *testing.T) {
	for _, h := range []v1beta1.CanaryWebhook{
		{Timeout: "2000000h", Retries: math.MaxInt32}, {Timeout: "1h", Retries: math.MaxInt32}, {Retries: math.MaxInt32},
	} {
		if got := timeFor([]v1beta1.CanaryWebhook{h, h}); got < 59*time.Minute || got > time.Hour {
			t.Errorf("timeout %s, %d retries: %s, want an hour", h.Timeout, h.Retries, got)
		}
	}
}

func TestReadinessSaysWhatItWaitsFor(t *testing.T) { synctest.Test(t, testReadinessSaysWhatItWaitsFor) }

func testReadinessSaysWhatItWaitsFor(t *testing.T) {
	a := newAPI(t)
	a.served.Unserve("apps/v1")
	l := newLoop(t, a, 1).start()
	eventually(t, "the cause", func() bool {
		err := l.Ready()
		return err != nil && strings.Contains(err.Error(), "deployments.apps") && strings.Contains(err.Error(), "not installed")
	})
	a.serve("apps/v1", "deployments", "daemonsets", "controllerrevisions")
	l.until("to be ready", func() bool { return l.Ready() == nil })
}

// A primary that nothing is left of is asked for with longer and longer pauses, and users learn why it does not come back.
func TestLostPrimaryBacksOff(t *testing.T) { synctest.Test(t, testLostPrimaryBacksOff) }

func testLostPrimaryBacksOff(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	a.failWith(func(call string) error {
		if strings.HasSuffix(call, " controllerrevisions") {
			return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}, "", errors.New("no role"))
		}
		return nil
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	if err := a.client.Tracker().Delete(deploymentResource, "test", "podinfo-primary"); err != nil {
		t.Fatal(err)
	}
	l.until("a condition that says why", func() bool {
		return strings.Contains(l.healthy("podinfo").Message, "can't be made again: createPrimaryDeployment failed: revision ")
	})
	if passes := l.passMinute(); passes > 20 {
		t.Errorf("%d passes in a minute without anything to make the primary of", passes)
	}
}
