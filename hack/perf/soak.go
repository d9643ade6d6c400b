package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// sampling is the time between two samples of a soak.
const sampling = 10 * time.Second

// sample is what must not grow.
type sample struct {
	at                            time.Duration
	goroutines, heapMiB, resident float64
	series                        int
}

// soakFor rolls all applications out again and again, and writes down what grows meanwhile. The stage has the calls of all rollouts.
func (b *bench) soakFor(ctx context.Context, o *operator) (*stage, error) {
	used, err := metered(ctx, o)
	if err != nil {
		return nil, err
	}
	s, begin := newStage(), b.clock.Now()
	within, stop := context.WithCancel(ctx)
	defer stop()
	sampled := make(chan error, 1)
	var samples []sample
	go func() {
		for within.Err() == nil {
			next, err := takeSample(ctx, o)
			if err != nil {
				sampled <- err
				return
			}
			next.at = b.clock.Since(begin)
			samples = append(samples, next)
			_ = b.pause(within, sampling)
		}
		sampled <- nil
	}()
	rounds := 0
	for ; err == nil && b.clock.Since(begin) < b.soak; rounds++ {
		if err = each(b.n, func(a app) error { return b.ship(ctx, a, rounds+2) }); err == nil {
			err = b.phases.arrive(ctx, v1beta1.CanaryPhaseSucceeded, b.n*(rounds+1), b.patience())
		}
	}
	stop()
	if err := errors.Join(err, <-sampled); err != nil {
		return nil, err
	}
	if err := used(s); err != nil {
		return nil, err
	}
	s.Seconds = b.clock.Since(begin).Seconds()
	if s.calls, err = b.calls(begin); err != nil {
		return nil, err
	}
	s.count(b.n * rounds)
	return s, writeSamples(b.plot, samples)
}

// takeSample asks the operator, after it has collected its garbage.
func takeSample(ctx context.Context, o *operator) (sample, error) {
	var s sample
	if err := eachLine(ctx, "http://127.0.0.1:"+profilePort+"/debug/pprof/heap?gc=1&debug=1", func(string) {}); err != nil {
		return s, err
	}
	err := eachSeries(ctx, func(name string, value float64) {
		s.series++
		switch name {
		case "go_goroutines":
			s.goroutines = value
		case "go_memstats_heap_alloc_bytes":
			s.heapMiB = value / (1 << 20)
		}
	})
	if err == nil {
		s.resident, err = o.resident()
	}
	return s, err
}

// passesSoFar is how many passes over Canaries the operator has made.
func passesSoFar(ctx context.Context) (float64, error) {
	var passes []float64
	err := eachSeries(ctx, func(name string, value float64) {
		if name == `workqueue_work_duration_seconds_count{name="canaries"}` {
			passes = append(passes, value)
		}
	})
	if err == nil && len(passes) != 1 {
		err = fmt.Errorf("/metrics has %d series of how many passes there were", len(passes))
	}
	if err != nil {
		return 0, err
	}
	return passes[0], nil
}

// eachSeries asks the operator for its metrics.
func eachSeries(ctx context.Context, do func(name string, value float64)) error {
	return eachLine(ctx, "http://127.0.0.1:"+port+"/metrics", func(line string) {
		name, value, ok := strings.Cut(line, " ")
		if !ok || strings.HasPrefix(line, "#") {
			return
		}
		number, _ := strconv.ParseFloat(value, 64)
		do(name, number)
	})
}

func eachLine(ctx context.Context, url string, do func(string)) error {
	body, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		do(lines.Text())
	}
	return lines.Err()
}

// columns are what is sampled, with the unit.
func columns() []string {
	return []string{"goroutines", "heap after collection, MiB", "resident, MiB", "series"}
}

func (s *sample) values() []float64 {
	return []float64{s.goroutines, s.heapMiB, s.resident, float64(s.series)}
}

// writeSamples writes them as a table and as a plot.
func writeSamples(path string, samples []sample) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	table, err := os.Create(path + ".csv")
	if err != nil {
		return err
	}
	out := csv.NewWriter(table)
	_ = out.Write(append([]string{"seconds"}, columns()...))
	for i := range samples {
		row := []string{strconv.FormatFloat(samples[i].at.Seconds(), 'f', 0, 64)}
		for _, value := range samples[i].values() {
			row = append(row, strconv.FormatFloat(value, 'f', 1, 64))
		}
		_ = out.Write(row)
	}
	out.Flush()
	if err := errors.Join(out.Error(), table.Close()); err != nil {
		return err
	}
	return os.WriteFile(path+".svg", []byte(plot(samples)), 0o644)
}

// Sizes of a plot, in pixels: one panel for each column, one above the other.
const (
	plotWidth, panelHeight, margin = 800, 150, 40
)

// plot draws each column over time in a panel of its own, from 0 to its highest value.
func plot(samples []sample) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		plotWidth, panelHeight*len(columns()))
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	last := time.Duration(1)
	if len(samples) > 0 {
		last = max(last, samples[len(samples)-1].at)
	}
	for column, name := range columns() {
		highest := 1.0
		for i := range samples {
			highest = max(highest, samples[i].values()[column])
		}
		top, bottom := panelHeight*column+margin/2, panelHeight*(column+1)-margin/2
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s, at most %.0f, over %.0f minutes</text>`+"\n", margin, top-4, name, highest, last.Minutes())
		fmt.Fprintf(&b, `<path d="M%d %dV%dH%d" fill="none" stroke="gray"/>`+"\n", margin, top, bottom, plotWidth-margin)
		fmt.Fprint(&b, `<polyline fill="none" stroke="steelblue" stroke-width="2" points="`)
		for i := range samples {
			x := margin + float64(plotWidth-2*margin)*samples[i].at.Seconds()/last.Seconds()
			y := float64(bottom) - float64(bottom-top)*samples[i].values()[column]/highest
			fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
		}
		fmt.Fprintln(&b, `"/>`)
	}
	fmt.Fprintln(&b, "</svg>")
	return b.String()
}
