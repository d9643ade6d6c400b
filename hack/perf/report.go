package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"flagger.app/flagger/test/audit"
)

// busy is the share of the cores that others may use before times say more about them than about the operator.
const busy = 0.05

// report is what was measured. Counts are exact on any machine, times only on an idle one.
type report struct {
	// N is the number of Canaries.
	N      int               `json:"canaries"`
	Stages map[string]*stage `json:"stages"`
	// ResidentMiB is the memory of the operator when the last stage before a new start was over.
	ResidentMiB float64 `json:"residentMiB"`

	// order are the names of the stages as they came.
	order []string
}

// quantiles are of the durations of one kind, in seconds.
type quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func quantilesOf(all []time.Duration) quantiles {
	if len(all) == 0 {
		return quantiles{}
	}
	slices.Sort(all)
	at := func(percent int) float64 { return all[min(len(all)*percent/100, len(all)-1)].Seconds() }
	return quantiles{Count: len(all), P50: at(50), P99: at(99), Max: all[len(all)-1].Seconds()}
}

// stage is a part of the benchmark.
type stage struct {
	// Seconds is from its beginning until the last Canary was done, CPUSeconds what the operator used meanwhile.
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"`
	// PerCanary counts the calls for each Canary by verb and resource, Other all calls that belong to none.
	PerCanary map[string]float64 `json:"callsPerCanary"`
	Sum       float64            `json:"callsPerCanarySum"`
	Other     map[string]int     `json:"otherCalls,omitempty"`
	// Passes is how often the operator looked at each Canary.
	Passes float64 `json:"passesPerCanary"`
	// Programs has the seconds of a core that each program used, Machine is the share of all cores that was in use, Others the one of
	// processes that don't belong to the benchmark.
	Programs map[string]float64 `json:"programSeconds"`
	Machine  float64            `json:"machine"`
	Others   float64            `json:"others"`
	// ResidentMiB is the memory of the operator at the end.
	ResidentMiB float64 `json:"residentMiB,omitempty"`
	// FirstAction are the seconds from a new revision to the first write of the operator about it, Lateness those by which the steps
	// of the analyses came later than their interval says.
	FirstAction quantiles `json:"firstActionSeconds,omitzero"`
	Lateness    quantiles `json:"stepLatenessSeconds,omitzero"`

	calls  []audit.Call
	passes float64
	mu     sync.Mutex
	// changed is when each application was changed.
	changed map[string]change
}

// change is the time in which the API server was asked for one and has answered.
type change struct{ asked, answered time.Time }

func newStage() *stage { return &stage{changed: map[string]change{}} }

func (s *stage) note(name string, c change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed[name] = c
}

// count sums up the calls of a stage with n Canaries. A list by label names no object; it is made for one Canary as well.
func (s *stage) count(n int) {
	s.PerCanary, s.Other, s.Passes = map[string]float64{}, map[string]int{}, s.passes/float64(n)
	for i := range s.calls {
		c := &s.calls[i]
		if what := c.Verb + " " + c.Resource(); appOf(c.Name()) != "" || c.Verb == "list" {
			s.PerCanary[what] += 1 / float64(n)
			s.Sum += 1 / float64(n)
		} else {
			s.Other[what]++
		}
	}
}

// trace lists the calls about an application.
func (s *stage) trace(w io.Writer, name string) {
	for i := range s.calls {
		if c := &s.calls[i]; appOf(c.Name()) == name {
			code := 0
			if c.ResponseStatus != nil {
				code = c.ResponseStatus.Code
			}
			fmt.Fprintf(w, "%s %d %s %s %s\n", c.RequestReceivedTimestamp.Format("05.000"), code, c.Verb, c.Resource(), c.Name())
		}
	}
}

// firstActions are the times from each change to the first write about it, which on a busy machine may come before the answer to whoever
// made the change.
func firstActions(calls []audit.Call, changed map[string]change) quantiles {
	var all []time.Duration
	seen := map[string]bool{}
	for i := range calls {
		c := &calls[i]
		at, ok := changed[appOf(c.Name())]
		if ok && !seen[appOf(c.Name())] && c.Verb != "get" && c.RequestReceivedTimestamp.After(at.asked) {
			seen[appOf(c.Name())] = true
			all = append(all, max(0, c.RequestReceivedTimestamp.Sub(at.answered)))
		}
	}
	return quantilesOf(all)
}

// lateness is by how much the steps came later than one interval after the step before. Each step moves the weights of a route.
func lateness(calls []audit.Call) quantiles {
	const steps = 5
	moves := map[string][]time.Time{}
	for i := range calls {
		if c := &calls[i]; c.Resource() == "httproutes" && c.Verb == "patch" {
			moves[c.Name()] = append(moves[c.Name()], c.RequestReceivedTimestamp)
		}
	}
	var all []time.Duration
	for _, at := range moves {
		for i := 1; i < min(steps, len(at)); i++ {
			all = append(all, at[i].Sub(at[i-1])-interval)
		}
	}
	return quantilesOf(all)
}

// add appends a stage.
func (r *report) add(name string, s *stage) {
	r.Stages[name] = s
	r.order = append(r.order, name)
}

// table writes the report for people.
func (r *report) table(out io.Writer) {
	fmt.Fprintf(out, "%d Canaries\n", r.N)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	others := 0.0
	for _, name := range r.order {
		s := r.Stages[name]
		s.table(w, name)
		others = max(others, s.Others)
	}
	w.Flush()
	fmt.Fprintf(out, "resident at the end: %.1f MiB\n", r.ResidentMiB)
	if others > busy {
		fmt.Fprintf(out, "The machine is BUSY: others used %.0f %% of it. The times and the seconds of a core do not hold. The counts do, unless pods came late: that is told of.\n", 100*others)
	}
}

func (s *stage) table(w io.Writer, name string) {
	fmt.Fprintf(w, "%s\t%.1f s\t%.2f s of a core\t%.2f calls for each Canary\t%.1f passes\n", name, s.Seconds, s.CPUSeconds, s.Sum, s.Passes)
	for _, what := range byCount(s.PerCanary) {
		fmt.Fprintf(w, "\t%.2f\t%s\n", s.PerCanary[what], what)
	}
	for _, what := range byCount(s.Other) {
		fmt.Fprintf(w, "\t%d in all\t%s\n", s.Other[what], what)
	}
	row := func(what string, q quantiles) {
		if q.Count > 0 {
			fmt.Fprintf(w, "\t%s\tP50 %.2f s\tP99 %.2f s\tmax %.2f s\tof %d\n", what, q.P50, q.P99, q.Max, q.Count)
		}
	}
	row("first action", s.FirstAction)
	row("lateness of steps", s.Lateness)
	if s.ResidentMiB > 0 {
		fmt.Fprintf(w, "\tresident\t%.1f MiB\n", s.ResidentMiB)
	}
	fmt.Fprintf(w, "\t%s\n", s.programs())
}

func byCount[N int | float64](counts map[string]N) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return byValue(counts, a, b) })
}

// byValue orders keys by their values, the largest first.
func byValue[N int | float64](values map[string]N, a, b string) int {
	return cmp.Or(cmp.Compare(values[b], values[a]), cmp.Compare(a, b))
}

// check compares the calls of each stage with what a file allows, or writes the file.
func (r *report) check(file string, update bool) error {
	counts := map[string]float64{}
	for name, s := range r.Stages {
		// Rollouts cost the same, however many there are.
		kind, _, _ := strings.Cut(name, " ")
		counts[kind] = max(counts[kind], s.Sum)
	}
	if update {
		return write(counts, file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	allowed := map[string]float64{}
	if err := json.Unmarshal(raw, &allowed); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if most, bounded := allowed[name]; bounded && counts[name] > most {
			err = errors.Join(err, fmt.Errorf("%s takes %.2f calls for each Canary, and %s allows %.2f", name, counts[name], file, most))
		}
	}
	return err
}
