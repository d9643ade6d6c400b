package controller

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/notify"
)

const (
	// perSecond is how many Canaries are made, and how many targets are changed, in a second.
	perSecond = 25
	// oneIn is how many Canaries there are for one that asks a webhook whether it may go on.
	oneIn = 10
)

// crowd is a number of Canaries that are rolled out, some in each second.
type crowd struct {
	*loop
	names []string
	// looks is in how many passes a Deployment that was written is looked at. What is written is noted before it is stored: where time does
	// not wait for that, one look may come too early.
	looks int
	// next lets time pass.
	next func()
	now  func() time.Time

	mu sync.Mutex
	// unready are the Deployments whose controller has something to do, and in how many passes it looks at them, moments when each Canary
	// came to each phase.
	unready map[string]int
	moments map[string]map[v1beta1.CanaryPhase]time.Time
}

// inCrowd is a Canary that has alerts. Every other one tells a receiver its events as well, and that it is done. Every tenth asks it
// whether it may go on.
func inCrowd(i int, receiver, interval string) *unstructured.Unstructured {
	canary := canaryFor(fmt.Sprintf("app-%d", i))
	var webhooks []any
	add := func(kind string) {
		webhooks = append(webhooks, map[string]any{"name": kind, "type": kind, "url": receiver, "timeout": "30m"})
	}
	if i%2 == 0 {
		add("event")
		add("post-rollout")
	}
	if i%oneIn == 0 {
		add("rollout")
	}
	withWebhooks(canary, webhooks...)
	canary.Object["spec"].(map[string]any)["analysis"].(map[string]any)["interval"] = interval
	return canary
}

func newCrowd(t *testing.T, edits ...func(*Config)) *crowd {
	t.Helper()
	c := &crowd{looks: 1, unready: map[string]int{}, moments: map[string]map[v1beta1.CanaryPhase]time.Time{}}
	a := newAPI(t)
	a.client.PrependReactor("*", "deployments", c.note)
	a.client.PrependReactor("update", "canaries", c.note)
	c.loop = newLoop(t, a, 2, edits...)
	// Nobody looks at the events, of which the fake client keeps thousands slowly.
	c.kube.PrependReactor("create", "events", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return true, action.(clienttesting.CreateAction).GetObject(), nil
	})
	c.now, c.next = c.clock.Now, c.step
	// The fake API server looks through all revisions for those of one Deployment.
	a.client.PrependReactor("list", "controllerrevisions", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &unstructured.UnstructuredList{}, nil
	})
	return c
}

// note keeps what is written. The store comes after it.
func (c *crowd) note(action clienttesting.Action) (bool, runtime.Object, error) {
	var u *unstructured.Unstructured
	switch action := action.(type) {
	case clienttesting.PatchAction:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unready[action.GetName()] = c.looks
		return false, nil, nil
	case clienttesting.UpdateAction:
		u = action.GetObject().(*unstructured.Unstructured)
	default:
		return false, nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if action.GetResource() == deploymentResource {
		c.unready[u.GetName()] = c.looks
		return false, nil, nil
	}
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	of := c.moments[u.GetName()]
	if of == nil {
		of = map[v1beta1.CanaryPhase]time.Time{}
		c.moments[u.GetName()] = of
	}
	if _, known := of[v1beta1.CanaryPhase(phase)]; !known {
		of[v1beta1.CanaryPhase(phase)] = c.now()
	}
	return false, nil, nil
}

// pass does what the Deployment controller does, and lets time pass. The watches of the fake API server hold a bounded number of
// objects, so that those who read them get their turn.
func (c *crowd) pass() {
	c.t.Helper()
	settle()
	c.mu.Lock()
	names := slices.Sorted(maps.Keys(c.unready))
	for _, name := range names {
		if c.unready[name]--; c.unready[name] == 0 {
			delete(c.unready, name)
		}
	}
	c.mu.Unlock()
	for i, name := range names {
		c.api.makeReady(name)
		if i%perSecond == 0 {
			settle()
		}
	}
	settle()
	c.next()
}

// each does something to all Canaries, in their order and some in each second.
func (c *crowd) each(do func(i int)) {
	c.t.Helper()
	for i := range c.names {
		do(i)
		if (i+1)%perSecond == 0 {
			c.pass()
		}
	}
}

// reach waits until a number of Canaries has come to a phase.
func (c *crowd) reach(n int, phase v1beta1.CanaryPhase) {
	c.t.Helper()
	end := c.now().Add(patience)
	for c.reached(phase) < n {
		if c.now().After(end) {
			c.t.Fatalf("%d of %d are %s", c.reached(phase), n, phase)
		}
		c.pass()
	}
}

func (c *crowd) reached(phase v1beta1.CanaryPhase) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.moments {
		if _, ok := of[phase]; ok {
			n++
		}
	}
	return n
}

// live onboards n Canaries and changes their targets. The result is how long each takes to succeed, for all but those that wait
// for an answer.
func (c *crowd) live(n, waiting int, receiver, interval string) map[string]time.Duration {
	c.t.Helper()
	for i := range n {
		c.names = append(c.names, fmt.Sprintf("app-%d", i))
	}
	c.start()
	c.each(func(i int) {
		c.api.put(readyDeployment(c.names[i], 1))
		c.api.put(inCrowd(i, receiver, interval))
	})
	c.reach(n, v1beta1.CanaryPhaseInitialized)
	changed := map[string]time.Time{}
	c.each(func(i int) {
		changed[c.names[i]] = c.now()
		c.api.paint(c.names[i], "blue")
	})
	c.reach(n-waiting, v1beta1.CanaryPhaseSucceeded)
	c.mu.Lock()
	defer c.mu.Unlock()
	took := map[string]time.Duration{}
	for name, of := range c.moments {
		if done, ok := of[v1beta1.CanaryPhaseSucceeded]; ok {
			took[name] = done.Sub(changed[name])
		}
	}
	return took
}

// Receivers of alerts, events and webhooks that hang for good delay no Canary that does not wait for their answer, however many
// there are: each of 500 takes as long as one of a few whose receivers answer.
func TestCrowdKeepsItsPace(t *testing.T) {
	const few, many = perSecond, 500
	var want time.Duration
	t.Run("answered", inBubble(func(t *testing.T) {
		took := newCrowd(t).live(few, 0, "http://receiver.test", "10s")
		want = slices.Max(slices.Collect(maps.Values(took)))
		if len(took) != few || want < 10*time.Second {
			t.Fatalf("%d Canaries took at most %s", len(took), want)
		}
	}))
	t.Run("hanging", inBubble(func(t *testing.T) {
		c := newCrowd(t)
		c.notifier.wait = make(chan struct{})
		c.hooks.answer = func(ctx context.Context, _ v1beta1.CanaryWebhook) hook.Result {
			<-ctx.Done()
			return hook.Result{}
		}
		took := c.live(many, many/oneIn, "http://receiver.test", "10s")
		if len(took) != many-many/oneIn {
			t.Errorf("%d Canaries succeeded, want %d", len(took), many-many/oneIn)
		}
		late := 0
		for _, d := range took {
			if d > want {
				late++
			}
		}
		if late > 0 {
			t.Errorf("%d Canaries take longer than %s, one of them %s", late, want, slices.Max(slices.Collect(maps.Values(took))))
		}
		if got := len(c.notifier.sent()); got != many {
			t.Errorf("%d alerts are under way, want the first of each Canary: %d", got, many)
		}
	}))
}

// The same with a real receiver, and with time as it is: 50 Canaries are rolled out while it keeps what it was asked first.
func TestCrowdWithARealReceiverThatHangs(t *testing.T) {
	const n = 55
	var asked sync.Map
	var ended atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// A server hears of a connection that is closed once it has read the request.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		asked.Store(r.URL.Path, true)
		<-r.Context().Done()
		ended.Add(1)
	}))
	t.Cleanup(receiver.Close)
	c := newCrowd(t, func(cfg *Config) {
		cfg.Clock, cfg.Hooks = clock.RealClock{}, hook.NewCaller(clock.RealClock{})
		cfg.Notifier = notify.Func(func(ctx context.Context, _ notify.Alert) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, receiver.URL+"/alert", nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			return response.Body.Close()
		})
	})
	c.now, c.next, c.looks = time.Now, settle, 1000
	waiting := (n + oneIn - 1) / oneIn
	if took := c.live(n, waiting, receiver.URL+"/webhook", "1s"); len(took) != n-waiting {
		t.Errorf("%d Canaries succeeded, want %d", len(took), n-waiting)
	}
	for _, path := range []string{"/alert", "/webhook"} {
		if _, ok := asked.Load(path); !ok {
			t.Errorf("%s was not asked", path)
		}
	}
	if got := ended.Load(); got != 0 {
		t.Errorf("%d questions were given up", got)
	}
}
