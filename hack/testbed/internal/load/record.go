package load

import (
	"math"
	"slices"
	"sync"
	"time"
)

// record keeps the outcomes of all requests.
type record struct {
	clock interface{ Now() time.Time }
	// faulty are the versions whose own 5xx is no loss.
	faulty []string

	mu      sync.Mutex
	begin   time.Time
	due     []int64 // when each sent request was due, in ns since begin
	samples []sample
	names   map[string]uint16
	table   []string
}

// sample is an outcome in 32 bytes. Texts are numbers of the table.
type sample struct {
	due                int64
	latency            int64
	status             uint16
	version, pod, fail uint16
	fresh, resent      bool
}

func newRecord(c Config) *record {
	return &record{clock: c.Clock, faulty: c.Faulty, names: map[string]uint16{"": 0}, table: []string{""}}
}

func (r *record) start(begin time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin = begin
}

// number returns the number of a text; there are few different ones. Should a
// server invent more than fit, the rest become one.
func (r *record) number(text string) uint16 {
	if n, ok := r.names[text]; ok {
		return n
	}
	if len(r.table) == math.MaxUint16 {
		return math.MaxUint16 - 1
	}
	n := uint16(len(r.table))
	r.names[text] = n
	r.table = append(r.table, text)
	return n
}

func (r *record) sent(due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = append(r.due, int64(due.Sub(r.begin)))
}

func (r *record) add(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, sample{
		due:     int64(o.due.Sub(r.begin)),
		latency: int64(o.latency),
		status:  uint16(o.status),
		version: r.number(o.origin.Version),
		pod:     r.number(o.origin.Pod),
		fail:    r.number(o.err),
		fresh:   o.fresh,
		resent:  o.resent,
	})
}

// window sums up the requests that were due in [from, to).
func (r *record) window(from, to time.Time) Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, last := int64(from.Sub(r.begin)), int64(to.Sub(r.begin))
	w := Window{From: later(from, r.begin), To: to}
	for _, due := range r.due {
		if due >= first && due < last {
			w.Sent++
		}
	}
	b := newTally(&w)
	for _, s := range r.samples {
		if s.due >= first && s.due < last {
			b.add(s, r)
		}
	}
	b.finish()
	return w
}

// isLost tells whether the user got nothing useful: no answer, or a 5xx that
// is not one of a version known to be faulty.
func (r *record) isLost(s sample) bool {
	if s.fail != 0 {
		return true
	}
	return s.status >= 500 && !slices.Contains(r.faulty, r.table[s.version])
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
