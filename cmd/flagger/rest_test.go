package main

import (
	"context"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// heapOf is a heap of which a return leaves what is live, and takes a while.
type heapOf struct {
	*heapReturner
	use     heapUse
	live    uint64
	takes   time.Duration
	returns int
}

func newHeap(live uint64, takes time.Duration) *heapOf {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	h := &heapOf{live: live, takes: takes}
	h.heapReturner = &heapReturner{clock: c, read: func() heapUse { return h.use }, free: func() {
		h.returns++
		h.use.held = h.live
		c.Step(h.takes)
	}}
	return h
}

// allocate is work that leaves garbage, and a look after it.
func (h *heapOf) allocate(bytes uint64) {
	h.use.allocated += bytes
	h.use.held += bytes
	h.clock.(*clocktesting.FakeClock).Step(lookAtHeap)
	h.look()
}

// rest is as many looks as it takes to know of it.
func (h *heapOf) rest() {
	for range untilRest {
		h.allocate(1000)
	}
}

func TestGarbageIsReturnedWhenThereIsNoMoreWork(t *testing.T) {
	h := newHeap(20<<20, 40*time.Millisecond)
	for range 5 {
		h.allocate(30 << 20)
	}
	if h.returns != 0 {
		t.Fatalf("%d returns while there is work", h.returns)
	}
	h.rest()
	if h.returns != 1 || h.use.held != h.live {
		t.Fatalf("%d returns at rest, %d bytes held", h.returns, h.use.held)
	}
	for range 100 {
		h.allocate(1000)
	}
	if h.returns != 1 {
		t.Errorf("%d returns although nothing has happened since", h.returns)
	}
	// The runtime has collected meanwhile.
	h.use.allocated += 100 << 20
	h.allocate(1 << 20)
	if h.returns != 1 {
		t.Error("a return while there is work")
	}
	h.rest()
	if h.returns != 2 {
		t.Errorf("%d returns, want another one after the work", h.returns)
	}
}

// Steps of an analysis that are ten seconds apart leave less than that between them.
func TestNothingIsReturnedBetweenSteps(t *testing.T) {
	h := newHeap(20<<20, 40*time.Millisecond)
	for range 10 {
		h.allocate(30 << 20)
		for range untilRest - 1 {
			h.allocate(1000)
		}
	}
	if h.returns != 0 {
		t.Errorf("%d returns between steps", h.returns)
	}
}

// A collection of a large heap takes long, so it comes rarely.
func TestReturnsAreBounded(t *testing.T) {
	h := newHeap(1<<30, time.Second)
	for range 100 {
		h.allocate(500 << 20)
		h.rest()
	}
	// 100 times work and rest are 1,000 seconds.
	if h.returns < 9 || h.returns > 10 {
		t.Errorf("%d returns of a second each in 1,000 seconds, want no more than 1 %% of the time", h.returns)
	}
}

func TestWhoSaysWhenToCollectIsObeyed(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	h := newHeap(0, 0)
	h.run(ctx, func(name string) (string, bool) { return "off", name == goGC })
	if ctx.Err() != nil {
		t.Error("the heap was looked at")
	}
}

func TestReadHeap(t *testing.T) {
	before := readHeap()
	kept := make([]byte, 10<<20)
	after := readHeap()
	if after.held < uint64(len(kept)) || after.allocated-before.allocated < uint64(len(kept)) {
		t.Errorf("10 MiB were allocated between %+v and %+v", before, after)
	}
}
