package controller

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/rollout"
)

// byTurn is the name of the index of Canaries by their part in the limit of rollouts.
const byTurn = "turn"

// Values of the index byTurn: a rollout is under way, or waits for its turn.
const (
	turnRunning = "running"
	turnWaiting = "waiting"
)

// limit bounds how many rollouts are under way at the same time, in all and of a namespace. What it knows stands in the statuses of the
// Canaries, so it survives a restart; only the starts of this process that the cache does not show yet are kept here.
type limit struct {
	// max and perNamespace are 0 for no limit.
	max, perNamespace int
	canaries          turnStore
	// failing is whether the last pass of a Canary failed: it does not keep others from their turn.
	failing func(key string) bool
	// wake asks for a pass.
	wake func(key string)

	mu       sync.Mutex
	starting map[string]struct{}
	// failed is when a start of a Canary was last not stored. It comes after those who have waited since before.
	failed map[string]time.Time
}

// turnStore is the store of the Canaries, as far as the limit asks it. The excerpt of one that waits is its place.
type turnStore interface {
	KeysBy(index, value string) []string
	Excerpts(index, value string) []any
}

func newLimit(s *rollout.Settings, canaries turnStore, q *workqueue.Queue) *limit {
	return &limit{
		max: s.MaxRollouts, perNamespace: s.MaxRolloutsPerNamespace, canaries: canaries, failing: q.Failing, wake: q.Add,
		starting: map[string]struct{}{}, failed: map[string]time.Time{},
	}
}

// off is whether nobody has to wait.
func (l *limit) off() bool { return l.max == 0 && l.perNamespace == 0 }

// room is what is left for rollouts that may begin.
type room struct {
	all, each int
	used      map[string]int
}

// take takes a place of a namespace, and reports whether one was left.
func (r *room) take(namespace string) bool {
	if r.full(namespace) {
		return false
	}
	r.use(namespace)
	return true
}

func (r *room) use(namespace string) {
	r.all--
	r.used[namespace]++
}

func (r *room) full(namespace string) bool { return r.all <= 0 || r.used[namespace] >= r.each }

// turnOf is the part that a Canary has in the limit, empty for none.
func turnOf(u *unstructured.Unstructured) string {
	if u.GetDeletionTimestamp() != nil {
		return ""
	}
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	if rollout.UnderWay(v1beta1.CanaryPhase(phase)) {
		return turnRunning
	}
	if c := healthyOf(u); c != nil && c["status"] == string(corev1.ConditionFalse) && c["reason"] == string(rollout.ReasonWaitingForTurn) {
		return turnWaiting
	}
	return ""
}

// turnsOf is turnOf for the index byTurn.
func turnsOf(u *unstructured.Unstructured) []string {
	if turn := turnOf(u); turn != "" {
		return []string{turn}
	}
	return nil
}

func healthyOf(u *unstructured.Unstructured) map[string]any {
	conditions, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "conditions")
	list, _ := conditions.([]any)
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == string(v1beta1.HealthyType) {
			return c
		}
	}
	return nil
}

// place is the position of a Canary among those that wait: since when, and its key where that is the same instant.
type place struct {
	// since is zero where the status does not say it.
	since          time.Time
	key, namespace string
	// urgent ones come first.
	urgent bool
	// written and inNamespace are the places that the status tells.
	written, inNamespace int32
}

func (p place) compare(q place) int {
	if p.urgent != q.urgent {
		if p.urgent {
			return -1
		}
		return 1
	}
	if order := p.since.Compare(q.since); order != 0 {
		return order
	}
	return strings.Compare(p.key, q.key)
}

// waiting is the excerpt that is taken of Canaries: each pass of one that waits looks at the places of all of them.
func waiting(u *unstructured.Unstructured) any {
	if turnOf(u) != turnWaiting {
		return nil
	}
	p := placeOf(u)
	return &p
}

// placeOf is the place of a Canary by its status.
func placeOf(u *unstructured.Unstructured) place {
	used, _, _ := unstructured.NestedString(u.Object, "status", "rollout", "urgent", "value")
	p := place{key: cache.Key(u), namespace: u.GetNamespace(), urgent: rollout.Urgent(u.GetAnnotations(), used) != ""}
	record, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "rollout", "waiting")
	waiting, recorded := record.(map[string]any)
	text, _ := waiting["since"].(string)
	if !recorded && turnOf(u) == turnWaiting {
		// An earlier version of the operator wrote it.
		text, _ = healthyOf(u)["lastTransitionTime"].(string)
	}
	since, err := time.Parse(time.RFC3339, text)
	if err == nil {
		p.since, p.written, p.inNamespace = since, placeIn(waiting, "position"), placeIn(waiting, "positionInNamespace")
	}
	return p
}

// at is the place of a Canary whose change was seen at now, or before if its status says so.
func (l *limit) at(p place, now time.Time) place {
	if p.since.IsZero() {
		p.since = now
		return p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.failed[p.key]; ok && at.After(p.since) {
		p.since = at
	}
	return p
}

func placeIn(waiting map[string]any, field string) int32 {
	n, _ := waiting[field].(int64)
	return int32(min(n, math.MaxInt32))
}

// standing is whether a Canary whose change waits may begin no rollout now, and where it stands in the queue. One whose namespace is
// full holds up nobody of another.
func (l *limit) standing(u *unstructured.Unstructured, now time.Time) (othersFirst bool, at rollout.QueueFact) {
	if l.off() {
		return false, at
	}
	mine, r := l.at(placeOf(u), now), l.free()
	ahead := slices.DeleteFunc(l.queue(now), func(p place) bool { return p.key == mine.key || p.compare(mine) > 0 })
	before := 0
	for _, p := range ahead {
		if p.namespace == mine.namespace {
			before++
		}
	}
	at = l.told(len(ahead)+1, before+1)
	if r.full(mine.namespace) {
		return true, at
	}
	for _, p := range ahead {
		r.take(p.namespace)
	}
	return !r.take(mine.namespace), at
}

// told are the places that a status tells: those of the limits that there are.
func (l *limit) told(position, inNamespace int) (at rollout.QueueFact) {
	if l.max > 0 {
		at.Position = int32(min(position, math.MaxInt32))
	}
	if l.perNamespace > 0 {
		at.InNamespace = int32(min(inNamespace, math.MaxInt32))
	}
	return at
}

// free is what is left for rollouts that may begin.
func (l *limit) free() *room {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.freeBut("")
}

// freeBut is the same but for one Canary that is starting.
func (l *limit) freeBut(key string) *room {
	r := &room{all: cmp.Or(l.max, math.MaxInt), each: cmp.Or(l.perNamespace, math.MaxInt), used: map[string]int{}}
	running := l.canaries.KeysBy(byTurn, turnRunning)
	for _, k := range running {
		namespace, _ := keyParts(k)
		r.use(namespace)
	}
	for k := range l.starting {
		if k != key && !slices.Contains(running, k) {
			namespace, _ := keyParts(k)
			r.use(namespace)
		}
	}
	return r
}

// queue lists who waits, in the order of their turns. One whose passes fail is left out.
func (l *limit) queue(now time.Time) []place {
	var all []place
	for _, excerpt := range l.canaries.Excerpts(byTurn, turnWaiting) {
		if p, ok := excerpt.(*place); ok && !l.failing(p.key) {
			all = append(all, l.at(*p, now))
		}
	}
	slices.SortFunc(all, place.compare)
	return all
}

// begin takes a place for the rollout that a Canary is about to begin, and reports whether one was left.
func (l *limit) begin(key string) bool {
	if l.off() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if namespace, _ := keyParts(key); l.freeBut(key).full(namespace) {
		return false
	}
	l.starting[key] = struct{}{}
	return true
}

// unstored follows a start that was not stored, and sends the Canary behind those who wait by now: whoever can't start would
// take the first place again and again. What the server did not refuse it may have stored all the same, so its place stays
// taken until the next pass looks again.
func (l *limit) unstored(key string, refused bool, now time.Time) {
	l.mu.Lock()
	l.failed[key] = now
	l.mu.Unlock()
	if refused {
		l.withdraw(key, now)
	}
}

// shown drops the place that was taken for a rollout, as the cache counts it by now.
func (l *limit) shown(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.starting, key)
	delete(l.failed, key)
}

// forget drops everything about a Canary that is gone.
func (l *limit) forget(key string, now time.Time) {
	l.withdraw(key, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, key)
}

// withdraw gives back the place of a rollout that was not begun.
func (l *limit) withdraw(key string, now time.Time) {
	l.mu.Lock()
	_, held := l.starting[key]
	delete(l.starting, key)
	l.mu.Unlock()
	if held {
		l.wakeNext(now)
	}
}

// wakeNext asks for passes of those whose turn it is.
func (l *limit) wakeNext(now time.Time) {
	if l.off() {
		return
	}
	r := l.free()
	if r.all <= 0 {
		return
	}
	for _, p := range l.queue(now) {
		if r.take(p.namespace) {
			l.wake(p.key)
		}
	}
}

// wakeMoved asks for passes of those whose place in the queue is to be written anew.
func (l *limit) wakeMoved(now time.Time) {
	before := map[string]int{}
	for i, p := range l.queue(now) {
		before[p.namespace]++
		at := l.told(i+1, before[p.namespace])
		if rollout.MovedUp(p.written, at.Position) || rollout.MovedUp(p.inNamespace, at.InNamespace) {
			l.wake(p.key)
		}
	}
}

// onCanary follows a change of a Canary that the cache shows by now.
func (l *limit) onCanary(old, current *unstructured.Unstructured, now time.Time) {
	if l.off() {
		return
	}
	var before, after string
	if old != nil {
		before = turnOf(old)
	}
	if current != nil {
		after = turnOf(current)
	}
	if after == turnRunning {
		l.shown(cache.Key(current))
	}
	if before == after {
		return
	}
	l.wakeNext(now)
	if before == turnWaiting {
		l.wakeMoved(now)
	}
}
