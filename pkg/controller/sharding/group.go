package sharding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/kube"
)

// maxTries is how often a write is tried that others come before. More often than there are members needs nobody.
const maxTries = 8

// ErrLost is returned when others may have taken what this process held. Whoever gets it has to exit.
var ErrLost = errors.New("the shards were lost")

// Group is the part of one process in the sharing of shards. It must not be copied after use. All fields are required.
type Group struct {
	// Client must not share a rate limiter with anything else, and gives up a call well before RenewDeadline.
	Client kube.Leases
	// Namespace and Name are those of the Lease.
	Namespace, Name string
	// Identity is this process's.
	Identity string
	// Shards is their number. It is the same for all members.
	Shards int
	// Duration is how long others wait for a write of this process before they strike it out, RenewDeadline how long it works without
	// one, RetryPeriod the pause between two writes.
	Duration, RenewDeadline, RetryPeriod time.Duration
	Clock                                clock.Clock
	Log                                  *zap.Logger
	// Held is told how many shards this process works on, when that has changed. It may be nil.
	Held func(n int)

	// tasks are the shards that are worked on, by number.
	tasks map[int]*task
	rest  chan struct{}
	// joined is when this process last began a write that was answered, zero before the first.
	joined time.Time
	fence  *fence.Fence
	// settled is when claims may begin that wait for those who had a record that is gone.
	settled time.Time
	beats   map[string]sight
	// told is the number that Held was told last.
	told int
	// released are the shards that the last write gives up.
	released []int
	// stranger is the last version of a Lease that others hold.
	stranger sight
}

// sight is something that changes while somebody lives, and since when it is seen as it is.
type sight struct {
	what string
	at   time.Time
}

// task is the work on one shard.
type task struct {
	cancel context.CancelFunc
	// done is closed at its end, which err is of.
	done chan struct{}
	err  error
	// leaving is set when the shard is to be given up.
	leaving bool
}

// Hold runs work for each shard that this process has, until ctx ends. The context of work ends when the shard is to be given up or is
// lost, and has a Fence that is closed when the renew deadline has passed without a write of the Lease. A shard is given up only after
// work has returned. The error is nil if ctx ended, ErrLost if others may have the shards by now, and
// that of work if one ended by itself.
func (g *Group) Hold(ctx context.Context, work func(ctx context.Context, shard int) error) error {
	if g.Duration <= g.RenewDeadline || g.RenewDeadline <= g.RetryPeriod {
		return fmt.Errorf("sharing %d shards: the lease duration %s has to be longer than the renew deadline %s, and that longer than the retry period %s",
			g.Shards, g.Duration, g.RenewDeadline, g.RetryPeriod)
	}
	g.tasks, g.beats, g.rest = map[int]*task{}, map[string]sight{}, make(chan struct{}, 1)
	g.fence = fence.New(g.RenewDeadline, g.Clock)
	// Writes and work outlive ctx: the shards are kept until all has come to its end.
	outer := context.WithoutCancel(ctx)
	all, cancel := context.WithCancel(fence.With(outer, g.fence))
	defer cancel()
	for {
		if ctx.Err() != nil {
			g.leave(len(g.tasks))
		}
		err := g.beat(outer, ctx.Err() != nil, func(shard int) { g.begin(all, shard, work) })
		if err != nil {
			g.Log.Error("sharing the shards", zap.Error(err))
		}
		if err != nil && g.overdue() && !errors.Is(err, ErrLost) {
			err = fmt.Errorf("%w: no write for %s: %w", ErrLost, g.RenewDeadline, err)
		}
		if !errors.Is(err, ErrLost) {
			err = g.failure()
		}
		switch {
		case err != nil:
			g.fence.Close()
			cancel()
			return errors.Join(err, g.wait())
		case ctx.Err() != nil && len(g.tasks) == 0:
			// If the last write was none, the others strike this process out.
			return nil
		}
		g.pause(ctx)
	}
}

// pause waits until the next write is due: at once when a shard has come to rest, and never longer than this process may work without.
func (g *Group) pause(ctx context.Context) {
	pause := g.RetryPeriod
	if len(g.tasks) > 0 {
		pause = min(pause, max(0, g.RenewDeadline-g.Clock.Since(g.joined)))
	}
	timer := g.Clock.NewTimer(pause)
	defer timer.Stop()
	stopping := ctx.Done()
	if ctx.Err() != nil {
		stopping = nil
	}
	select {
	case <-timer.C():
	case <-g.rest:
	case <-stopping:
	}
}

// overdue is whether the last write is so long ago that work has to stop.
func (g *Group) overdue() bool {
	return len(g.tasks) > 0 && g.Clock.Since(g.joined) >= g.RenewDeadline
}

// begin works on a shard.
func (g *Group) begin(ctx context.Context, shard int, work func(ctx context.Context, shard int) error) {
	t := &task{done: make(chan struct{})}
	ctx, t.cancel = context.WithCancel(ctx)
	g.tasks[shard] = t
	g.Log.Info("working on a shard", zap.Int("shard", shard))
	go func() {
		defer func() {
			close(t.done)
			select {
			case g.rest <- struct{}{}:
			default:
			}
		}()
		defer t.cancel()
		t.err = work(ctx, shard)
	}()
}

// leave lets as many shards as given come to rest, the last ones first.
func (g *Group) leave(n int) {
	for _, shard := range slices.Backward(slices.Sorted(maps.Keys(g.tasks))) {
		if t := g.tasks[shard]; n > 0 && !t.leaving {
			t.leaving = true
			t.cancel()
			n--
		}
	}
}

// failure is the error of work that ended by itself.
func (g *Group) failure() error {
	for shard, t := range g.tasks {
		if !t.atRest() || t.leaving {
			continue
		}
		return fmt.Errorf("work on shard %d ended: %w", shard, cmp.Or(t.err, errors.New("nobody has told it to")))
	}
	return nil
}

func (t *task) atRest() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// wait lets all work come to its end after it was canceled. Others may act once they strike this process out, so there is less time
// than until then.
func (g *Group) wait() error {
	grace := g.Clock.NewTimer((g.Duration - g.RenewDeadline) / 2)
	defer grace.Stop()
	for shard, t := range g.tasks {
		select {
		case <-t.done:
		case <-grace.C():
			return fmt.Errorf("work on shard %d did not stop in time", shard)
		}
	}
	return nil
}

// beat writes that this process lives, what it gives up and what it claims, and begins what it has claimed. One that ends and has
// nothing left writes that it is gone.
func (g *Group) beat(ctx context.Context, ending bool, begin func(shard int)) error {
	now := g.Clock.Now()
	limit := g.RenewDeadline
	if len(g.tasks) > 0 {
		limit -= now.Sub(g.joined)
	}
	ctx, cancel := context.WithTimeout(ctx, max(0, limit))
	defer cancel()
	var err error
	for range maxTries {
		var mine *member
		if mine, err = g.write(ctx, ending); err == nil {
			g.answered(now, mine, begin)
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
		// Somebody else came before: what it wrote counts.
	}
	if errors.Is(err, errHeld) {
		return nil
	}
	return err
}

// answered follows a write: what came to rest is gone, and what was claimed is worked on.
func (g *Group) answered(began time.Time, mine *member, begin func(shard int)) {
	g.joined = began
	g.fence.Renewed(began)
	for _, shard := range g.released {
		delete(g.tasks, shard)
	}
	if mine != nil {
		for _, shard := range mine.Holds {
			if g.tasks[shard] == nil {
				begin(shard)
			}
		}
	}
	if g.told != len(g.tasks) && g.Held != nil {
		g.told = len(g.tasks)
		g.Held(g.told)
	}
}

// errHeld is why there is nothing to do: others hold the Lease.
var errHeld = errors.New("the lease is held by others")

// write reads the Lease and writes it anew. It returns this process as it stands there, nil if it is gone.
func (g *Group) write(ctx context.Context, ending bool) (*member, error) {
	lease, err := g.Client.GetLease(ctx, g.Namespace, g.Name)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return nil, fmt.Errorf("lease %s/%s: %w", g.Namespace, g.Name, err)
	}
	if missing {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name}}
	}
	r, err := g.read(lease, missing)
	if err != nil {
		return nil, err
	}
	if ending && len(g.tasks) == 0 && r.Members[g.Identity] == nil {
		return nil, nil
	}
	mine := g.next(r, ending)
	if err := g.describe(lease, r); err != nil {
		return nil, err
	}
	if missing {
		_, err = g.Client.CreateLease(ctx, lease)
	} else {
		_, err = g.Client.UpdateLease(ctx, lease)
	}
	if err != nil {
		return nil, fmt.Errorf("lease %s/%s: %w", g.Namespace, g.Name, err)
	}
	return mine, nil
}

// read returns the record of a Lease as it counts: an empty one where nobody holds it, errHeld where strangers do, and ErrLost where
// this process should be in it and is not.
func (g *Group) read(lease *coordinationv1.Lease, missing bool) (*record, error) {
	now := g.Clock.Now()
	r := &record{Members: map[string]*member{}}
	var unreadable error
	held := lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != ""
	if held && *lease.Spec.HolderIdentity == holder(g.Shards) {
		var known *record
		if known, unreadable = parseRecord(lease.Annotations[Annotation], g.Shards); unreadable == nil {
			r, held = known, false
		}
	}
	if !g.allIn(r.Members[g.Identity]) {
		return nil, errors.Join(fmt.Errorf("%w: lease %s/%s does not name this process", ErrLost, g.Namespace, g.Name), unreadable)
	}
	if held {
		if !g.expired(lease, now) {
			return nil, errors.Join(errHeld, unreadable)
		}
		r = &record{Members: map[string]*member{}}
	}
	r.strike(func(id string, m *member) bool { return id != g.Identity && g.dead(id, m, now) })
	if missing {
		r.Settles, g.settled = g.Identity, now.Add(g.RenewDeadline)
	}
	return r, nil
}

// allIn is whether all that is worked on stands in the record. What came to rest may be gone from it by a write without an answer.
func (g *Group) allIn(mine *member) bool {
	for shard, t := range g.tasks {
		if mine != nil && slices.Contains(mine.Holds, shard) {
			continue
		}
		if !t.leaving || !t.atRest() {
			return false
		}
		delete(g.tasks, shard)
	}
	return true
}

// expired is whether a Lease of strangers was seen unchanged for as long as it lasts.
func (g *Group) expired(lease *coordinationv1.Lease, now time.Time) bool {
	lasts := g.Duration
	if s := lease.Spec.LeaseDurationSeconds; s != nil {
		lasts = max(lasts, time.Duration(*s)*time.Second)
	}
	return g.stranger.unchanged(lease.ResourceVersion, now) >= lasts
}

// dead is whether a member was seen without a new beat for as long as it lives without.
func (g *Group) dead(id string, m *member, now time.Time) bool {
	seen := g.beats[id]
	unchanged := seen.unchanged(fmt.Sprint(m.Beat), now)
	g.beats[id] = seen
	return unchanged >= max(g.Duration, time.Duration(m.Seconds)*time.Second)
}

// unchanged is for how long something is seen as it is.
func (s *sight) unchanged(what string, now time.Time) time.Duration {
	if s.what != what || s.at.IsZero() {
		*s = sight{what: what, at: now}
	}
	return now.Sub(s.at)
}

// next makes of the record the one to write.
func (g *Group) next(r *record, ending bool) *member {
	maps.DeleteFunc(g.beats, func(id string, _ sight) bool { return r.Members[id] == nil })
	mine := r.Members[g.Identity]
	if mine == nil {
		mine = &member{}
		r.Members[g.Identity] = mine
	}
	mine.Beat++
	mine.Seconds = int64(g.Duration / time.Second)
	g.released = nil
	for shard, t := range g.tasks {
		if t.leaving && t.atRest() {
			g.released = append(g.released, shard)
		}
	}
	mine.Holds = slices.DeleteFunc(mine.Holds, func(shard int) bool { return slices.Contains(g.released, shard) })
	if ending {
		// What was claimed by a write without an answer is not worked on yet.
		mine.Holds = slices.DeleteFunc(mine.Holds, func(shard int) bool { return g.tasks[shard] == nil })
		if len(mine.Holds) == 0 {
			delete(r.Members, g.Identity)
			r.strike(func(string, *member) bool { return false })
			return nil
		}
		return mine
	}
	if r.Settles == g.Identity && !g.Clock.Now().Before(g.settled) {
		r.Settles = ""
	}
	g.leave(g.working() - r.share(g.Identity, g.Shards))
	r.claim(g.Identity, g.Shards)
	return mine
}

// working is how many shards are worked on and not about to come to rest.
func (g *Group) working() int {
	n := 0
	for _, t := range g.tasks {
		if !t.leaving {
			n++
		}
	}
	return n
}

// describe writes the record into the Lease. One without members is free, for anybody.
func (g *Group) describe(lease *coordinationv1.Lease, r *record) error {
	text, err := r.text()
	if err != nil {
		return fmt.Errorf("lease %s/%s: %w", g.Namespace, g.Name, err)
	}
	before, now := lease.Spec.HolderIdentity, metav1.NewMicroTime(g.Clock.Now())
	who := holder(g.Shards)
	if before == nil || *before != who {
		lease.Spec.AcquireTime = &now
		lease.Spec.LeaseTransitions = new(1 + orZero(lease.Spec.LeaseTransitions))
	}
	if len(r.Members) == 0 {
		who = ""
	}
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[Annotation] = text
	lease.Spec.HolderIdentity, lease.Spec.RenewTime = &who, &now
	lease.Spec.LeaseDurationSeconds = new(int32(g.Duration / time.Second))
	return nil
}

func orZero(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}
