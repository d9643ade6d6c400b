package controller

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/controller/sharding"
)

const (
	// firstLook and looks are how often the cache is looked at that is to show what another process has written, and for how long.
	firstLook = 100 * time.Millisecond
	looks     = 300
	// together is how long a list of versions waits for others who need one: shards that are taken by one write of the Lease begin one
	// right after the other.
	together = 20 * time.Millisecond
)

// catchUp waits until the cache shows what the process before this one has written last: by an older status it would lead traffic a
// step back. What is never shown, such as a Canary that was deleted meanwhile, is waited for no longer than half a minute; writes
// are on the condition that the status is as it was read.
func (c *Controller) catchUp(ctx context.Context, shard int) {
	var behind map[string]string
	for look := range looks {
		if look > 0 && !c.rest(ctx, firstLook) {
			return
		}
		if behind == nil {
			behind = c.versionsIn(ctx, shard)
		}
		if behind == nil {
			// The server is asked less often than the cache.
			c.rest(ctx, time.Second)
			continue
		}
		maps.DeleteFunc(behind, c.canaries.Shows)
		if len(behind) == 0 {
			return
		}
	}
}

// versionsIn are the versions that the Canaries of a shard are at now, by key. It is nil if the server does not tell.
func (c *Controller) versionsIn(ctx context.Context, shard int) map[string]string {
	all, err := c.versions(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.Log.Error("taking over a shard: asking for the versions of its Canaries", zap.Int("shard", shard), zap.Error(err))
		}
		return nil
	}
	versions := map[string]string{}
	for key, version := range all {
		if sharding.Of(key, c.Shards) == shard {
			versions[key] = version
		}
	}
	return versions
}

// versionsList is a list of versions that is asked for and has not begun, nil if there is none.
type versionsList struct {
	mu   sync.Mutex
	next *versions
}

// versions is a list of them that several wait for.
type versions struct {
	done chan struct{}
	all  map[string]string
	err  error
}

// versions asks for the versions of all Canaries. Who asks while another is about to gets the same list, which must not be changed. It
// began after both asked: one under way may lack what was written by those who held the shard of a later one.
func (c *Controller) versions(ctx context.Context) (map[string]string, error) {
	list, first := c.parts.list.join()
	if first {
		c.rest(ctx, together)
		c.parts.list.begin()
		if list.err = ctx.Err(); list.err == nil {
			list.all, list.err = c.canaries.Versions(ctx)
		}
		close(list.done)
	}
	select {
	case <-list.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if errors.Is(list.err, context.Canceled) && ctx.Err() == nil {
		// Who asked for it gave up its own shard.
		return c.versions(ctx)
	}
	return list.all, list.err
}

// join returns the list that has not begun, and whether the caller is the first who wants one, and has to bring it.
func (l *versionsList) join() (list *versions, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next != nil {
		return l.next, false
	}
	l.next = &versions{done: make(chan struct{})}
	return l.next, true
}

// begin lets nobody join the list any more.
func (l *versionsList) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = nil
}
