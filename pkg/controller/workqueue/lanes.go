package workqueue

import (
	"sync"
	"sync/atomic"
)

// maxAhead is how many hurried keys in a row get ahead of one that waits its turn. A fleet that is changed at once takes its first
// actions at once, and steps that are due meanwhile come late by little.
const maxAhead = 16

// lanes is the order of the keys that wait: those in a hurry are ahead of the others, in each lane the first comes first. The queue around it
// calls it under a lock, but for hurry.
type lanes struct {
	mu sync.Mutex
	// hurried are keys that were named before they were pushed.
	hurried map[string]bool

	fast, slow []string
	isFast     map[string]bool
	// moved are keys that are in the slow lane no more, with the number of places that they left there, gone is the sum of these.
	moved map[string]int
	gone  int
	// waiting is the length of the fast lane, for those who don't hold the lock of the queue.
	waiting atomic.Int64
	// ahead is how many were taken out of the fast lane in a row.
	ahead int
}

func newLanes() *lanes {
	return &lanes{hurried: map[string]bool{}, isFast: map[string]bool{}, moved: map[string]int{}}
}

// hurry puts a key into the fast lane, the next time that it is pushed or touched.
func (l *lanes) hurry(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurried[key] = true
}

func (l *lanes) hurries(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.hurried[key]
	delete(l.hurried, key)
	return was
}

// Push takes a key that does not wait yet.
func (l *lanes) Push(key string) {
	if l.hurries(key) {
		l.pushFast(key)
		return
	}
	l.slow = append(l.slow, key)
}

// Touch is told that a key that waits was asked for once more.
func (l *lanes) Touch(key string) {
	if l.hurries(key) && !l.isFast[key] {
		l.moved[key]++
		l.gone++
		l.pushFast(key)
	}
}

func (l *lanes) pushFast(key string) {
	l.fast = append(l.fast, key)
	l.isFast[key] = true
	l.waiting.Add(1)
}

// Len is how many keys wait.
func (l *lanes) Len() int { return len(l.fast) + len(l.slow) - l.gone }

// Pop takes the next key, of which there has to be one.
func (l *lanes) Pop() (key string) {
	l.skip()
	if len(l.fast) > 0 && (l.ahead < maxAhead || len(l.slow) == 0) {
		l.ahead++
		key, l.fast = pop(l.fast)
		delete(l.isFast, key)
		l.waiting.Add(-1)
		return key
	}
	l.ahead = 0
	key, l.slow = pop(l.slow)
	return key
}

// skip drops places that keys have left at the head of the slow lane.
func (l *lanes) skip() {
	for len(l.slow) > 0 && l.moved[l.slow[0]] > 0 {
		var key string
		key, l.slow = pop(l.slow)
		l.gone--
		if l.moved[key]--; l.moved[key] == 0 {
			delete(l.moved, key)
		}
	}
}

// pop lets go of the key, which the array would keep.
func pop(keys []string) (key string, rest []string) {
	key, keys[0] = keys[0], ""
	if rest = keys[1:]; len(rest) == 0 {
		return key, nil
	}
	return key, rest
}
