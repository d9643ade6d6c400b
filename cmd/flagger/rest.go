package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/utils/clock"
)

const (
	// lookAtHeap is how often the operator looks whether it rests.
	lookAtHeap = 2 * time.Second
	// atRest is up to how many bytes a process at rest allocates between two looks: leases, probes and watches go on. One pass
	// of a Canary takes 25,000 and more.
	atRest = 512 << 10
	// untilRest is after how many looks in a row without work it rests. Between the steps of an analysis there is hardly any work for some
	// seconds: what was returned then would be taken again at once.
	untilRest = 4
	// worthReturning is how many bytes more than after the last return have to be held, besides a quarter of what was held then. Where as
	// much was allocated since as is held, it is worth it in any case: then all that is held may be garbage.
	worthReturning = 4 << 20
	// restOfReturn is how long no memory is returned after a return, as a multiple of what that took: no more than 1 % of a core goes
	// into it, however large the heap is.
	restOfReturn = 100
)

// goGC is the variable by which a user tells the runtime when to collect garbage.
const goGC = "GOGC"

// heapUse is what the heap has, in bytes.
type heapUse struct {
	// allocated is what was ever allocated, held what is on the heap with garbage, and what is free and was not returned to the
	// system.
	allocated, held uint64
}

// heapReturner returns the garbage of work to the system as soon as there is no more work. The runtime by itself would hold the peak: it
// collects when the heap has doubled, which a process at rest does not bring about for a long time.
type heapReturner struct {
	clock clock.WithTicker
	read  func() heapUse
	free  func()

	last heapUse
	// quiet is how many looks in a row saw no work.
	quiet int
	// floor is what was held after the last return, or less if the runtime has returned some.
	floor uint64
	// returned is what was allocated until the last return.
	returned  uint64
	notBefore time.Time
}

func newHeapReturner(c clock.WithTicker) *heapReturner {
	return &heapReturner{clock: c, read: readHeap, free: debug.FreeOSMemory}
}

// run looks at the heap until ctx ends. A user who says when garbage is collected is obeyed: then nothing is done here.
func (h *heapReturner) run(ctx context.Context, lookup func(string) (string, bool)) {
	if own, _ := lookup(goGC); own != "" {
		return
	}
	ticker := h.clock.NewTicker(lookAtHeap)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			h.look()
		}
	}
}

// look returns memory if the process rests and it is worth it.
func (h *heapReturner) look() {
	use, before, began := h.read(), h.last, h.clock.Now()
	h.last, h.floor = use, min(h.floor, use.held)
	if h.quiet++; use.allocated-before.allocated > atRest {
		h.quiet = 0
	}
	worthIt := use.held >= h.floor+max(worthReturning, h.floor/4) || use.allocated-h.returned >= use.held
	if h.quiet < untilRest || !worthIt || began.Before(h.notBefore) {
		return
	}
	h.free()
	h.last = h.read()
	h.floor, h.returned = h.last.held, h.last.allocated
	now := h.clock.Now()
	h.notBefore = now.Add(restOfReturn * now.Sub(began))
}

// readHeap asks the runtime, which it does without stopping the world.
func readHeap() heapUse {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	use := heapUse{allocated: samples[0].Value.Uint64()}
	for _, s := range samples[1:] {
		use.held += s.Value.Uint64()
	}
	return use
}
