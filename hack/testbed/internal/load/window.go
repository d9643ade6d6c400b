package load

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Window sums up the requests of a time.
type Window struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Sent = answered + unanswered + pending.
	Sent       int `json:"sent"`
	Answered   int `json:"answered"`
	Unanswered int `json:"unanswered"`
	// Pending requests are under way.
	Pending int `json:"pending"`
	// Lost requests got no answer, or a 5xx that did not come from a version
	// declared faulty.
	Lost int `json:"lost"`
	// Losses counts lost requests by cause; FirstLoss and LastLoss are when the
	// first and the last of them were due.
	Losses    map[string]int `json:"losses,omitempty"`
	FirstLoss time.Time      `json:"firstLoss,omitzero"`
	LastLoss  time.Time      `json:"lastLoss,omitzero"`
	// Status counts answers by status code.
	Status map[string]int `json:"status"`
	// Version and Pod tell the answers apart by who gave them; the key is
	// empty for answers that did not come from the application.
	Version map[string]Group `json:"version"`
	Pod     map[string]Group `json:"pod"`
	// Latency of the answers.
	Latency Latency `json:"latency"`
	// Fresh requests had a connection of their own; Resent ones were repeated
	// by the HTTP client since the kept connection was just being closed.
	Fresh  int `json:"fresh"`
	Resent int `json:"resent"`
}

// Group is the answers of one version or pod.
type Group struct {
	Answered int `json:"answered"`
	// Failed answers have a 5xx status.
	Failed  int     `json:"failed"`
	Latency Latency `json:"latency"`
}

// Latency holds percentiles in nanoseconds, counted from the time a request
// was due.
type Latency struct {
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// Share is the part of the answers, from 0 to 1, that came from pods accepted
// by is; answers of nobody in the application count for neither side. It is
// not a number if there are none.
func (w Window) Share(is func(pod string) bool) float64 {
	mine, all := 0, 0
	for pod, g := range w.Pod {
		if pod == "" {
			continue
		}
		all += g.Answered
		if is(pod) {
			mine += g.Answered
		}
	}
	return float64(mine) / float64(all)
}

// Success is the part of the requests, from 0 to 1, that got an answer below
// 500, whoever gave it; not a number if none was finished.
func (w Window) Success() float64 {
	failed := 0
	for _, g := range w.Version {
		failed += g.Failed
	}
	return float64(w.Answered-failed) / float64(w.Sent-w.Pending)
}

// tally collects a window.
type tally struct {
	w         *Window
	latencies []int64
	versions  map[uint16]*groupTally
	pods      map[uint16]*groupTally
	names     []string
}

type groupTally struct {
	failed    int
	latencies []int64
}

func newTally(w *Window) *tally {
	w.Losses, w.Status = map[string]int{}, map[string]int{}
	w.Version, w.Pod = map[string]Group{}, map[string]Group{}
	return &tally{w: w, versions: map[uint16]*groupTally{}, pods: map[uint16]*groupTally{}}
}

func (t *tally) add(s sample, r *record) {
	t.names = r.table
	w := t.w
	w.Fresh += count(s.fresh)
	w.Resent += count(s.resent)
	if r.isLost(s) {
		w.Lost++
		w.Losses[cause(s, r.table)]++
		w.extendLosses(r.begin.Add(time.Duration(s.due)))
	}
	if s.fail != 0 {
		w.Unanswered++
		return
	}
	w.Answered++
	w.Status[strconv.Itoa(int(s.status))]++
	t.latencies = append(t.latencies, s.latency)
	addTo(t.versions, s.version, s)
	addTo(t.pods, s.pod, s)
}

// extendLosses takes in a loss; answers do not come in the order of requests.
func (w *Window) extendLosses(due time.Time) {
	if w.FirstLoss.IsZero() || due.Before(w.FirstLoss) {
		w.FirstLoss = due
	}
	w.LastLoss = later(due, w.LastLoss)
}

func addTo(groups map[uint16]*groupTally, name uint16, s sample) {
	g := groups[name]
	if g == nil {
		g = &groupTally{}
		groups[name] = g
	}
	g.failed += count(s.status >= 500)
	g.latencies = append(g.latencies, s.latency)
}

// cause describes a loss.
func cause(s sample, table []string) string {
	if s.fail != 0 {
		return table[s.fail]
	}
	from := "the gateway"
	if s.version != 0 {
		from = "version " + table[s.version]
	}
	return fmt.Sprintf("%d from %s", s.status, from)
}

func (t *tally) finish() {
	w := t.w
	w.Pending = w.Sent - w.Answered - w.Unanswered
	w.Latency = percentiles(t.latencies)
	for name, g := range t.versions {
		w.Version[t.names[name]] = g.group()
	}
	for name, g := range t.pods {
		w.Pod[t.names[name]] = g.group()
	}
}

func (g *groupTally) group() Group {
	return Group{Answered: len(g.latencies), Failed: g.failed, Latency: percentiles(g.latencies)}
}

// percentiles are exact, by the nearest rank. The argument gets sorted.
func percentiles(latencies []int64) Latency {
	if len(latencies) == 0 {
		return Latency{}
	}
	slices.Sort(latencies)
	at := func(percent int) time.Duration {
		rank := (percent*len(latencies) + 99) / 100
		return time.Duration(latencies[rank-1])
	}
	return Latency{P50: at(50), P90: at(90), P99: at(99), Max: at(100)}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
