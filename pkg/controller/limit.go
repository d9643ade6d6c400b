package controller

import (
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"

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

// limit bounds how many rollouts are under way at the same time. What it knows stands in the statuses of the Canaries, so it
// survives a restart; only the starts of this process that the cache does not show yet are kept here.
type limit struct {
	max      int
	canaries toolscache.Indexer
	// failing is whether the last pass of a Canary failed: it does not keep others from their turn.
	failing func(key string) bool
	// wake asks for a pass.
	wake func(key string)

	mu       sync.Mutex
	starting map[string]struct{}
	// failed is when a start of a Canary was last not stored. It comes after those who have waited since before.
	failed map[string]time.Time
}

func newLimit(most int, canaries toolscache.Indexer, q *workqueue.Queue) *limit {
	return &limit{
		max: most, canaries: canaries, failing: q.Failing, wake: q.Add,
		starting: map[string]struct{}{}, failed: map[string]time.Time{},
	}
}

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

// place is the position of a Canary among those that wait: since when, and its key where that is the same second.
type place struct {
	since time.Time
	key   string
}

func (p place) compare(q place) int {
	if order := p.since.Compare(q.since); order != 0 {
		return order
	}
	return strings.Compare(p.key, q.key)
}

// placeOf is the place of a Canary whose change was seen at now, or before if its status says so.
func (l *limit) placeOf(u *unstructured.Unstructured, now time.Time) place {
	p := place{since: now, key: cache.Key(u)}
	if turnOf(u) != turnWaiting {
		return p
	}
	text, _ := healthyOf(u)["lastTransitionTime"].(string)
	if since, err := time.Parse(time.RFC3339, text); err == nil {
		p.since = since
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.failed[p.key]; ok && at.After(p.since) {
		p.since = at
	}
	return p
}

// othersFirst is whether a Canary may begin no rollout now.
func (l *limit) othersFirst(u *unstructured.Unstructured, now time.Time) bool {
	if l.max == 0 {
		return false
	}
	l.mu.Lock()
	free := l.free("")
	l.mu.Unlock()
	if free <= 0 {
		return true
	}
	mine, before := l.placeOf(u, now), 0
	for _, p := range l.queue(now) {
		if p.key != mine.key && p.compare(mine) < 0 {
			before++
		}
	}
	return before >= free
}

// free is how many rollouts may begin, leaving out one Canary.
func (l *limit) free(but string) int {
	running, _ := l.canaries.IndexKeys(byTurn, turnRunning)
	used := len(running)
	for key := range l.starting {
		if key == but || slices.Contains(running, key) {
			continue
		}
		used++
	}
	return l.max - used
}

// queue lists who waits. One whose passes fail is left out.
func (l *limit) queue(now time.Time) []place {
	items, _ := l.canaries.ByIndex(byTurn, turnWaiting)
	var all []place
	for _, item := range items {
		if u, ok := item.(*unstructured.Unstructured); ok && !l.failing(cache.Key(u)) {
			all = append(all, l.placeOf(u, now))
		}
	}
	return all
}

// begin takes a place for the rollout that a Canary is about to begin, and reports whether one was left.
func (l *limit) begin(key string) bool {
	if l.max == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free(key) <= 0 {
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
	if l.max == 0 {
		return
	}
	l.mu.Lock()
	free := l.free("")
	l.mu.Unlock()
	if free <= 0 {
		return
	}
	waiting := l.queue(now)
	slices.SortFunc(waiting, place.compare)
	for _, p := range waiting[:min(free, len(waiting))] {
		l.wake(p.key)
	}
}

// onCanary follows a change of a Canary that the cache shows by now.
func (l *limit) onCanary(old, current *unstructured.Unstructured, now time.Time) {
	if l.max == 0 {
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
	if before != after {
		l.wakeNext(now)
	}
}
