package sharding

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/kube/kubetest"
)

const (
	shards    = 8
	duration  = 60 * time.Second
	deadline  = 15 * time.Second
	period    = 5 * time.Second
	namespace = "flagger-system"
	leaseName = "flagger-leader-election"
)

// world is an API server with one Lease, and the record of who works on what.
type world struct {
	t  *testing.T
	mu sync.Mutex
	// lease is nil where there is none.
	lease *coordinationv1.Lease
	// version stands in for the resource version, which the tracker does not keep.
	version int
	// owners is who works on each shard at this moment.
	owners map[int]string
	begun  int
	// cut are members whose calls don't arrive; deaf those whose writes do, and their answers don't.
	cut, deaf map[string]bool
}

func newWorld(t *testing.T) *world {
	return &world{t: t, owners: map[int]string{}, cut: map[string]bool{}, deaf: map[string]bool{}}
}

var errAway = errors.New("the API server is away")

// client is a client of a member. The Lease is kept with the conditions that the API server puts on its writes.
func (w *world) client(id string) *kubefake.Clientset {
	client := kubefake.NewClientset()
	client.PrependReactor("*", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cut[id] {
			return true, nil, errAway
		}
		stored, err := w.handle(action)
		if w.deaf[id] && action.GetVerb() != "get" {
			return true, nil, errAway
		}
		return true, stored, err
	})
	return client
}

func (w *world) handle(action clienttesting.Action) (runtime.Object, error) {
	resource := schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	if action.GetVerb() == "get" {
		if w.lease == nil {
			return nil, apierrors.NewNotFound(resource, leaseName)
		}
		return w.lease.DeepCopy(), nil
	}
	given := action.(clienttesting.CreateAction).GetObject().(*coordinationv1.Lease).DeepCopy()
	switch {
	case action.GetVerb() == "create" && w.lease != nil:
		return nil, apierrors.NewAlreadyExists(resource, leaseName)
	case action.GetVerb() == "update" && (w.lease == nil || w.lease.ResourceVersion != given.ResourceVersion):
		return nil, apierrors.NewConflict(resource, leaseName, errors.New("it was changed"))
	}
	w.version++
	given.ResourceVersion = fmt.Sprint(w.version)
	w.lease = given
	return w.lease.DeepCopy(), nil
}

// process is a member that runs.
type process struct {
	id   string
	stop context.CancelFunc
	// lingering is how long its work takes to come to rest.
	lingering time.Duration
	ended     chan struct{}
	err       error
}

func newGroup(client *kubefake.Clientset, id string, n int) *Group {
	return &Group{
		Client: kubetest.Client{Interface: client}, Namespace: namespace, Name: leaseName, Identity: id, Shards: n,
		Duration: duration, RenewDeadline: deadline, RetryPeriod: period, Clock: clock.RealClock{}, Log: zap.NewNop(),
	}
}

// run starts a member with a number of shards.
func (w *world) run(id string, n int, lingering time.Duration) *process {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{id: id, stop: stop, lingering: lingering, ended: make(chan struct{})}
	g := newGroup(w.client(id), id, n)
	go func() {
		defer close(p.ended)
		p.err = g.Hold(ctx, func(ctx context.Context, shard int) error { return w.work(ctx, p, n, shard) })
	}()
	return p
}

// work checks that nobody else works on the shard, nor on any shard of another number of them.
func (w *world) work(ctx context.Context, p *process, n, shard int) error {
	w.mu.Lock()
	for other, owner := range w.owners {
		if other%100 == shard || other/100 != n {
			w.t.Errorf("%s works on shard %d of %d while %s works on %d of %d", p.id, shard, n, owner, other%100, other/100)
		}
	}
	w.owners[n*100+shard] = p.id
	w.begun++
	w.mu.Unlock()
	<-ctx.Done()
	time.Sleep(p.lingering)
	w.mu.Lock()
	delete(w.owners, n*100+shard)
	w.mu.Unlock()
	return nil
}

// kill lets a member vanish with its work, as a process does.
func (w *world) kill(p *process) {
	w.mu.Lock()
	w.cut[p.id] = true
	w.mu.Unlock()
	p.stop()
}

// shares are how many shards each member works on, in the order of their names.
func (w *world) shares() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for _, id := range w.owners {
		all[id]++
	}
	return all
}

func (w *world) expect(what string, want map[string]int) {
	w.t.Helper()
	if got := w.shares(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// there puts a Lease there, as a leader has it or has given it back.
func (w *world) there(who string) {
	w.lease = &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: leaseName, ResourceVersion: "leader"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &who, LeaseDurationSeconds: new(int32(60))},
	}
}

func inTime(t *testing.T, do func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.there("")
		do(t, w)
	})
}

func TestMembersShare(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		a := w.run("a", shards, time.Second)
		time.Sleep(time.Second)
		w.expect("one member", map[string]int{"a": 8})
		b := w.run("b", shards, time.Second)
		time.Sleep(4 * period)
		w.expect("two members", map[string]int{"a": 4, "b": 4})
		c := w.run("c", shards, time.Second)
		time.Sleep(4 * period)
		w.expect("three members", map[string]int{"a": 3, "b": 3, "c": 2})
		moved := w.begun
		time.Sleep(time.Hour)
		if w.begun != moved {
			t.Errorf("%d shards moved although nobody came or went", w.begun-moved)
		}
		b.stop()
		<-b.ended
		time.Sleep(2 * period)
		w.expect("after a stop", map[string]int{"a": 4, "c": 4})
		w.kill(c)
		time.Sleep(duration - 2*period)
		w.expect("before a member that vanished is struck out", map[string]int{"a": 4})
		time.Sleep(4 * period)
		w.expect("after a member vanished", map[string]int{"a": 8})
		a.stop()
		<-a.ended
		<-c.ended
		if a.err != nil || b.err != nil || *w.lease.Spec.HolderIdentity != "" {
			t.Errorf("a stop is no error: %v, %v; the lease is held by %q", a.err, b.err, *w.lease.Spec.HolderIdentity)
		}
	})
}

// More members than shards: the others wait.
func TestMembersWithoutShards(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		var all []*process
		for i := range 4 {
			all = append(all, w.run(fmt.Sprint(i), 2, 0))
		}
		time.Sleep(8 * period)
		if got := w.shares(); len(got) != 2 {
			t.Errorf("got %v", got)
		}
		for _, p := range all {
			p.stop()
			<-p.ended
		}
	})
}

// Work that does not come to rest keeps its shard, however long that takes.
func TestShardIsGivenUpAtRest(t *testing.T) {
	inTime(t, func(_ *testing.T, w *world) {
		a := w.run("a", 2, 10*time.Minute)
		time.Sleep(time.Second)
		b := w.run("b", 2, 0)
		time.Sleep(9 * time.Minute)
		w.expect("while it comes to rest", map[string]int{"a": 2})
		time.Sleep(time.Minute + 2*period)
		w.expect("at rest", map[string]int{"a": 1, "b": 1})
		b.stop()
		a.stop()
		<-a.ended
		<-b.ended
	})
}

// Who can't write stops long before others act, and ends.
func TestMemberThatIsCutOffStops(t *testing.T) {
	for name, cut := range map[string]func(w *world) map[string]bool{
		"no call arrives":         func(w *world) map[string]bool { return w.cut },
		"no write gets an answer": func(w *world) map[string]bool { return w.deaf },
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				a := w.run("a", shards, 0)
				b := w.run("b", shards, 0)
				time.Sleep(8 * period)
				w.expect("two members", map[string]int{"a": 4, "b": 4})
				w.mu.Lock()
				cut(w)["a"] = true
				w.mu.Unlock()
				time.Sleep(deadline + period)
				w.expect("after the deadline", map[string]int{"b": 4})
				<-a.ended
				if !errors.Is(a.err, ErrLost) {
					t.Errorf("got %v", a.err)
				}
				time.Sleep(duration + 2*period)
				w.expect("after the duration", map[string]int{"b": 8})
				b.stop()
				<-b.ended
			})
		})
	}
}

// Where nothing tells the work on a shard that its time is over, since a write of the Lease stands still, it can't write any more.
func TestWorkIsFencedByWrites(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		client, done := w.client("a"), errors.New("done")
		var working atomic.Bool
		client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			if working.Load() {
				time.Sleep(time.Hour)
			}
			return false, nil, nil
		})
		err := newGroup(client, "a", 1).Hold(t.Context(), func(ctx context.Context, _ int) error {
			working.Store(true)
			if err := fence.Check(ctx); err != nil {
				t.Error(err)
			}
			time.Sleep(deadline - 1)
			if err := fence.Check(ctx); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Nanosecond)
			if fence.Check(ctx) == nil || ctx.Err() != nil {
				t.Errorf("after the deadline the fence says %v, the context %v", fence.Check(ctx), ctx.Err())
			}
			return done
		})
		if !errors.Is(err, done) {
			t.Errorf("got %v", err)
		}
	})
}

// Those who are led by one, as Flagger is, and those with another number of shards act before or after, and never beside.
func TestStrangers(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.there("flagger-0_uuid")
		a := w.run("a", shards, 0)
		time.Sleep(duration - period)
		w.expect("while a leader has the lease", map[string]int{})
		time.Sleep(2 * period)
		w.expect("after its lease has run out", map[string]int{"a": 8})
		b := w.run("b", 3, 0)
		time.Sleep(time.Hour)
		w.expect("another number of shards", map[string]int{"a": 8})
		a.stop()
		<-a.ended
		time.Sleep(2 * period)
		w.expect("after the others have gone", map[string]int{"b": 3})
		w.mu.Lock()
		w.there("flagger-0_uuid")
		w.mu.Unlock()
		<-b.ended
		if !errors.Is(b.err, ErrLost) {
			t.Errorf("a lease that somebody else took: %v", b.err)
		}
	})
}

// A Lease that is deleted is lost. Who makes a new one waits until all have noticed.
func TestDeletedLease(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		a := w.run("a", shards, 0)
		time.Sleep(time.Second)
		w.mu.Lock()
		w.lease = nil
		w.mu.Unlock()
		b := w.run("b", shards, 0)
		<-a.ended
		if !errors.Is(a.err, ErrLost) {
			t.Errorf("got %v", a.err)
		}
		time.Sleep(deadline - 2*period)
		w.expect("before all have noticed", map[string]int{})
		time.Sleep(4 * period)
		w.expect("in the end", map[string]int{"b": 8})
		b.stop()
		<-b.ended
	})
}

// A record that nobody can read is nobody's claim, and runs out.
func TestUnreadableRecord(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{", "a shard of two": `{"members":{"a":{"holds":[1]},"b":{"holds":[1]}}}`, "a shard too many": `{"members":{"a":{"holds":[8]}}}`,
		"a member of nothing": `{"members":{"a":null}}`,
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(_ *testing.T, w *world) {
				w.there(holder(shards))
				w.lease.Annotations = map[string]string{Annotation: text}
				a := w.run("me", shards, 0)
				time.Sleep(duration - period)
				w.expect("before it has run out", map[string]int{})
				time.Sleep(2 * period)
				w.expect("after it has run out", map[string]int{"me": 8})
				a.stop()
				<-a.ended
			})
		})
	}
}

func TestWorkThatEndsIsReported(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		g := &Group{
			Client: kubetest.Client{Interface: w.client("a")}, Namespace: namespace, Name: leaseName, Identity: "a", Shards: 2,
			Duration: duration, RenewDeadline: deadline, RetryPeriod: period, Clock: clock.RealClock{}, Log: zap.NewNop(),
		}
		broken := errors.New("broken")
		err := g.Hold(context.Background(), func(ctx context.Context, shard int) error {
			if shard == 1 {
				return broken
			}
			<-ctx.Done()
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

// Members come, go, vanish, are cut off and get no answers, in any order. No shard is ever worked on by two, and in the end all are.
func TestSchedules(t *testing.T) {
	for seed := range uint64(200) {
		inTime(t, func(t *testing.T, w *world) {
			random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // of a test
			if random.IntN(2) == 0 {
				w.lease = nil
			}
			var all []*process
			started := 0
			for range 40 {
				all = slices.DeleteFunc(all, func(p *process) bool {
					select {
					case <-p.ended:
						return true
					default:
						return false
					}
				})
				switch n := random.IntN(10); {
				case len(all) < 2 || n < 3 && len(all) < 6:
					started++
					all = append(all, w.run(fmt.Sprintf("%d-%d", random.IntN(10), started), shards, time.Duration(random.IntN(12))*time.Second))
				case n < 5:
					all[random.IntN(len(all))].stop()
				case n < 6:
					w.mu.Lock()
					w.cut[all[random.IntN(len(all))].id] = true
					w.mu.Unlock()
				case n < 7:
					w.mu.Lock()
					w.deaf[all[random.IntN(len(all))].id] = true
					w.mu.Unlock()
				case n < 8:
					w.mu.Lock()
					clear(w.deaf)
					clear(w.cut)
					w.mu.Unlock()
				}
				time.Sleep(time.Duration(random.IntN(25_000)) * time.Millisecond)
			}
			w.mu.Lock()
			clear(w.deaf)
			clear(w.cut)
			w.mu.Unlock()
			last := w.run("last", shards, 0)
			time.Sleep(2*duration + 8*period)
			held := 0
			for _, n := range w.shares() {
				held += n
			}
			if held != shards {
				t.Errorf("seed %d: %d shards are worked on: %v", seed, held, w.shares())
			}
			for _, p := range append(all, last) {
				p.stop()
				<-p.ended
			}
		})
	}
}

func TestKeysAreSpread(t *testing.T) {
	counts := make([]int, shards)
	for i := range 8000 {
		counts[Of(fmt.Sprintf("team-%d/app-%d", i%7, i), shards)]++
	}
	for shard, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("shard %d has %d keys of 8000", shard, n)
		}
	}
}

func TestImpossibleTimes(t *testing.T) {
	g := &Group{Shards: 1, Duration: time.Second, RenewDeadline: time.Second, RetryPeriod: time.Millisecond}
	if err := g.Hold(t.Context(), nil); err == nil {
		t.Error("a process would work on after others have taken its place")
	}
}
