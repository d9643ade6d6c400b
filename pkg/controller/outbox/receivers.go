package outbox

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/notify"
)

// eventHookName is the name of the webhook of the flag -event-webhook.
const eventHookName = "events"

// The beginnings of the names of lanes: to those who get alerts, to webhooks of type event, and to those that answer.
const (
	laneOfAlerts = "alert/"
	laneOfEvents = "event/"
	laneOfHooks  = "hooks"
)

// lanes are the ways to all receivers of a Canary as its spec has them, by name.
func (p *Publisher) lanes(key string, box *outbox, c *v1beta1.Canary) map[string]*lane {
	all := map[string]*lane{laneOfHooks: {
		wants: func(n *v1beta1.Notice) bool { return n.Hooks != "" },
		tell: func(ctx context.Context, l *lane, c *v1beta1.Canary, it item) error {
			return p.callHooks(ctx, l, c, it, func(answer item) { p.handAnswer(key, box, answer) })
		},
	}}
	add := func(name string, l *lane) {
		// A receiver that the spec has twice is told twice.
		for all[name] != nil {
			name += "+"
		}
		all[name] = l
	}
	for _, a := range notify.Addressees(p.cfg.Notifier, c.GetAnalysis().Alerts) {
		name := laneOfAlerts + a.ID
		add(name, &lane{
			wants: func(n *v1beta1.Notice) bool { return n.Alert != nil && notify.Passes(n.Alert.Severity, a.Least) },
			tell: func(ctx context.Context, _ *lane, c *v1beta1.Canary, it item) error {
				p.alert(ctx, a, name, c, it)
				return nil
			},
		})
	}
	for _, h := range p.eventHooks(c) {
		add(laneOfEvents+h.Name, &lane{
			wants: func(n *v1beta1.Notice) bool { return n.Message != "" },
			tell: func(ctx context.Context, _ *lane, c *v1beta1.Canary, it item) error {
				p.callEventHook(ctx, h, c, it)
				return nil
			},
		})
	}
	return all
}

// lead has the lanes of an outbox lead to those whom the spec names now. Somebody who is new there is told what was not told
// completely, and who is there no more gets nothing.
func (p *Publisher) lead(key string, box *outbox, c *v1beta1.Canary) {
	before, delivered := box.lanes, box.delivered()
	box.lanes = p.lanes(key, box, c)
	for name, l := range box.lanes {
		if was := before[name]; was != nil {
			was.wants, was.tell = l.wants, l.tell
			box.lanes[name] = was
			continue
		}
		for _, n := range noticesOf(c) {
			if n.Sequence > delivered && n.Sequence <= box.handed && l.wants(&n) {
				p.push(key, name, l, item{n, keyOfNotice(c, &n)})
			}
		}
	}
}

// hand hands a notice to those who want to know.
func (p *Publisher) hand(key string, box *outbox, c *v1beta1.Canary, n *v1beta1.Notice) {
	for name, l := range box.lanes {
		if l.wants(n) {
			p.push(key, name, l, item{*n, keyOfNotice(c, n)})
		}
	}
	box.handed = n.Sequence
}

// handAnswer hands what a webhook answered to those who are told of events.
func (p *Publisher) handAnswer(key string, box *outbox, answer item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, l := range box.lanes {
		if strings.HasPrefix(name, laneOfEvents) {
			p.push(key, name, l, answer)
		}
	}
}

func (p *Publisher) push(key, name string, l *lane, it item) {
	l.push(it)
	p.receivers.Add(key + laneSeparator + name)
}

// alert sends the alert of a notice to one who gets it. That it did not arrive is told by an event.
func (p *Publisher) alert(ctx context.Context, to notify.Addressee, lane string, c *v1beta1.Canary, it item) {
	n := &it.notice
	a := notify.NewAlert(c, n.Alert.Severity, n.Alert.Message, p.cfg.ClusterName, n.Alert.Details)
	a.Key, a.Rollout, a.Time = it.key, n.Revision, p.cfg.Clock.Now()
	err := to.Notify(ctx, a)
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
		Sequence: n.Sequence, Part: lane,
	})
	if err != nil {
		p.log.Error("an event was not created", zap.String("canary", c.Name+"."+c.Namespace), zap.Error(err))
	}
}

// eventHooks are the webhooks of type event of a Canary, or that of the operator if it has none.
func (p *Publisher) eventHooks(c *v1beta1.Canary) []v1beta1.CanaryWebhook {
	hooks := hook.OfType(c, v1beta1.EventHook)
	if len(hooks) == 0 && p.cfg.EventWebhook != "" {
		return []v1beta1.CanaryWebhook{{Type: v1beta1.EventHook, Name: eventHookName, URL: p.cfg.EventWebhook}}
	}
	return hooks
}

// callEventHook tells an event to a webhook.
func (p *Publisher) callEventHook(ctx context.Context, h v1beta1.CanaryWebhook, c *v1beta1.Canary, it item) {
	n := &it.notice
	payload := hook.EventPayload(payloadOf(c, n), n.Type, n.Message, p.cfg.Clock.Now())
	result := p.cfg.Hooks.Call(ctx, h, payload, it.key+"/"+h.Name)
	if !result.Passed {
		p.log.Error("event webhook failed", zap.String("canary", c.Name+"."+c.Namespace),
			zap.String("webhook", h.Name), zap.String("cause", result.Text))
	}
}

// callHooks calls webhooks that decide nothing, such as those of type post-rollout, and makes an event of each answer.
func (p *Publisher) callHooks(ctx context.Context, l *lane, c *v1beta1.Canary, it item, told func(answer item)) error {
	n := &it.notice
	hooks := hook.OfType(c, n.Hooks)
	for i, result := range p.cfg.Hooks.CallAll(ctx, hooks, payloadOf(c, n), it.key) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		answer := v1beta1.Notice{
			Sequence: n.Sequence, Type: "Normal", Rule: n.Rule, Phase: n.Phase, Revision: n.Revision,
			Message: fmt.Sprintf("%s check %s passed", title(n.Hooks), hooks[i].Name),
		}
		if !result.Passed {
			answer.Type = "Warning"
			answer.Message = fmt.Sprintf("%s hook %s failed %v", title(n.Hooks), hooks[i].Name, result.Text)
		}
		p.log.Info(answer.Message, zap.String("canary", c.Name+"."+c.Namespace), zap.String("rule", n.Rule))
		err := p.createEvent(ctx, &l.refusals, c, Event{
			Type: answer.Type, Message: answer.Message, Rule: n.Rule, Sequence: n.Sequence, Part: hooks[i].Name,
		})
		if err != nil {
			return err
		}
		told(item{answer, it.key + "/" + hooks[i].Name})
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
