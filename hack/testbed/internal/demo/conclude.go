package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"flagger.app/flagger/hack/testbed/internal/load"
)

// Limits of what the demo promises.
const (
	// weightLimit is in points.
	weightLimit = 5.0
	noticeLimit = time.Second
)

// check is a promise and whether it was kept.
type check struct {
	kept bool
	text string
}

// conclude prints the tables and checks all promises.
func (d *demo) conclude() error {
	weights, phases := d.tracker.finish()
	total := d.load.Total()
	d.out.chapter("Result")
	d.printWeights(weights)
	d.printPhases(phases)
	d.printRequests(total)
	d.out.plain("Promises")
	var broken []string
	for _, c := range d.results.checks(weights, total) {
		mark := "kept  "
		if !c.kept {
			mark = "BROKEN"
			broken = append(broken, c.text)
		}
		d.out.plain("  %s  %s", mark, c.text)
	}
	d.out.plain("")
	if len(broken) > 0 {
		return fmt.Errorf("%w: %s", ErrPromiseBroken, strings.Join(broken, "; "))
	}
	return nil
}

func (d *demo) printWeights(weights []weightSpan) {
	d.out.plain("Release         time      wanted  measured  requests   success        P99  answered by")
	for _, s := range weights {
		d.out.plain("%-7s  %5.1f–%5.1f s  %4d %%  %7.2f %%  %8s  %8.2f %%  %9s  %s", orDefault(s.run, "-"),
			s.from.Sub(d.out.begin).Seconds(), s.to.Sub(d.out.begin).Seconds(), s.wanted, 100*s.measured,
			thousands(s.window.Sent), 100*s.window.Success(), milliseconds(s.window.Latency.P99), versions(s.window))
	}
	d.out.plain("")
}

// versions lists who answered, as "6.9.2 90 %, 6.9.3 10 %".
func versions(w load.Window) string {
	var parts []string
	for _, version := range sortedKeys(w.Version) {
		part := 100 * float64(w.Version[version].Answered) / float64(w.Answered)
		parts = append(parts, fmt.Sprintf("%s %.1f %%", orDefault(version, "gateway"), part))
	}
	return strings.Join(parts, ", ")
}

func (d *demo) printPhases(phases []phaseSpan) {
	d.out.plain("Release  phase          duration")
	for _, p := range phases {
		if p.phase == "" {
			continue
		}
		duration := fmt.Sprintf("%.1f s", p.to.Sub(p.from).Seconds())
		if isSettled(p.phase) {
			// It stays in this phase until the next release.
			duration = "-"
		}
		d.out.plain("%-7s  %-13s  %8s", orDefault(p.run, "-"), p.phase, duration)
	}
	d.out.plain("")
}

func isSettled(phase string) bool {
	return slices.Contains([]string{"Initialized", "Succeeded", "Failed"}, phase)
}

func (d *demo) printRequests(w load.Window) {
	seconds := w.To.Sub(w.From).Seconds()
	d.out.plain("Requests    %s sent in %.0f s, %s answered, %d lost; P50 %s, P99 %s, slowest %s",
		thousands(w.Sent), seconds, thousands(w.Answered), w.Lost,
		milliseconds(w.Latency.P50), milliseconds(w.Latency.P99), milliseconds(w.Latency.Max))
	d.out.plain("            %s on connections of their own, %d repeated on another since theirs was being closed",
		thousands(w.Fresh), w.Resent)
	for _, version := range sortedKeys(w.Version) {
		g := w.Version[version]
		d.out.plain("            %-8s answered %s (%s), %s of them with an error",
			orDefault(version, "gateway"), thousands(g.Answered), percent(float64(g.Answered)/float64(w.Answered)), thousands(g.Failed))
	}
	for _, cause := range sortedKeys(w.Losses) {
		d.out.plain("            LOST %d: %s", w.Losses[cause], cause)
	}
	if w.Lost > 0 {
		d.out.plain("            the first of them at %.1f s, the last at %.1f s",
			w.FirstLoss.Sub(d.out.begin).Seconds(), w.LastLoss.Sub(d.out.begin).Seconds())
	}
	d.out.plain("")
}

// checks compares the results with the promises.
func (r results) checks(weights []weightSpan, total load.Window) []check {
	worst, steps, exposed := weightSpan{}, []int64{}, int64(0)
	for _, s := range weights {
		if s.deviation() > worst.deviation() {
			worst = s
		}
		if s.run == GoodVersion && s.wanted > 0 && !slices.Contains(steps, s.wanted) {
			steps = append(steps, s.wanted)
		}
		if s.run == FaultyVersion {
			exposed = max(exposed, s.wanted)
		}
	}
	return []check{
		{served(r.promoted, GoodVersion), fmt.Sprintf("%s was promoted and then answered every request", GoodVersion)},
		{
			r.halted && served(r.taken, GoodVersion) && exposed <= int64(r.analysis.StepWeight),
			fmt.Sprintf("%s was halted at %d %%, taken back after %.1f s and then answered no request", FaultyVersion, exposed, r.rollback.Seconds()),
		},
		{total.Lost == 0 && total.Sent > 0, fmt.Sprintf("%d of %s requests were lost", total.Lost, thousands(total.Sent))},
		{
			len(steps) == r.analysis.steps() && worst.deviation() <= weightLimit,
			fmt.Sprintf("%d of %d steps were measured, each weight within %g points of the wanted one (worst: %s at %d %%)",
				len(steps), r.analysis.steps(), weightLimit, percent(worst.measured), worst.wanted),
		},
		{r.noticed < noticeLimit, fmt.Sprintf("the new revision was noticed after %.2f s, less than %s", r.noticed.Seconds(), noticeLimit)},
		{
			r.serving > 0 && r.serving <= r.servingLimit(),
			fmt.Sprintf("the new primary served everybody after %.1f s, at most %d steps x %s + %s = %s; the canary was drained after %.1f s",
				r.serving.Seconds(), r.analysis.steps(), r.interval, allowance, r.servingLimit(), r.promotion.Seconds()),
		},
	}
}

// served tells whether the version alone gave answers in the window.
func served(w load.Window, version string) bool {
	return w.Answered > 0 && w.Version[version].Answered == w.Answered
}
