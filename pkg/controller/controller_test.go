package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/controller/outbox"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/hook/hooktest"
	"flagger.app/flagger/pkg/kube/kubetest"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router/registry"
	"flagger.app/flagger/pkg/telemetry"
)

// loop is a Controller on a fake API server.
type loop struct {
	*Controller
	t        *testing.T
	api      *api
	kube     *kubefake.Clientset
	clock    *clocktesting.FakeClock
	hooks    *hooks
	metrics  *metricsFunc
	notifier *notifier
	logs     *zapobserver.ObservedLogs
	// unanswered is how many questions get no answer.
	unanswered int
	// takenOver counts what passes took over from earlier ones.
	takenOver atomic.Int64
	stop      context.CancelFunc
	stopped   chan struct{}
}

// hooks answers webhooks, by default with a pass.
type hooks struct {
	mu     sync.Mutex
	answer func(ctx context.Context, h v1beta1.CanaryWebhook) hook.Result
}

// set replaces the answer while the loop runs.
func (h *hooks) set(answer func(ctx context.Context, h v1beta1.CanaryWebhook) hook.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

func (h *hooks) Call(ctx context.Context, w v1beta1.CanaryWebhook, _ hook.Payload, _ string) hook.Result {
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	if answer == nil {
		return hook.Result{Passed: true, Status: 200}
	}
	return answer(ctx, w)
}

func (h *hooks) CallAll(ctx context.Context, all []v1beta1.CanaryWebhook, p hook.Payload, key string) []hook.Result {
	return hook.InOrder(all, func(w v1beta1.CanaryWebhook) hook.Result { return h.Call(ctx, w, p, key) })
}

// metricsFunc has given values, none by default, and fails or panics on demand.
type metricsFunc struct {
	readings []analysis.Reading
	// read takes the place of readings.
	read  func(ctx context.Context) []analysis.Reading
	mu    sync.Mutex
	check func(c *v1beta1.Canary) error
}

func (m *metricsFunc) Read(ctx context.Context, _ *v1beta1.Canary) []analysis.Reading {
	if m.read != nil {
		return m.read(ctx)
	}
	return m.readings
}

func (m *metricsFunc) Check(_ context.Context, c *v1beta1.Canary) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.check == nil {
		return nil
	}
	return m.check(c)
}

func (m *metricsFunc) set(check func(*v1beta1.Canary) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.check = check
}

// notifier records alerts.
type notifier struct {
	mu     sync.Mutex
	alerts []string
	wait   chan struct{}
}

func (n *notifier) Notify(ctx context.Context, a notify.Alert) error {
	n.mu.Lock()
	wait := n.wait
	n.alerts = append(n.alerts, a.Message)
	n.mu.Unlock()
	if wait == nil {
		return nil
	}
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *notifier) sent() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.alerts)
}

func newLoop(t *testing.T, a *api, workers int, edits ...func(*Config)) *loop {
	t.Helper()
	core, logs := zapobserver.New(zapcore.DebugLevel)
	l := &loop{
		t: t, api: a, kube: kubefake.NewClientset(), hooks: &hooks{}, metrics: &metricsFunc{}, notifier: &notifier{}, logs: logs,
		clock:   clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		stopped: make(chan struct{}),
	}
	cfg := Config{
		Main: a.cluster(), Kube: kubetest.Client{Interface: l.kube},
		Providers: registry.New(registry.Config{}), Metrics: l.metrics, Hooks: l.hooks, Notifier: l.notifier,
		Telemetry: telemetry.New("test", "kubernetes"), Clock: l.clock, Log: zap.New(core),
		DefaultProvider: "kubernetes", Workers: workers,
		Settings: rollout.Settings{MinInterval: time.Second, PropagationDelay: time.Second},
		recalled: l.compareRecalled,
		passed:   func(key string) { zap.New(core).Debug("pass", zap.String("canary", nameOfKey(key))) },
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	var err error
	if l.Controller, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return l
}

// compareRecalled compares what a pass takes over from an earlier one with what it would have found itself. Every test of the loop
// checks that.
func (l *loop) compareRecalled(found any, anew func() any, unchanged func() bool) {
	l.takenOver.Add(1)
	if fresh := anew(); !reflect.DeepEqual(found, fresh) && unchanged() {
		l.t.Errorf("a pass took over %+v, and would have found %+v", found, fresh)
	}
}

// start runs the loop until the end of the test, or until stop is called.
func (l *loop) start() *loop {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	var wait sync.WaitGroup
	wait.Go(func() { l.Watch(ctx) })
	wait.Go(func() {
		if err := l.Run(ctx); err != nil {
			l.t.Error(err)
		}
	})
	go func() {
		wait.Wait()
		close(l.stopped)
	}()
	l.t.Cleanup(l.end)
	return l
}

// end stops the loop and waits until nothing runs anymore.
func (l *loop) end() {
	l.stop()
	select {
	case <-l.stopped:
	case <-time.After(patience):
		l.t.Error("the loop did not stop")
	}
}

// longest is how much time may pass until something holds.
const longest = 2 * time.Hour

// until lets time pass and pods become ready until a condition holds. It looks when all that is due has been done.
func (l *loop) until(what string, ok func() bool) {
	l.t.Helper()
	end := l.clock.Now().Add(longest)
	for settle(); !ok(); settle() {
		if l.clock.Now().After(end) {
			l.t.Fatalf("%s did not bring about: %s", longest, what)
		}
		l.api.makePodsReady()
		settle()
		l.step()
	}
}

// step lets a second pass, for the loop and for what it is built on.
func (l *loop) step() {
	l.clock.Step(time.Second)
	if bubbled() {
		time.Sleep(time.Second)
	}
}

func (l *loop) phase(name string) v1beta1.CanaryPhase { return l.api.canary(name).Status.Phase }

func (l *loop) untilPhase(name string, want v1beta1.CanaryPhase) {
	l.t.Helper()
	l.until(fmt.Sprintf("%s to be %s", name, want), func() bool { return l.phase(name) == want })
}

// atRest waits until a Canary has told everything.
func (l *loop) atRest(name string) {
	l.t.Helper()
	l.until("an empty outbox", func() bool { return len(l.api.canary(name).Status.Rollout.Outbox) == 0 })
}

// passes counts the finished passes.
func (l *loop) passes() int { return l.logs.FilterMessage("pass").Len() }

// untilIdle waits until no pass is at work or due, everything is answered but what is said to be silent, and nothing is left to
// tell.
func (l *loop) untilIdle() {
	l.t.Helper()
	eventually(l.t, "the loop to be idle", func() bool {
		before := l.passes()
		// The queue twice: an answer that comes in between makes its key due.
		return l.queue.Idle() && l.inquiries.InFlight() == l.unanswered && l.publisher.Idle() && l.queue.Idle() && l.passes() == before
	})
}

func (l *loop) healthy(name string) v1beta1.CanaryCondition {
	for _, condition := range l.api.canary(name).Status.Conditions {
		if condition.Type == v1beta1.HealthyType {
			return condition
		}
	}
	return v1beta1.CanaryCondition{}
}

func (l *loop) events() []*corev1.Event {
	list, err := l.kube.Tracker().List(corev1.SchemeGroupVersion.WithResource("events"), corev1.SchemeGroupVersion.WithKind("Event"), "test")
	if err != nil {
		return nil
	}
	var events []*corev1.Event
	for i := range list.(*corev1.EventList).Items {
		events = append(events, &list.(*corev1.EventList).Items[i])
	}
	return events
}

func (l *loop) messages() []string {
	var all []string
	for _, e := range l.events() {
		all = append(all, e.Message)
	}
	return all
}

func TestRolloutOnAFakeCluster(t *testing.T) { synctest.Test(t, testRolloutOnAFakeCluster) }

func testRolloutOnAFakeCluster(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })

	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	l.atRest("podinfo")
	if got := a.get(deploymentResource, primaryOf("podinfo")).GetAnnotations(); len(got) == 0 {
		t.Error("the primary has no record of its revision")
	}
	for _, want := range []string{"Initialization done! podinfo.test", "New revision detected! Scaling up podinfo.test", "Promotion completed! Scaling down podinfo.test"} {
		if !slices.Contains(l.messages(), want) {
			t.Errorf("no event %q in %q", want, l.messages())
		}
	}
	for _, e := range l.events() {
		if e.Reason != "Synced" || e.Source.Component != "flagger" || e.Annotations[outbox.RuleAnnotation] == "" {
			t.Errorf("event %s: reason %q, component %q, rule %q", e.Name, e.Reason, e.Source.Component, e.Annotations[outbox.RuleAnnotation])
		}
	}
}

// Flagger rolled this Canary out, and so does its successor.
func TestFieldsThatTheProviderIgnoresStopNothing(t *testing.T) {
	synctest.Test(t, testFieldsThatTheProviderIgnoresStopNothing)
}

func testFieldsThatTheProviderIgnoresStopNothing(t *testing.T) {
	canary := canaryFor("podinfo")
	spec := canary.Object["spec"].(map[string]any)["analysis"].(map[string]any)
	spec["mirror"], spec["sessionAffinity"] = true, map[string]any{"cookieName": "a"}
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	if healthy := l.healthy("podinfo"); healthy.Status != corev1.ConditionTrue || healthy.Reason != string(rollout.ReasonUnsupportedFields) {
		t.Errorf("condition %+v", healthy)
	}
	told := slices.ContainsFunc(l.messages(), func(m string) bool { return strings.HasPrefix(m, "spec.analysis.mirror is ignored") })
	if !told {
		t.Errorf("nobody was told that a field is ignored: %q", l.messages())
	}
}

func TestSettledCanaryCallsNothing(t *testing.T) { synctest.Test(t, testSettledCanaryCallsNothing) }

func testSettledCanaryCallsNothing(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 2).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the target to be scaled down", func() bool { return replicasOf(a, "podinfo") == 0 })
	l.atRest("podinfo")
	l.untilIdle()
	before := l.passes()
	a.reset()
	l.kube.ClearActions()
	// A change that concerns no rule makes a pass, but no call.
	a.edit(deploymentResource, "podinfo", "x", "metadata", "labels", "touched")
	eventually(t, "a pass", func() bool { return l.passes() > before })
	l.untilIdle()
	if calls := a.recorded(); len(calls) != 0 {
		t.Errorf("calls of a settled Canary: %v", calls)
	}
	for _, action := range l.kube.Actions() {
		t.Errorf("unexpected %s %s", action.GetVerb(), action.GetResource().Resource)
	}
}

// A-10, D-05: one Canary that does not fit our types stops neither the others nor the process.
func TestA10_UndecodableCanaryIsConfined(t *testing.T) {
	synctest.Test(t, testA10_UndecodableCanaryIsConfined)
}

func testA10_UndecodableCanaryIsConfined(t *testing.T) {
	broken := canaryFor("broken")
	spec := broken.Object["spec"].(map[string]any)
	spec["analysis"].(map[string]any)["threshold"] = 1.5
	a := newAPI(t, broken, readyDeployment("broken", 1), readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 2).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("a condition", func() bool { return a.get(canaryResource, "broken").Object["status"] != nil })
	status := fmt.Sprint(a.get(canaryResource, "broken").Object["status"])
	for _, want := range []string{"spec.analysis.threshold", "whole number", "InvalidSpec"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not mention %q: %s", want, status)
		}
	}
	if !slices.ContainsFunc(l.messages(), func(m string) bool { return strings.Contains(m, "spec.analysis.threshold") }) {
		t.Errorf("no event about it in %q", l.messages())
	}

	a.edit(canaryResource, "broken", int64(2), "spec", "analysis", "threshold")
	l.untilPhase("broken", v1beta1.CanaryPhaseInitialized)
	l.until("to be healthy again", func() bool { return l.healthy("broken").Status == corev1.ConditionTrue })
}

// C-08: a panic in the pass of one Canary stops neither the others nor the process.
func TestC08_PanicIsConfined(t *testing.T) { synctest.Test(t, testC08_PanicIsConfined) }

func testC08_PanicIsConfined(t *testing.T) {
	bad := canaryFor("bad")
	bad.Object["spec"].(map[string]any)["analysis"].(map[string]any)["metrics"] = []any{
		map[string]any{"name": "request-success-rate", "interval": "1m", "thresholdRange": map[string]any{"min": int64(99)}},
	}
	a := newAPI(t, readyDeployment("bad", 1), bad, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 2)
	l.metrics.set(func(c *v1beta1.Canary) error {
		if c.Name == "bad" {
			panic("of metrics")
		}
		return nil
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("a condition", func() bool { return l.healthy("bad").Reason == string(rollout.ReasonInternalError) })
	if message := l.healthy("bad").Message; !strings.Contains(message, "of metrics") {
		t.Errorf("message %q", message)
	}
	if l.logs.FilterMessage("panic in a question").Len() == 0 {
		t.Error("the panic was not logged")
	}
	l.metrics.set(nil)
	l.untilPhase("bad", v1beta1.CanaryPhaseInitialized)
}

// twinOf is another Canary for a target.
func twinOf(target string) *unstructured.Unstructured {
	twin := canaryFor(target)
	twin.SetName("twin")
	twin.SetUID("uid-twin")
	return twin
}

// B-34: a second Canary for the same target is refused, the first goes on; when it is deleted, the second takes over.
func TestB34_DuplicateTarget(t *testing.T) { synctest.Test(t, testB34_DuplicateTarget) }

func testB34_DuplicateTarget(t *testing.T) {
	twin := twinOf("podinfo")
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 2).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.put(twin)
	l.until("the twin to be refused", func() bool { return l.healthy("twin").Reason == string(rollout.ReasonDuplicateTarget) })
	if got := l.healthy("twin").Message; !strings.Contains(got, "spec.targetRef") || !strings.Contains(got, "podinfo.test") {
		t.Errorf("message %q", got)
	}
	if got := l.healthy("podinfo").Reason; got == string(rollout.ReasonDuplicateTarget) {
		t.Error("the first Canary is refused as well")
	}
	l.atRest("podinfo")
	l.untilIdle()
	if err := a.client.Tracker().Delete(canaryResource, "test", "podinfo"); err != nil {
		t.Fatal(err)
	}
	// Nothing else happens in the cluster that would wake the twin.
	eventually(t, "the twin to be accepted", func() bool { return l.healthy("twin").Reason != string(rollout.ReasonDuplicateTarget) })
}

func TestB34_DuplicateTargetLeavesTheMetricsOfTheOther(t *testing.T) {
	synctest.Test(t, testB34_DuplicateTargetLeavesTheMetricsOfTheOther)
}

func testB34_DuplicateTargetLeavesTheMetricsOfTheOther(t *testing.T) {
	twin := twinOf("podinfo")
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 2).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.put(twin)
	l.until("the twin to be refused", func() bool { return l.healthy("twin").Reason == string(rollout.ReasonDuplicateTarget) })
	l.untilIdle()
	w := httptest.NewRecorder()
	l.Telemetry.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`flagger_canary_phase{name="podinfo",namespace="test",phase="Initialized"} 1`,
		`flagger_canary_total{namespace="test"} 2`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// B-34: an older Canary that comes to name the Service or the target of a younger one by mistake is the one that stops, and goes on
// once it is corrected.
func TestB34_WhoeverHasTheNameComesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		field  []string
		reason rollout.ProblemReason
	}{
		"Service": {[]string{"spec", "service", "name"}, rollout.ReasonDuplicateTarget},
		// Whose target it is does not matter: a Canary keeps to its own.
		"target": {[]string{"spec", "targetRef", "name"}, rollout.ReasonInvalidSpec},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			elder, younger := canaryFor("backend"), canaryFor("podinfo")
			elder.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
			younger.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)))
			a := newAPI(t, readyDeployment("podinfo", 2), readyDeployment("backend", 2), elder, younger)
			l := newLoop(t, a, 2).start()
			for _, canary := range []string{"podinfo", "backend"} {
				l.untilPhase(canary, v1beta1.CanaryPhaseInitialized)
				l.atRest(canary)
			}
			right, _, _ := unstructured.NestedString(elder.Object, c.field...)
			a.edit(canaryResource, "backend", "podinfo", c.field...)
			l.until("the elder to be refused", func() bool { return l.healthy("backend").Reason == string(c.reason) })
			l.untilIdle()
			if got := l.healthy("podinfo"); got.Status == corev1.ConditionFalse {
				t.Errorf("the younger is refused: %s", got.Message)
			}
			a.edit(canaryResource, "backend", right, c.field...)
			l.until("the elder to be accepted", func() bool { return l.healthy("backend").Status != corev1.ConditionFalse })
		}))
	}
}

// B-34: of two Canaries that were never seen the one goes first whose target has the name.
func TestB34_NewCanaries(t *testing.T) {
	elder, younger := canaryFor("backend"), canaryFor("podinfo")
	elder.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	younger.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)))
	elder.Object["spec"].(map[string]any)["service"].(map[string]any)["name"] = "podinfo"
	twin := twinOf("podinfo")
	if cache.Precedence(younger, elder) >= 0 || cache.Precedence(elder, younger) <= 0 {
		t.Error("the elder goes before the one whose target has the name")
	}
	twin.SetCreationTimestamp(elder.GetCreationTimestamp())
	if cache.Precedence(twin, younger) >= 0 {
		t.Error("of two Canaries for one target the younger goes first")
	}
}

// All webhooks are told of a revision in the form that Flagger's checksums have, and those of one revision in the same words.
func TestB04_ChecksumThatIsSent(t *testing.T) { synctest.Test(t, testB04_ChecksumThatIsSent) }

func testB04_ChecksumThatIsSent(t *testing.T) {
	canary := canaryFor("podinfo")
	withWebhooks(canary,
		map[string]any{"name": "gate", "type": "confirm-rollout", "url": "http://gate.test/"},
		map[string]any{"name": "end", "type": "post-rollout", "url": "http://end.test/"},
		map[string]any{"name": "sink", "type": "event", "url": "http://sink.test/"})
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	sent := &hooktest.Recorder{}
	l := newLoop(t, a, 1, func(c *Config) { c.Hooks = sent }).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.edit(deploymentResource, "podinfo", "blue", "spec", "template", "metadata", "labels", "color")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	l.atRest("podinfo")
	status := a.canary("podinfo").Status
	of := fingerprint.FlaggerChecksum(status.TrackedConfigs, status.LastAppliedSpec)
	if !regexp.MustCompile("^[4-9bcdf]{1,10}$").MatchString(of) {
		t.Fatalf("checksum %q", of)
	}
	began, calls := false, map[string]int{}
	for _, call := range sent.Calls() {
		began = began || call.URL == "http://gate.test/"
		if (call.Payload.Checksum == of) != began {
			t.Errorf("%s is told of %s, the revision that was asked about is %s", call.URL, call.Payload.Checksum, of)
		}
		if began {
			calls[call.URL]++
		}
	}
	if len(calls) != 3 {
		t.Errorf("calls %v", calls)
	}
}

func TestConflictOnTheStatusStartsAgainWithNothingDone(t *testing.T) {
	synctest.Test(t, testConflictOnTheStatusStartsAgainWithNothingDone)
}

func testConflictOnTheStatusStartsAgainWithNothingDone(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	conflicts := 0
	a.failWith(func(call string) error {
		if call == "update canaries/status" && conflicts < 3 {
			conflicts++
			return apierrors.NewConflict(canaryResource.GroupResource(), "podinfo", errors.New("changed"))
		}
		if conflicts < 3 && (strings.HasPrefix(call, "create") || strings.HasPrefix(call, "patch")) {
			t.Errorf("%s before the status was written", call)
		}
		return nil
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	if conflicts != 3 {
		t.Errorf("met %d conflicts", conflicts)
	}
	if errors := l.logs.FilterMessage("pass failed").Len(); errors != 0 {
		t.Errorf("%d conflicts were logged as errors", errors)
	}
}

func TestFailedActionIsTriedAgainAndTold(t *testing.T) {
	synctest.Test(t, testFailedActionIsTriedAgainAndTold)
}

func testFailedActionIsTriedAgainAndTold(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	a.failWith(func(call string) error {
		if call == "create services" {
			return apierrors.NewForbidden(serviceResource.GroupResource(), "podinfo", errors.New("quota"))
		}
		return nil
	})
	l.start()
	l.until("a condition", func() bool { return l.healthy("podinfo").Reason == string(rollout.ReasonApplyFailed) })
	if got := l.healthy("podinfo").Message; !strings.Contains(got, "quota") {
		t.Errorf("message %q", got)
	}
	a.failWith(nil)
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
}

// C-02, C-03: when the lease is lost, or the process stops, nothing is in flight anymore when Run returns.
func TestC02_StopCancelsCallsInFlight(t *testing.T) {
	synctest.Test(t, testC02_StopCancelsCallsInFlight)
}

func testC02_StopCancelsCallsInFlight(t *testing.T) {
	canary := canaryFor("podinfo")
	withWebhooks(canary, map[string]any{"name": "gate", "type": "confirm-rollout", "url": "http://gate.test/"})
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1)
	called, canceled := make(chan struct{}), make(chan struct{})
	l.hooks.answer = func(ctx context.Context, _ v1beta1.CanaryWebhook) hook.Result {
		close(called)
		<-ctx.Done()
		close(canceled)
		return hook.Result{Passed: true}
	}
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "2", "spec", "template", "metadata", "annotations", "version")
	l.until("the gate to be asked", func() bool { return closed(called) })
	l.end()
	if !closed(canceled) {
		t.Error("Run returned while a webhook was in flight")
	}
	if got := l.phase("podinfo"); got != v1beta1.CanaryPhaseInitialized {
		t.Errorf("an answer that came after the end was acted on: phase %s", got)
	}
}

// DESIGN §3: -threadiness bounds passes at work, not passes that wait for webhooks.
func TestSlowWebhookDoesNotHoldAWorker(t *testing.T) {
	synctest.Test(t, testSlowWebhookDoesNotHoldAWorker)
}

func testSlowWebhookDoesNotHoldAWorker(t *testing.T) {
	slow := canaryFor("slow")
	withWebhooks(slow, map[string]any{"name": "gate", "type": "confirm-rollout", "url": "http://gate.test/", "timeout": "5m"})
	a := newAPI(t, readyDeployment("slow", 2), slow)
	l := newLoop(t, a, 1)
	called, answer := make(chan struct{}), make(chan struct{})
	l.hooks.answer = func(ctx context.Context, _ v1beta1.CanaryWebhook) hook.Result {
		if !closed(called) {
			close(called)
		}
		select {
		case <-answer:
		case <-ctx.Done():
		}
		return hook.Result{Passed: true}
	}
	l.start()
	l.untilPhase("slow", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "slow", "2", "spec", "template", "metadata", "annotations", "version")
	l.until("the gate to be asked", func() bool { return closed(called) })

	a.put(readyDeployment("podinfo", 2))
	a.put(canaryFor("podinfo"))
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	if got := l.phase("slow"); got != v1beta1.CanaryPhaseInitialized {
		t.Errorf("phase %s while the gate is silent", got)
	}
	close(answer)
	l.untilPhase("slow", v1beta1.CanaryPhaseSucceeded)
}

// Invariant 3: an answer about a revision that is history is void, and nobody waits for it.
func TestNewRevisionInterruptsTheWaiting(t *testing.T) {
	synctest.Test(t, testNewRevisionInterruptsTheWaiting)
}

func testNewRevisionInterruptsTheWaiting(t *testing.T) {
	canary := canaryFor("podinfo")
	withWebhooks(canary, map[string]any{"name": "gate", "type": "confirm-rollout", "url": "http://gate.test/", "timeout": "5m"})
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1)
	calls := make(chan context.Context, 10)
	l.hooks.answer = func(ctx context.Context, _ v1beta1.CanaryWebhook) hook.Result {
		calls <- ctx
		<-ctx.Done()
		return hook.Result{Passed: true}
	}
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "2", "spec", "template", "metadata", "annotations", "version")
	first := <-calls
	a.edit(deploymentResource, "podinfo", "3", "spec", "template", "metadata", "annotations", "version")
	eventually(t, "a question about the new revision", func() bool { return len(calls) > 0 })
	second := <-calls
	if first.Err() == nil {
		t.Error("the question about the old revision was not canceled")
	}
	if second.Err() != nil {
		t.Error("the question about the new revision was canceled")
	}
	if got := l.phase("podinfo"); got != v1beta1.CanaryPhaseInitialized {
		t.Errorf("a void answer was acted on: phase %s", got)
	}
}

// C-07: receivers that do not answer delay neither the rollout nor its events.
func TestC07_SlowReceiverDelaysNothing(t *testing.T) {
	synctest.Test(t, testC07_SlowReceiverDelaysNothing)
}

func testC07_SlowReceiverDelaysNothing(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	l.notifier.wait = make(chan struct{})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	a.edit(deploymentResource, "podinfo", "2", "spec", "template", "metadata", "annotations", "version")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
	if got := l.notifier.sent(); len(got) != 1 {
		t.Errorf("sent %q while the first alert was under way", got)
	}
	close(l.notifier.wait)
	l.atRest("podinfo")
	if got := l.notifier.sent(); len(got) < 3 || got[0] != "New Deployment detected, initialization completed." {
		t.Errorf("sent %q", got)
	}
}

func TestMissingResourceOfAProviderIsTold(t *testing.T) {
	synctest.Test(t, testMissingResourceOfAProviderIsTold)
}

func testMissingResourceOfAProviderIsTold(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "contour"
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1).start()
	l.until("a condition", func() bool { return strings.Contains(l.healthy("podinfo").Message, "httpproxies") })
	got := l.healthy("podinfo")
	if !strings.Contains(got.Message, "not installed") || !strings.Contains(got.Message, "spec.provider") || replicasOf(a, "podinfo") != 2 {
		t.Errorf("reason %s: %s; target has %d replicas", got.Reason, got.Message, replicasOf(a, "podinfo"))
	}
}

// C-01: a deleted Canary is forgotten: no timer, no index, no series.
func TestC01_DeletedCanaryIsForgotten(t *testing.T) {
	synctest.Test(t, testC01_DeletedCanaryIsForgotten)
}

func testC01_DeletedCanaryIsForgotten(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	if err := a.client.Tracker().Delete(canaryResource, "test", "podinfo"); err != nil {
		t.Fatal(err)
	}
	l.until("to be forgotten", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.known) == 0 && l.publisher.Len() == 0 && l.index.Len() == 0
	})
	a.reset()
	l.clock.Step(time.Hour)
	l.untilIdle()
	if calls := a.recorded(); len(calls) != 0 {
		t.Errorf("calls for a Canary that is gone: %v", calls)
	}
}

func TestEventIsNotLostWhenTheAPIServerFails(t *testing.T) {
	synctest.Test(t, testEventIsNotLostWhenTheAPIServerFails)
}

func testEventIsNotLostWhenTheAPIServerFails(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	var mu sync.Mutex
	failures := 5
	l.kube.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if failures == 0 {
			return false, nil, nil
		}
		failures--
		return true, nil, apierrors.NewInternalError(errors.New("etcd is away"))
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.until("the event", func() bool { return slices.Contains(l.messages(), "Initialization done! podinfo.test") })
}

// After a crash between the status and the events the next process tells the rest, and nobody sees an event twice.
func TestNextProcessTellsTheRestOnce(t *testing.T) { synctest.Test(t, testNextProcessTellsTheRestOnce) }

func testNextProcessTellsTheRestOnce(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	first := newLoop(t, a, 1)
	first.notifier.wait = make(chan struct{})
	first.start()
	first.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	first.until("the event", func() bool { return slices.Contains(first.messages(), "Initialization done! podinfo.test") })
	// The alert is under way when the process dies: it was not delivered.
	first.end()

	second := newLoop(t, a, 1)
	second.kube = first.kube
	second.publisher.Events.Client = kubetest.Client{Interface: first.kube}
	second.start()
	second.atRest("podinfo")
	if got := second.notifier.sent(); !slices.Contains(got, "New Deployment detected, initialization completed.") {
		t.Errorf("the alert was lost: %q", got)
	}
	count := 0
	for _, m := range second.messages() {
		if m == "Initialization done! podinfo.test" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("the event is there %d times", count)
	}
}

// Settled is what almost every Canary is almost always: its pass is the price of an event.
func BenchmarkSettledPass(b *testing.B) {
	t := &testing.T{}
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 1)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go l.Watch(ctx)
	eventually(t, "the caches", l.Synced)
	for i := 0; l.phase("podinfo") != v1beta1.CanaryPhaseInitialized; i++ {
		if _, err := l.pass(ctx, "test/podinfo"); err != nil && i > 1000 {
			b.Fatal(err)
		}
		a.makePodsReady()
		l.clock.Step(time.Second)
	}
	for b.Loop() {
		if _, err := l.pass(ctx, "test/podinfo"); err != nil {
			b.Fatal(err)
		}
	}
}
