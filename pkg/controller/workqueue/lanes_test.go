package workqueue

import (
	"fmt"
	"slices"
	"testing"
)

// takeAll hands out all that is due, in its order.
func takeAll(t *testing.T, q *Queue) (keys []string) {
	t.Helper()
	for due(q) > 0 {
		keys = append(keys, take(t, q))
	}
	return keys
}

func TestHurriedKeysComeFirst(t *testing.T) {
	q, _ := newTestQueue()
	for _, key := range []string{"a", "b", "c", "d"} {
		q.Add(key)
	}
	q.Hurry("e")
	q.Hurry("c")
	q.Hurry("c")
	if got, want := takeAll(t, q), []string{"e", "c", "a", "b", "d"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	q.Add("c")
	q.Add("a")
	if got, want := takeAll(t, q), []string{"c", "a"}; !slices.Equal(got, want) {
		t.Errorf("order %q of keys that hurried before, want %q", got, want)
	}
}

// A key that is asked for while it is at work hurries when that is done.
func TestKeyAtWorkHurriesAfterwards(t *testing.T) {
	q, _ := newTestQueue()
	q.Add("a")
	key, _ := q.Get()
	q.Add("b")
	q.Hurry(key)
	if got := due(q); got != 1 {
		t.Fatalf("%d keys are due while a is at work", got)
	}
	q.Done(key)
	if got, want := takeAll(t, q), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

// Steps that are due come late by little while a fleet of new revisions begins.
func TestHurriedKeysDoNotStarveOthers(t *testing.T) {
	q, _ := newTestQueue()
	q.Add("periodic")
	for i := range 10 * maxAhead {
		q.Hurry(fmt.Sprint(i))
	}
	if got := slices.Index(takeAll(t, q), "periodic"); got != maxAhead {
		t.Errorf("%d keys got ahead of one that waited before them, want %d", got, maxAhead)
	}
}

// Places that hurried keys have left in the other lane are no keys, however often they come and go.
func TestHurriedKeysAreCountedOnce(t *testing.T) {
	q, _ := newTestQueue()
	for range 3 {
		q.Add("first")
		q.Add("a")
		q.Hurry("a")
		if got := q.Len(); got != 2 {
			t.Fatalf("%d keys wait, want 2", got)
		}
		if got := take(t, q); got != "a" {
			t.Fatalf("got %q", got)
		}
		q.Add("a")
		if got := q.Len(); got != 2 {
			t.Fatalf("%d keys wait, want 2", got)
		}
	}
	if got, want := takeAll(t, q), []string{"first", "a"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	if got := q.lanes.gone; got != 0 {
		t.Errorf("%d places are thought to be left", got)
	}
}
