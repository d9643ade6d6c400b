package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	toolscache "k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/controller/sharding"
)

// parts are the shards that this process acts on, each with a crew of its own.
type parts struct {
	mu   sync.RWMutex
	held map[int]*Controller
	// list is what crews that begin together share.
	list versionsList
}

// RunShard acts on the Canaries of one shard until ctx ends. It needs Watch to run. Several shards may run at the same time, each of
// them once; all together they have as many workers as Run. As with Run, all calls in flight have come back when it returns.
func (c *Controller) RunShard(ctx context.Context, shard int) error {
	if !toolscache.WaitForCacheSync(ctx.Done(), c.Synced) {
		return nil
	}
	part := &Controller{Config: c.Config, index: c.index, canaries: c.canaries, main: c.main, mesh: c.mesh, workloads: c.workloads, parts: c.parts}
	part.crew = c.newCrew()
	part.workers = c.workers.For(part.queue)
	if err := c.join(shard, part); err != nil {
		return err
	}
	defer c.retire(shard, part)
	c.catchUp(ctx, shard)
	if ctx.Err() != nil {
		return nil
	}
	part.act(ctx, c.keysOf(shard))
	return nil
}

// join leads the events about the Canaries of a shard to its crew.
func (c *Controller) join(shard int, part *Controller) error {
	c.parts.mu.Lock()
	defer c.parts.mu.Unlock()
	if c.parts.held[shard] != nil {
		return fmt.Errorf("shard %d is at work already", shard)
	}
	c.parts.held[shard] = part
	return nil
}

// retire forgets what a crew has known, whose Canaries others work on from now on: their series are those of others as well.
func (c *Controller) retire(shard int, part *Controller) {
	c.parts.mu.Lock()
	delete(c.parts.held, shard)
	c.parts.mu.Unlock()
	for key, m := range part.known {
		c.index.Forget(key)
		c.Telemetry.Forget(m.canary.Namespace, m.canary.Name)
		c.Tracer.Forget(m.canary.Namespace, m.canary.Name)
	}
}

func (c *Controller) keysOf(shard int) []string {
	var keys []string
	for _, key := range c.canaries.Keys() {
		if sharding.Of(key, c.Shards) == shard {
			keys = append(keys, key)
		}
	}
	return keys
}

// crewOf is who works on a Canary, nil if that is another process.
func (c *Controller) crewOf(key string) *crew {
	if c.Shards == 0 {
		return c.crew
	}
	c.parts.mu.RLock()
	defer c.parts.mu.RUnlock()
	if part := c.parts.held[sharding.Of(key, c.Shards)]; part != nil {
		return part.crew
	}
	return nil
}

// wake asks for a pass as soon as a worker is free, by whom it is for. See workqueue.Queue for the difference to remind.
func (c *Controller) wake(key string) {
	if crew := c.crewOf(key); crew != nil {
		crew.queue.Add(key)
	}
}

// hurry is wake for what people wait for, and for what they said.
func (c *Controller) hurry(key string) {
	if crew := c.crewOf(key); crew != nil {
		crew.queue.Hurry(key)
	}
}

func (c *Controller) remind(key string) {
	if crew := c.crewOf(key); crew != nil {
		crew.queue.Remind(key)
	}
}

// rest pauses. It is false when ctx has ended.
func (c *Controller) rest(ctx context.Context, pause time.Duration) bool {
	timer := c.Clock.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}
