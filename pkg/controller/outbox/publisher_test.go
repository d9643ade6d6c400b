package outbox

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/hook/hooktest"
	"flagger.app/flagger/pkg/kube/kubetest"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/telemetry"
)

// teller is a publisher at work and what it told.
type teller struct {
	*Publisher
	kube     *kubefake.Clientset
	notifier *alerts
	calls    *hooktest.Recorder
	// delivered gets a value each time that an outbox was told.
	delivered chan struct{}
}

// alerts records what receivers of alerts get.
type alerts struct {
	mu   sync.Mutex
	sent []string
}

func (a *alerts) Notify(_ context.Context, alert notify.Alert) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent = append(a.sent, alert.Message)
	return nil
}

func newTeller(t *testing.T, eventWebhook string) *teller {
	t.Helper()
	tell := &teller{kube: kubefake.NewClientset(), notifier: &alerts{}, calls: &hooktest.Recorder{}, delivered: make(chan struct{}, 100)}
	tell.Publisher = New(Config{
		Kube: kubetest.Client{Interface: tell.kube}, Hooks: tell.calls, Notifier: tell.notifier, Log: zap.NewNop(), EventWebhook: eventWebhook, Telemetry: telemetry.New("test", "istio"),
		Clock:     clocktesting.NewFakeClock(time.Unix(1_000_000, 0)),
		Delivered: func(string) { tell.delivered <- struct{}{} },
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		tell.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return tell
}

// keys lists who was called, with the idempotency key.
func keys(calls []hooktest.Call) []string {
	var all []string
	for _, call := range calls {
		all = append(all, call.URL+" "+call.Key)
	}
	return all
}

// keysOf are those of the calls of one receiver, in order.
func keysOf(calls []hooktest.Call, url string) (all []string) {
	for _, call := range calls {
		if call.URL == url {
			all = append(all, call.Key)
		}
	}
	return all
}

// tell offers an outbox and waits until all is told.
func (tell *teller) tell(t *testing.T, c *v1beta1.Canary) {
	t.Helper()
	tell.Offer("test/podinfo", c)
	for tell.DeliveredTo("test/podinfo", c.UID) != lastNotice(c) {
		<-tell.delivered
	}
}

func (tell *teller) messages(t *testing.T) []string {
	t.Helper()
	list, err := tell.kube.CoreV1().Events("test").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list.Items {
		all = append(all, e.Type+" "+e.Message)
	}
	slices.Sort(all)
	return all
}

func canaryWithOutbox(webhooks []v1beta1.CanaryWebhook, notices ...v1beta1.Notice) *v1beta1.Canary {
	c := eventOwner("podinfo")
	c.Spec.Analysis = &v1beta1.CanaryAnalysis{Webhooks: webhooks}
	for i := range notices {
		notices[i].Sequence = int64(i + 1)
	}
	c.Status.Rollout = &v1beta1.RolloutStatus{Outbox: notices}
	return c
}

// B-18: a hook that fails keeps no other from being called.
func TestPostRolloutHooksAreCalledAndTold(t *testing.T) {
	tell := newTeller(t, "")
	tell.tell(t, canaryWithOutbox([]v1beta1.CanaryWebhook{
		{Name: "good", Type: v1beta1.PostRolloutHook, URL: "http://good"},
		{Name: "bad", Type: v1beta1.PostRolloutHook, URL: "http://bad"},
		{Name: "last", Type: v1beta1.PostRolloutHook, URL: "http://last"},
		{Name: "load", Type: v1beta1.RolloutHook, URL: "http://load"},
	}, v1beta1.Notice{Hooks: v1beta1.PostRolloutHook, Phase: v1beta1.CanaryPhaseSucceeded}))
	want := []string{
		"Normal Post-rollout check good passed", "Normal Post-rollout check last passed", "Warning Post-rollout hook bad failed no thanks",
	}
	if got := tell.messages(t); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	calls := tell.calls.Calls()
	if len(calls) != 3 || calls[0].Payload.Phase != v1beta1.CanaryPhaseSucceeded {
		t.Errorf("called with %v", calls)
	}
	if want := "http://good 7d2b/notice/1/good"; keys(calls)[0] != want {
		t.Errorf("idempotency key %q, want %q", keys(calls)[0], want)
	}
}

func TestEventWebhooks(t *testing.T) {
	notice := v1beta1.Notice{Type: "Warning", Message: "Halt", Phase: v1beta1.CanaryPhaseProgressing}
	own := []v1beta1.CanaryWebhook{{Name: "own", Type: v1beta1.EventHook, URL: "http://own"}}
	for name, test := range map[string]struct {
		flag     string
		webhooks []v1beta1.CanaryWebhook
		want     string
	}{
		"of the Canary":             {webhooks: own, want: "http://own 7d2b/notice/1/own"},
		"of the operator":           {flag: "http://flag", want: "http://flag 7d2b/notice/1/events"},
		"of the Canary goes before": {flag: "http://flag", webhooks: own, want: "http://own 7d2b/notice/1/own"},
		"none":                      {},
	} {
		t.Run(name, func(t *testing.T) {
			tell := newTeller(t, test.flag)
			tell.tell(t, canaryWithOutbox(test.webhooks, notice))
			calls := tell.calls.Calls()
			if test.want == "" {
				if len(calls) != 0 {
					t.Errorf("called %v", calls)
				}
				return
			}
			if len(calls) != 1 || keys(calls)[0] != test.want {
				t.Fatalf("called %v, want %s", calls, test.want)
			}
			sent := calls[0].Payload
			if sent.Metadata["eventMessage"] != "Halt" || sent.Metadata["eventType"] != "Warning" || sent.Metadata["timestamp"] != "1000000000" || sent.Phase != v1beta1.CanaryPhaseProgressing {
				t.Errorf("payload %+v", sent)
			}
		})
	}
}

func TestNoticeIsToldOnce(t *testing.T) {
	tell := newTeller(t, "")
	c := canaryWithOutbox(nil, v1beta1.Notice{Type: "Normal", Message: "one", Alert: &v1beta1.NoticeAlert{Severity: v1beta1.SeverityInfo, Message: "alert one"}})
	tell.tell(t, c)
	tell.tell(t, c)
	c = canaryWithOutbox(nil, c.Status.Rollout.Outbox[0], v1beta1.Notice{Type: "Normal", Message: "two", Alert: &v1beta1.NoticeAlert{Severity: v1beta1.SeverityInfo, Message: "alert two"}})
	tell.tell(t, c)
	if got := tell.notifier.sent; !slices.Equal(got, []string{"alert one", "alert two"}) {
		t.Errorf("alerts %q", got)
	}
	if got := tell.messages(t); !slices.Equal(got, []string{"Normal one", "Normal two"}) {
		t.Errorf("events %q", got)
	}
}

// The end of one revision may be told when the next one has begun. A notice that does not say what it is about was written by
// an operator that told what was there, and one with another form of a revision by an earlier version.
func TestB04_LateNoticeNamesItsRevision(t *testing.T) {
	const two, three = "v2:2222222222222222", "v2:3333333333333333"
	for revision, want := range map[string]string{two: "2222222222", "784fd9648f": "784fd9648f", "": fingerprint.FlaggerChecksum(nil, three)} {
		tell := newTeller(t, "")
		c := canaryWithOutbox([]v1beta1.CanaryWebhook{
			{Name: "one", Type: v1beta1.PostRolloutHook, URL: "http://one"},
			{Name: "sink", Type: v1beta1.EventHook, URL: "http://sink"},
		}, v1beta1.Notice{Message: "Promotion completed!", Hooks: v1beta1.PostRolloutHook, Revision: revision})
		c.Status.LastAppliedSpec = three
		tell.tell(t, c)
		calls := tell.calls.Calls()
		if len(calls) != 3 {
			t.Fatalf("called with %v", calls)
		}
		for _, call := range calls {
			if call.Payload.Checksum != want {
				t.Errorf("%s: checksum %s, want %s", call.Key, call.Payload.Checksum, want)
			}
		}
	}
}

// A receiver that knows the key of an event drops it: each event has its own, the same whenever it is told again.
func TestAnswersOfHooksHaveTheirOwnKeys(t *testing.T) {
	outbox := func() *v1beta1.Canary {
		return canaryWithOutbox([]v1beta1.CanaryWebhook{
			{Name: "one", Type: v1beta1.PostRolloutHook, URL: "http://one"},
			{Name: "two", Type: v1beta1.PostRolloutHook, URL: "http://two"},
			{Name: "sink", Type: v1beta1.EventHook, URL: "http://sink"},
		}, v1beta1.Notice{Hooks: v1beta1.PostRolloutHook}, v1beta1.Notice{Hooks: v1beta1.PostRolloutHook})
	}
	first, again := newTeller(t, ""), newTeller(t, "")
	first.tell(t, outbox())
	again.tell(t, outbox())
	for url, want := range map[string][]string{
		"http://one":  {"7d2b/notice/1/one", "7d2b/notice/2/one"},
		"http://two":  {"7d2b/notice/1/two", "7d2b/notice/2/two"},
		"http://sink": {"7d2b/notice/1/one/sink", "7d2b/notice/1/two/sink", "7d2b/notice/2/one/sink", "7d2b/notice/2/two/sink"},
	} {
		if got, told := keysOf(first.calls.Calls(), url), keysOf(again.calls.Calls(), url); !slices.Equal(got, want) || !slices.Equal(told, want) {
			t.Errorf("%s: keys %q, told again %q, want %q", url, got, told, want)
		}
	}
}

// A Canary that was deleted and made again counts its notices from 1 again.
func TestNoticesOfANewCanaryOfTheSameName(t *testing.T) {
	tell := newTeller(t, "")
	tell.tell(t, canaryWithOutbox(nil, v1beta1.Notice{Type: "Normal", Message: "old"}))
	reborn := canaryWithOutbox(nil, v1beta1.Notice{Type: "Normal", Message: "new"})
	reborn.UID = "other"
	tell.tell(t, reborn)
	if got := tell.messages(t); !slices.Equal(got, []string{"Normal new", "Normal old"}) {
		t.Errorf("events %q", got)
	}
}

func TestLastWordsOfADeletedCanaryAreTold(t *testing.T) {
	tell := newTeller(t, "")
	tell.Offer("test/podinfo", canaryWithOutbox(nil, v1beta1.Notice{Type: "Normal", Message: "Terminated canary podinfo.test"}))
	tell.Forget("test/podinfo")
	for tell.Len() > 0 {
		<-tell.delivered
	}
	if got := tell.messages(t); len(got) != 1 {
		t.Errorf("events %q", got)
	}
}

func TestAlertThatFailsIsNoObstacle(t *testing.T) {
	tell := newTeller(t, "")
	tell.cfg.Notifier = failingNotifier{}
	named := canaryWithOutbox(nil)
	named.Spec.TargetRef.Name = "podinfo"
	tell.cfg.Telemetry.See(named)
	tell.tell(t, canaryWithOutbox(nil, v1beta1.Notice{Type: "Normal", Message: "one", Alert: &v1beta1.NoticeAlert{Severity: v1beta1.SeverityInfo, Message: "alert"}}))
	want := `Warning Alert "alert" was not delivered: no receiver; none at all`
	if got := tell.messages(t); !slices.Contains(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	w := httptest.NewRecorder()
	tell.cfg.Telemetry.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if want := `flagger_alerts_total{name="podinfo",namespace="test",result="failed"} 1`; !strings.Contains(w.Body.String(), want) {
		t.Errorf("no %s", want)
	}
}

// failingNotifier has no receiver.
type failingNotifier struct{}

func (failingNotifier) Notify(context.Context, notify.Alert) error {
	return errors.Join(errors.New("no receiver"), errors.New("none at all"))
}
