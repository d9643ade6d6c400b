package outbox

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/kube"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/telemetry"
)

const (
	// maxPublishing bounds of how many Canaries events are made at the same time. It is as high as there are Canaries in a large
	// cluster: an API server that keeps one waiting, as an admission webhook of its namespace may, must not keep the others.
	maxPublishing = 1024
	// maxTelling bounds how many receivers are told something at the same time: those of as many Canaries. Whoever tells mostly waits,
	// and those who wait for one that hangs must not keep the others from theirs.
	maxTelling = 4 * maxPublishing
)

// laneSeparator is between the key of a Canary and the name of a lane. No key has it.
const laneSeparator = "\n"

// Hooks calls webhooks, one or a series of them.
type Hooks interface {
	Call(ctx context.Context, h v1beta1.CanaryWebhook, payload hook.Payload, key string) hook.Result
	CallAll(ctx context.Context, hooks []v1beta1.CanaryWebhook, payload hook.Payload, key string) []hook.Result
}

// Config is what a Publisher is made of. All fields are required but EventWebhook and ClusterName.
type Config struct {
	Kube     kube.Events
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

// Publisher tells what stands in the outboxes of the Canaries: of each notice first its event and line of the log, then its alert
// and webhooks, each receiver by itself, since it may be slow. It works beside the passes, so that no receiver ever delays a
// rollout. What it tells may be told again after a crash; events then meet themselves.
type Publisher struct {
	// Events creates what is told at once, beside the outboxes.
	Events Events

	cfg Config
	log *zap.Logger
	// queue has the Canaries with notices of which there are no events yet, receivers the lanes in which something waits.
	queue, receivers *workqueue.Queue

	mu       sync.Mutex
	outboxes map[string]*outbox
}

// outbox is what is to be told about one Canary.
type outbox struct {
	canary *v1beta1.Canary
	// logged is the highest number that was logged, handed the highest of which the event was created and the receivers are told,
	// settled the highest when all was told last.
	logged, handed, settled int64
	// lanes lead to the receivers, by name. One at rest has none.
	lanes map[string]*lane
	// busy is whether notices are being handed to them.
	busy bool
	// refusals is how often in a row the API server refused an event. Only the worker at work on the box counts them.
	refusals int
	gone     bool
}

// delivered is the highest number of a notice of which all was told.
func (b *outbox) delivered() int64 {
	earliest := b.handed + 1
	for _, l := range b.lanes {
		earliest = l.earliest(earliest)
	}
	return earliest - 1
}

// maxRefusals is how often an event is tried that the API server refuses. The first refusals may come of a role that was
// given a moment ago or of an admission webhook that was not up to it; after that, those who wait for alerts and webhooks
// would wait in vain. With the first event all are given up that follow, until one is accepted.
const maxRefusals = 3

// New returns a Publisher. It tells nothing before Run.
func New(cfg Config) *Publisher {
	return &Publisher{
		Events:    Events{Client: cfg.Kube, Clock: cfg.Clock},
		cfg:       cfg,
		log:       cfg.Log,
		queue:     workqueue.NewMeasuredQueue(cfg.Clock, cfg.Telemetry.Queue("outbox")),
		receivers: workqueue.NewMeasuredQueue(cfg.Clock, cfg.Telemetry.Queue("receivers")),
		outboxes:  map[string]*outbox{},
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
	if box.delivered() < lastNotice(c) {
		p.queue.Add(key)
	}
}

// DeliveredTo is the highest number of a notice that was told completely by this process.
func (p *Publisher) DeliveredTo(key string, uid types.UID) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if box, ok := p.outboxes[key]; ok && box.canary.UID == uid {
		return box.delivered()
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

// Idle is whether nothing is being told or due to be told. What waits for receivers comes from the outboxes, so those come first.
func (p *Publisher) Idle() bool { return p.queue.Idle() && p.receivers.Idle() }

// Run tells until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	var wait sync.WaitGroup
	wait.Go(func() { workqueue.NewWorkers(p.queue, maxPublishing).Run(ctx, p.publish) })
	wait.Go(func() { workqueue.NewWorkers(p.receivers, maxTelling).Run(ctx, p.tellReceiver) })
	wait.Wait()
}

// publish makes the events of what is new about one Canary, and hands it to the receivers.
func (p *Publisher) publish(ctx context.Context, key string) {
	p.mu.Lock()
	box := p.outboxes[key]
	if box != nil {
		box.busy = true
	}
	p.mu.Unlock()
	if box == nil {
		return
	}
	done := p.attempt(ctx, p.queue, key, key, func() error { return p.empty(ctx, key, box) })
	p.mu.Lock()
	defer p.mu.Unlock()
	box.busy = false
	if done {
		p.settle(key, box)
	}
}

// turn is what one receiver is to be told now.
type turn struct {
	box    *outbox
	lane   *lane
	canary *v1beta1.Canary
	item   item
	// tell is that of the lane, which changes with the spec.
	tell func(ctx context.Context, l *lane, c *v1beta1.Canary, it item) error
}

// tellReceiver tells one receiver of a Canary what waits for it, one after the other.
func (p *Publisher) tellReceiver(ctx context.Context, name string) {
	key, id, _ := strings.Cut(name, laneSeparator)
	for {
		t, ok := p.next(key, id)
		if !ok {
			p.receivers.Succeeded(name, time.Time{})
			return
		}
		told := p.attempt(ctx, p.receivers, name, key, func() error {
			if err := t.tell(ctx, t.lane, t.canary, t.item); err != nil {
				return err
			}
			return ctx.Err()
		})
		if !p.end(key, t, told) {
			return
		}
	}
}

// next is what waits for a receiver, who may be gone from the spec.
func (p *Publisher) next(key, id string) (turn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	box := p.outboxes[key]
	if box == nil || box.lanes[id] == nil {
		return turn{}, false
	}
	l := box.lanes[id]
	it, ok := l.next()
	return turn{box, l, box.canary, it, l.tell}, ok
}

// end notes whether a receiver was told.
func (p *Publisher) end(key string, t turn, told bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.lane.end(told)
	if told {
		p.settle(key, t.box)
	}
	return told
}

// attempt does what is due about a Canary, which is tried again after a pause if it fails.
func (p *Publisher) attempt(ctx context.Context, queue *workqueue.Queue, due, canary string, do func() error) bool {
	err := workqueue.Guard(do)
	var panicked *workqueue.PanicError
	switch {
	case errors.As(err, &panicked):
		p.log.Error("panic while telling", zap.String("canary", canary), zap.Any("panic", panicked.Value), zap.ByteString("stack", panicked.Stack))
		queue.Failed(due)
	case err != nil && ctx.Err() == nil:
		p.log.Error("telling failed", zap.String("canary", canary), zap.Error(err), zap.Duration("pause", queue.Failed(due)))
	}
	return err == nil
}

// settle ends the work on an outbox of which all was told.
func (p *Publisher) settle(key string, box *outbox) {
	delivered := box.delivered()
	if delivered < lastNotice(box.canary) {
		return
	}
	gone := box.gone && p.outboxes[key] == box
	if gone {
		delete(p.outboxes, key)
		p.queue.Drop(key)
		for name := range box.lanes {
			p.receivers.Drop(key + laneSeparator + name)
		}
	}
	if !box.busy && delivered == box.handed {
		box.lanes = nil
	}
	if gone || delivered > box.settled {
		box.settled = delivered
		p.cfg.Delivered(key)
	}
}

// empty makes the events of one outbox. Only one worker at a time has a key, so the counters of the box need the lock only against
// those who tell its receivers.
func (p *Publisher) empty(ctx context.Context, key string, box *outbox) error {
	p.mu.Lock()
	c, handed := box.canary, box.handed
	p.lead(key, box, c)
	p.mu.Unlock()
	notices := noticesOf(c)
	for i := range notices {
		n := &notices[i]
		if n.Sequence <= handed {
			continue
		}
		p.logOnce(box, c, n)
		if err := p.announce(ctx, box, c, n); err != nil {
			return err
		}
		p.mu.Lock()
		p.hand(key, box, c, n)
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
	return p.createEvent(ctx, &box.refusals, c, Event{Type: n.Type, Message: n.Message, Rule: n.Rule, Sequence: n.Sequence, Verdict: n.Verdict})
}

// createEvent creates an event. One that the API server goes on to refuse, as often in a row as counted, is given up.
func (p *Publisher) createEvent(ctx context.Context, refusals *int, c *v1beta1.Canary, what Event) error {
	err := p.Events.Create(ctx, c, what)
	switch {
	case err == nil:
		*refusals = 0
	case refused(err):
		if *refusals++; *refusals >= maxRefusals {
			p.log.Error("an event was refused", zap.String("canary", c.Name+"."+c.Namespace), zap.String("message", what.Message), zap.Error(err))
			return nil
		}
	}
	return err
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
