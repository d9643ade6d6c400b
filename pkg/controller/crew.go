package controller

import (
	"context"
	"sync"

	"flagger.app/flagger/pkg/controller/inquiry"
	"flagger.app/flagger/pkg/controller/outbox"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/rollout"
)

// crew is what works on Canaries, all of them or those of one shard. It works once.
type crew struct {
	queue     *workqueue.Queue
	workers   *workqueue.Workers
	inquiries *inquiry.Desk[rollout.Answer]
	publisher *outbox.Publisher
	limit     *limit

	mu    sync.Mutex
	known map[string]*memory
}

// newCrew returns a crew without workers.
func (c *Controller) newCrew() *crew {
	queue := workqueue.NewMeasuredQueue(c.Clock, c.Telemetry.Queue("canaries"))
	crew := &crew{
		queue:     queue,
		inquiries: inquiry.New[rollout.Answer](c.Clock, queue.Add),
		limit:     newLimit(&c.Settings, c.canaries, queue),
		known:     map[string]*memory{},
	}
	crew.publisher = outbox.New(outbox.Config{
		Kube: c.Kube, Hooks: c.Hooks, Notifier: c.Notifier, Clock: c.Clock, Log: c.Log, Telemetry: c.Telemetry,
		EventWebhook: c.EventWebhook, ClusterName: c.Settings.ClusterName, Delivered: crew.told,
	})
	return crew
}

// told asks for the pass that takes out of the status what was told. Under way that is done along with the next change.
func (c *crew) told(key string) {
	// A pass notes what it has seen before it asks what was told, so one of the two knows of the other.
	if last := c.lastSeen(key); last == nil || !rollout.UnderWay(last.Status.Phase) {
		c.queue.Remind(key)
	}
}

// act works on Canaries, beginning with those that are named, until ctx ends. All calls in flight have come back when it returns.
func (c *Controller) act(ctx context.Context, keys []string) {
	for _, key := range keys {
		c.queue.Add(key)
	}
	var wait sync.WaitGroup
	wait.Go(func() { c.publisher.Run(ctx) })
	c.workers.Run(ctx, c.process)
	c.inquiries.Stop()
	wait.Wait()
}
