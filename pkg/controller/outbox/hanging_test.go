package outbox

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/notify"
)

// audience is all receivers of a Canary, of which one hangs for good.
type audience struct {
	hangs string
	mu    sync.Mutex
	heard map[string][]string
}

func (a *audience) hear(ctx context.Context, who, what string) {
	a.mu.Lock()
	a.heard[who] = append(a.heard[who], what)
	a.mu.Unlock()
	if who == a.hangs {
		<-ctx.Done()
	}
}

func (a *audience) heardBy(who string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.heard[who])
}

// Call is that of a webhook: one of an event is told the message, others their phase.
func (a *audience) Call(ctx context.Context, h v1beta1.CanaryWebhook, payload hook.Payload, _ string) hook.Result {
	what := payload.Metadata["eventMessage"]
	if what == "" {
		what = string(payload.Phase)
	}
	a.hear(ctx, "webhook "+h.Name, what)
	return hook.Result{Passed: true}
}

func (a *audience) CallAll(ctx context.Context, all []v1beta1.CanaryWebhook, payload hook.Payload, key string) []hook.Result {
	return hook.InOrder(all, func(h v1beta1.CanaryWebhook) hook.Result { return a.Call(ctx, h, payload, key+"/"+h.Name) })
}

func (a *audience) Addressees(wanted []v1beta1.CanaryAlert) []notify.Addressee {
	var all []notify.Addressee
	for _, w := range wanted {
		all = append(all, notify.Addressee{ID: w.ProviderRef.Name, Least: w.Severity, Notifier: notify.Func(func(ctx context.Context, alert notify.Alert) error {
			a.hear(ctx, "room "+w.ProviderRef.Name, alert.Message)
			return nil
		})})
	}
	return all
}

func (a *audience) Notify(ctx context.Context, alert notify.Alert) error {
	var all notify.All
	for _, r := range a.Addressees(alert.Wanted) {
		all = append(all, r)
	}
	return all.Notify(ctx, alert)
}

func room(name string, least v1beta1.AlertSeverity) v1beta1.CanaryAlert {
	return v1beta1.CanaryAlert{Name: name, Severity: least, ProviderRef: v1beta1.CrossNamespaceObjectReference{Name: name}}
}

// Whoever hangs keeps nobody else from what is told of the same Canary: neither what was decided before, nor what comes meanwhile.
func TestReceiverThatHangsKeepsNobodyWaiting(t *testing.T) {
	notices := []v1beta1.Notice{
		{Sequence: 1, Type: "Normal", Message: "one", Alert: &v1beta1.NoticeAlert{Severity: v1beta1.SeverityInfo, Message: "one"}},
		{Sequence: 2, Type: "Normal", Message: "two", Phase: v1beta1.CanaryPhaseSucceeded, Hooks: v1beta1.PostRolloutHook},
		{Sequence: 3, Type: "Normal", Message: "three", Alert: &v1beta1.NoticeAlert{Severity: v1beta1.SeverityInfo, Message: "three"}},
	}
	const answers = "Post-rollout check a passed"
	everything := map[string][]string{
		"room a": {"one", "three"}, "room b": {"one", "three"}, "webhook sink": {"one", "two", "three"}, "webhook other sink": {"one", "two", "three"},
		"webhook a": {"Succeeded"},
	}
	for hangs := range everything {
		t.Run(hangs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := &audience{hangs: hangs, heard: map[string][]string{}}
				tell := newTeller(t, "")
				tell.cfg.Notifier, tell.cfg.Hooks = all, all
				c := canaryWithOutbox([]v1beta1.CanaryWebhook{
					{Name: "sink", Type: v1beta1.EventHook, URL: "http://sink"}, {Name: "other sink", Type: v1beta1.EventHook, URL: "http://other"},
					{Name: "a", Type: v1beta1.PostRolloutHook, URL: "http://a"},
				}, notices[:2]...)
				c.Spec.Analysis.Alerts = []v1beta1.CanaryAlert{room("a", ""), room("b", v1beta1.SeverityInfo), room("grave", v1beta1.SeverityError)}
				tell.Offer("test/podinfo", c)
				synctest.Wait()
				later := c.DeepCopy()
				later.Status.Rollout.Outbox = notices
				tell.Offer("test/podinfo", later)
				synctest.Wait()
				if got := all.heardBy("room grave"); len(got) > 0 {
					t.Errorf("who wants errors alone is told %q", got)
				}
				for who, want := range everything {
					got := slices.DeleteFunc(all.heardBy(who), func(what string) bool { return what == answers })
					if who == hangs {
						want = want[:1]
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s is told %q, want %q", who, got, want)
					}
				}
				for _, want := range []string{"Normal one", "Normal two", "Normal three"} {
					if got := tell.messages(t); !slices.Contains(got, want) {
						t.Errorf("no event %q in %q", want, got)
					}
				}
				if tell.DeliveredTo("test/podinfo", c.UID) >= 3 || tell.Idle() {
					t.Errorf("all is said to be told to who hangs")
				}
			})
		})
	}
}

// Nothing waits for a receiver that is taken out of the spec, and one that is new there is told what the others were not all told.
func TestReceiversChangeWithTheSpec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := &audience{hangs: "room a", heard: map[string][]string{}}
		tell := newTeller(t, "")
		tell.cfg.Notifier = all
		info := func(text string) v1beta1.Notice {
			return v1beta1.Notice{Type: "Normal", Message: text, Alert: &v1beta1.NoticeAlert{Severity: v1beta1.SeverityInfo, Message: text}}
		}
		c := canaryWithOutbox(nil, info("one"), info("two"))
		c.Spec.Analysis.Alerts = []v1beta1.CanaryAlert{room("b", ""), room("a", "")}
		tell.Offer("test/podinfo", c)
		synctest.Wait()
		if got := tell.DeliveredTo("test/podinfo", c.UID); got != 0 {
			t.Errorf("delivered to %d while a receiver hangs", got)
		}
		changed := canaryWithOutbox(nil, info("one"), info("two"), info("three"))
		changed.Spec.Analysis.Alerts = []v1beta1.CanaryAlert{room("new", ""), room("b", "")}
		tell.tell(t, changed)
		for who, want := range map[string][]string{"room a": {"one"}, "room b": {"one", "two", "three"}, "room new": {"one", "two", "three"}} {
			if got := all.heardBy(who); !slices.Equal(got, want) {
				t.Errorf("%s is told %q, want %q", who, got, want)
			}
		}
	})
}
