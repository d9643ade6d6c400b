package conformance

import (
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Clock stands still at Now. Its timers fire at once, and it keeps how long they were to take.
type Clock struct {
	clock.RealClock
	// real lets it show the real time, which deadlines of contexts are measured by.
	real  bool
	mu    sync.Mutex
	waits []time.Duration
}

// Now is the time of the kit.
func (c *Clock) Now() time.Time {
	if c.real {
		return c.RealClock.Now()
	}
	return Now()
}

// NewTimer returns one that has fired.
func (c *Clock) NewTimer(d time.Duration) clock.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
	return c.RealClock.NewTimer(0)
}

// Waits are the durations of all timers so far.
func (c *Clock) Waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.waits)
}
