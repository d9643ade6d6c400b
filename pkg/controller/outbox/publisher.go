package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/telemetry"
)

// maxPublishing bounds how many Canaries are told about at the same time. It is as high as there are Canaries in a large cluster:
// whoever tells mostly waits for a receiver, and those who wait for one that hangs must not keep the others from their events,
// alerts and lines of the log.
const maxPublishing = 1024

// eventHookName is the name of the webhook of the flag -event-webhook.
const eventHookName = "events"

// Hooks calls webhooks, one or a series of them.
type Hooks interface {
	Call(ctx context.Context, h v1beta1.CanaryWebhook, payload hook.Payload, key string) hook.Result
	CallAll(ctx context.Context, hooks []v1beta1.CanaryWebhook, payload hook.Payload, key string) []hook.Result
}

// Config is what a Publisher is made of. All fields are required but EventWebhook and ClusterName.
type Config struct {
	Kube     kubernetes.Interface
	Hooks    Hooks
	Notifier notify.Notifier
	Clock    clock.WithDelayedExecution
	Log      *zap.Logger
	// Telemetry gets the numbers of alerts.
	Telemetry *telemetry.Recorder
	// EventWebhook is the URL of the flag -event-webhook, ClusterName what alerts call the cluster.
	EventWebhook, ClusterName string
	// Delivered is called with the key when everything in an outbox was told.
	Delivered func(key string)
}

// Publisher tells what stands in the outboxes of the Canaries: first all events and log lines, then alerts and webhooks,
// whose receivers may be slow. It works beside the passes, so that no receiver ever delays a rollout. What it tells may be
// told again after a crash; events then meet themselves.
type Publisher struct {
	// Events creates what is told at once, beside the outboxes.
	Events Events

	cfg   Config
	log   *zap.Logger
	queue *workqueue.Queue

	mu       sync.Mutex
	outboxes map[string]*outbox
}

// outbox is what is to be told about one Canary.
type outbox struct {
	canary *v1beta1.Canary
	// logged is the highest number that was logged, announced the highest of which the event was created, delivered the
	// highest of which all was told.
	logged, announced, delivered int64
	// refusals is how often in a row the API server refused an event. Only the worker at work on the box counts them.
	refusals int
	gone     bool
}

// maxRefusals is how often an event is tried that the API server refuses. The first refusals may come of a role that was
// given a moment ago or of an admission webhook that was not up to it; after that, those who wait for alerts and webhooks
// would wait in vain. With the first event all are given up that follow, until one is accepted.
const maxRefusals = 3

// New returns a Publisher. It tells nothing before Run.
func New(cfg Config) *Publisher {
	return &Publisher{
		Events:   Events{Client: cfg.Kube, Clock: cfg.Clock},
		cfg:      cfg,
		log:      cfg.Log,
		queue:    workqueue.NewMeasuredQueue(cfg.Clock, cfg.Telemetry.Queue("outbox")),
		outboxes: map[string]*outbox{},
	}
}

// Offer hands over a Canary as it is stored. Nothing is told before its status was written.
func (p *Publisher) Offer(key string, c *v1beta1.Canary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	box, ok := p.outboxes[key]
	if !ok || box.canary.UID != c.UID {
		box = &outbox{}
		p.outboxes[key] = box
	}
	box.canary, box.gone = c, false
	if box.delivered < lastNotice(c) {
		p.queue.Add(key)
	}
}

// DeliveredTo is the highest number of a notice that was told completely by this process.
func (p *Publisher) DeliveredTo(key string, uid types.UID) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if box, ok := p.outboxes[key]; ok && box.canary.UID == uid {
		return box.delivered
	}
	return 0
}

// Forget drops a Canary that is gone, once its last notices are told.
func (p *Publisher) Forget(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	box, ok := p.outboxes[key]
	if !ok {
		return
	}
	box.gone = true
	p.queue.Add(key)
}

// Len is the number of outboxes: one for each Canary that was offered and not forgotten.
func (p *Publisher) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.outboxes)
}

// Idle is whether nothing is being told or due to be told.
func (p *Publisher) Idle() bool { return p.queue.Idle() }

// Run tells until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	workqueue.NewWorkers(p.queue, maxPublishing).Run(ctx, p.publish)
}

// publish tells everything about one Canary that was not told.
func (p *Publisher) publish(ctx context.Context, key string) {
	p.mu.Lock()
	box := p.outboxes[key]
	p.mu.Unlock()
	if box == nil {
		return
	}
	err := workqueue.Guard(func() error { return p.empty(ctx, key, box) })
	var panicked *workqueue.PanicError
	switch {
	case errors.As(err, &panicked):
		p.log.Error("panic while telling", zap.String("canary", key), zap.Any("panic", panicked.Value), zap.ByteString("stack", panicked.Stack))
		p.queue.Failed(key)
	case err == nil:
		p.settle(key, box)
	case ctx.Err() == nil:
		p.log.Error("telling failed", zap.String("canary", key), zap.Error(err), zap.Duration("pause", p.queue.Failed(key)))
	}
}

// settle ends the work on an outbox that was emptied.
func (p *Publisher) settle(key string, box *outbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if box.delivered >= lastNotice(box.canary) {
		if box.gone && p.outboxes[key] == box {
			delete(p.outboxes, key)
			p.queue.Drop(key)
		}
		p.cfg.Delivered(key)
	}
}

// empty tells one outbox. Only one worker at a time has a key, so the counters of the box need the lock only against readers.
func (p *Publisher) empty(ctx context.Context, key string, box *outbox) error {
	p.mu.Lock()
	c, announced, delivered := box.canary, box.announced, box.delivered
	p.mu.Unlock()
	notices := noticesOf(c)
	for i := range notices {
		n := &notices[i]
		if n.Sequence <= max(announced, delivered) {
			continue
		}
		p.logOnce(box, c, n)
		if err := p.announce(ctx, box, c, n); err != nil {
			return err
		}
		p.mu.Lock()
		box.announced = n.Sequence
		p.mu.Unlock()
	}
	for i := range notices {
		n := &notices[i]
		if n.Sequence <= delivered {
			continue
		}
		if err := p.tellReceivers(ctx, box, c, n); err != nil {
			return err
		}
		p.mu.Lock()
		box.delivered = n.Sequence
		p.mu.Unlock()
	}
	p.queue.Succeeded(key, time.Time{})
	return nil
}

// logOnce logs a notice the first time that this process gets to tell it. Its event may take several attempts.
func (p *Publisher) logOnce(box *outbox, c *v1beta1.Canary, n *v1beta1.Notice) {
	p.mu.Lock()
	known := n.Sequence <= box.logged
	box.logged = max(box.logged, n.Sequence)
	p.mu.Unlock()
	if known || n.Message == "" {
		return
	}
	log := p.log.With(zap.String("canary", c.Name+"."+c.Namespace))
	if n.Error {
		log.Error(n.Message, zap.String("rule", n.Rule))
	} else {
		log.Info(n.Message, zap.String("rule", n.Rule))
	}
}

// announce makes an event of a notice.
func (p *Publisher) announce(ctx context.Context, box *outbox, c *v1beta1.Canary, n *v1beta1.Notice) error {
	if n.Message == "" {
		return nil
	}
	return p.createEvent(ctx, box, c, Event{Type: n.Type, Message: n.Message, Rule: n.Rule, Sequence: n.Sequence, Verdict: n.Verdict})
}

// createEvent creates an event. One that the API server goes on to refuse is given up.
func (p *Publisher) createEvent(ctx context.Context, box *outbox, c *v1beta1.Canary, what Event) error {
	err := p.Events.Create(ctx, c, what)
	switch {
	case err == nil:
		box.refusals = 0
	case refused(err):
		if box.refusals++; box.refusals >= maxRefusals {
			p.log.Error("an event was refused", zap.String("canary", c.Name+"."+c.Namespace), zap.String("message", what.Message), zap.Error(err))
			return nil
		}
	}
	return err
}

// tellReceivers sends the alert of a notice and calls its webhooks. What a receiver answers changes nothing but the log; the
// error is that of an event about it.
func (p *Publisher) tellReceivers(ctx context.Context, box *outbox, c *v1beta1.Canary, n *v1beta1.Notice) error {
	var wait sync.WaitGroup
	if n.Alert != nil {
		wait.Go(func() { p.alert(ctx, c, n) })
	}
	if n.Message != "" {
		wait.Go(func() { p.callEventHooks(ctx, c, n, keyOfNotice(c, n)) })
	}
	wait.Wait()
	if n.Hooks != "" {
		if err := p.callHooks(ctx, box, c, n); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// alert sends the alert of a notice. Who should have got it and did not may be told by an event.
func (p *Publisher) alert(ctx context.Context, c *v1beta1.Canary, n *v1beta1.Notice) {
	a := notify.NewAlert(c, n.Alert.Severity, n.Alert.Message, p.cfg.ClusterName, n.Alert.Details)
	a.Key, a.Rollout, a.Time = keyOfNotice(c, n), n.Revision, p.cfg.Clock.Now()
	err := p.cfg.Notifier.Notify(ctx, a)
	if ctx.Err() != nil {
		return
	}
	p.cfg.Telemetry.Alert(c, err)
	if err == nil {
		return
	}
	text := strings.Join(strings.Split(err.Error(), "\n"), "; ")
	p.log.Error("alert failed", zap.String("canary", c.Name+"."+c.Namespace), zap.String("cause", text))
	err = p.Events.Create(ctx, c, Event{
		Type: "Warning", Message: fmt.Sprintf("Alert %q was not delivered: %s", n.Alert.Message, text), Rule: n.Rule,
		Sequence: n.Sequence, Part: "alert",
	})
	if err != nil {
		p.log.Error("an event was not created", zap.String("canary", c.Name+"."+c.Namespace), zap.Error(err))
	}
}

// callEventHooks tells an event to the webhooks of type event, or to the one of the operator if the Canary has none. The key
// names the event.
func (p *Publisher) callEventHooks(ctx context.Context, c *v1beta1.Canary, n *v1beta1.Notice, key string) {
	hooks := hook.OfType(c, v1beta1.EventHook)
	if len(hooks) == 0 && p.cfg.EventWebhook != "" {
		hooks = []v1beta1.CanaryWebhook{{Type: v1beta1.EventHook, Name: eventHookName, URL: p.cfg.EventWebhook}}
	}
	payload := hook.EventPayload(payloadOf(c, n), n.Type, n.Message, p.cfg.Clock.Now())
	var wait sync.WaitGroup
	for _, h := range hooks {
		wait.Go(func() {
			result := p.cfg.Hooks.Call(ctx, h, payload, key+"/"+h.Name)
			if !result.Passed {
				p.log.Error("event webhook failed", zap.String("canary", c.Name+"."+c.Namespace),
					zap.String("webhook", h.Name), zap.String("cause", result.Text))
			}
		})
	}
	wait.Wait()
}

// callHooks calls webhooks that decide nothing, such as those of type post-rollout, and makes an event of each answer.
func (p *Publisher) callHooks(ctx context.Context, box *outbox, c *v1beta1.Canary, n *v1beta1.Notice) error {
	hooks := hook.OfType(c, n.Hooks)
	for i, result := range p.cfg.Hooks.CallAll(ctx, hooks, payloadOf(c, n), keyOfNotice(c, n)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		answer := v1beta1.Notice{Type: "Normal", Rule: n.Rule, Phase: n.Phase, Revision: n.Revision, Message: fmt.Sprintf("%s check %s passed", title(n.Hooks), hooks[i].Name)}
		if !result.Passed {
			answer.Type = "Warning"
			answer.Message = fmt.Sprintf("%s hook %s failed %v", title(n.Hooks), hooks[i].Name, result.Text)
		}
		p.log.Info(answer.Message, zap.String("canary", c.Name+"."+c.Namespace), zap.String("rule", n.Rule))
		err := p.createEvent(ctx, box, c, Event{
			Type: answer.Type, Message: answer.Message, Rule: n.Rule, Sequence: n.Sequence, Part: hooks[i].Name,
		})
		if err != nil {
			return err
		}
		p.callEventHooks(ctx, c, &answer, keyOfNotice(c, n)+"/"+hooks[i].Name)
	}
	return nil
}

// title is how messages begin that are about webhooks of a type.
func title(t v1beta1.HookType) string {
	if t == v1beta1.PostRolloutHook {
		return "Post-rollout"
	}
	return string(t)
}

func payloadOf(c *v1beta1.Canary, n *v1beta1.Notice) hook.Payload {
	return hook.Payload{
		Name: c.Name, Namespace: c.Namespace, Phase: n.Phase, Checksum: checksumOf(c, n),
	}
}

// checksumOf names the revision that a notice is about. One that was written without it is taken to be about the present one;
// one of an earlier version has a fingerprint there, of which receivers were told the beginning.
func checksumOf(c *v1beta1.Canary, n *v1beta1.Notice) string {
	if n.Revision != "" {
		return fingerprint.WebhookChecksum(n.Revision)
	}
	return fingerprint.FlaggerChecksum(c.Status.TrackedConfigs, c.Status.LastAppliedSpec)
}

// keyOfNotice lets receivers recognize a notice that is told again.
func keyOfNotice(c *v1beta1.Canary, n *v1beta1.Notice) string {
	return fmt.Sprintf("%s/notice/%d", c.UID, n.Sequence)
}

func noticesOf(c *v1beta1.Canary) []v1beta1.Notice {
	if c.Status.Rollout == nil {
		return nil
	}
	return c.Status.Rollout.Outbox
}

func lastNotice(c *v1beta1.Canary) int64 {
	notices := noticesOf(c)
	if len(notices) == 0 {
		return 0
	}
	return notices[len(notices)-1].Sequence
}
