package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/rollout"
)

func TestTextsOfOneError(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	const port = "read tcp 10.0.0.1:%d->10.0.0.2:443: connection reset by peer"
	for name, test := range map[string]struct {
		text       string
		generation int64
		after      time.Duration
		told       bool
	}{
		"another port":                  {fmt.Sprintf(port, 40002), 1, 5 * time.Minute, false},
		"another port, much later":      {fmt.Sprintf(port, 40002), 1, renumbering, true},
		"another text at once":          {"no route to host", 1, time.Second, false},
		"another text":                  {"no route to host", 1, rewording, true},
		"another text after an edit":    {"no route to host", 2, time.Second, true},
		"another text, clock set back":  {"no route to host", 1, -time.Hour, true},
		"a request with another number": {"request 9f86d081-884c-4d63 at 2026-01-02T03:04:06Z: refused", 1, 2 * time.Minute, true},
	} {
		var w wordings
		first := w.of("x", fmt.Sprintf(port, 40001), 1, start)
		got := w.of("x", test.text, test.generation, start.Add(test.after))
		if told := got == test.text; told != test.told || !told && got != first {
			t.Errorf("%s: told %q", name, got)
		}
	}
	var w wordings
	w.of("x", "one", 1, start)
	w.over("x", "")
	if got := w.of("x", "two", 1, start); got != "two" {
		t.Errorf("after the end of the first error %q is told", got)
	}
}

// An error that is another text at each try costs no status write and no event at each try.
func TestErrorInEverOtherWordsIsToldOnce(t *testing.T) {
	synctest.Test(t, testErrorInEverOtherWordsIsToldOnce)
}

func testErrorInEverOtherWordsIsToldOnce(t *testing.T) {
	for name, test := range map[string]struct {
		fails func(l *loop, r *restless)
		// writes is how many status writes each try may cost: that of when to ask the next time.
		writes int
	}{
		"an action": {fails: func(l *loop, r *restless) {
			l.api.failWith(func(call string) error {
				if call == "create services" {
					return apierrors.NewInternalError(errors.New(r.text()))
				}
				return nil
			})
		}},
		"a metric server": {writes: 1, fails: func(l *loop, r *restless) {
			l.metrics.set(func(*v1beta1.Canary) error { return errors.New(r.text()) })
		}},
	} {
		canary := canaryFor("podinfo")
		canary.Object["spec"].(map[string]any)["analysis"].(map[string]any)["metrics"] = []any{
			map[string]any{"name": "request-success-rate", "interval": "1m", "thresholdRange": map[string]any{"min": int64(99)}},
		}
		a := newAPI(t, readyDeployment("podinfo", 2), canary)
		l := newLoop(t, a, 1)
		var r restless
		test.fails(l, &r)
		l.start()
		l.until("a condition", func() bool {
			reason := l.healthy("podinfo").Reason
			return reason == string(rollout.ReasonApplyFailed) || reason == string(rollout.ReasonMetrics)
		})
		for range 5 {
			l.passMinute()
		}
		tries := func() int {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.n
		}
		before, events, writes := tries(), len(l.events()), a.times("update canaries/status")
		for range 4 {
			l.passMinute()
		}
		if tries() == before {
			t.Fatalf("%s: nothing was tried", name)
		}
		if more, wrote := len(l.events())-events, a.times("update canaries/status")-writes; more > 0 || wrote > test.writes*(tries()-before) {
			t.Errorf("%s: %d events and %d status writes in %d tries", name, more, wrote, tries()-before)
		}
		l.end()
	}
}

// What is held back because something like it was just told is told later, though nothing happens then.
func TestTextThatWasHeldBackIsTold(t *testing.T) { synctest.Test(t, testTextThatWasHeldBackIsTold) }

func testTextThatWasHeldBackIsTold(t *testing.T) {
	d := readingSettings("podinfo")
	volume := func(name string) any {
		return map[string]any{"name": name, "configMap": map[string]any{"name": name}}
	}
	pods := d.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	pods["volumes"] = []any{volume("settings"), volume("zones")}
	a := newAPI(t, d, canaryFor("podinfo"))
	l := newLoop(t, a, 1).trackConfigs().start()
	l.until("settings to be missed", func() bool { return strings.Contains(l.healthy("podinfo").Message, "settings") })
	a.put(settings())
	l.until("zones to be missed", func() bool { return strings.Contains(l.healthy("podinfo").Message, "zones") })
	l.end()
}

// Each failed check of a webhook is an event, so each has the words of its own answer.
func TestEachAnswerOfAWebhookIsTold(t *testing.T) { synctest.Test(t, testEachAnswerOfAWebhookIsTold) }

func testEachAnswerOfAWebhookIsTold(t *testing.T) {
	canary := canaryFor("podinfo")
	withWebhooks(canary, map[string]any{"name": "judge", "type": "rollout", "url": "http://judge"})
	canary.Object["spec"].(map[string]any)["analysis"].(map[string]any)["threshold"] = int64(3)
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	l := newLoop(t, a, 1)
	rates := 0
	l.hooks.set(func(context.Context, v1beta1.CanaryWebhook) hook.Result {
		rates++
		return hook.Result{Text: fmt.Sprintf("error rate %d%%", rates)}
	})
	l.start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	l.atRest("podinfo")
	a.edit(deploymentResource, "podinfo", "v2", "spec", "template", "metadata", "annotations", "v")
	l.untilPhase("podinfo", v1beta1.CanaryPhaseFailed)
	l.atRest("podinfo")
	told := strings.Join(l.messages(), "\n")
	for n := range 3 {
		if want := fmt.Sprintf("external check judge failed error rate %d%%", n+1); !strings.Contains(told, want) {
			t.Errorf("no event says %q:\n%s", want, told)
		}
	}
	l.end()
}
