package load

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

// ErrLost is returned by [Command] if requests were lost.
var ErrLost = errors.New("requests were lost")

// Report is what [Command] prints at the end, as JSON.
type Report struct {
	URL  string  `json:"url"`
	Host string  `json:"host,omitempty"`
	Rate float64 `json:"rate"`
	Window
}

// Command is the subcommand load: it sends until the duration is over or ctx
// ends, prints a line about each period to progress and the report to out.
func Command(ctx context.Context, args []string, out, progress io.Writer) error {
	cfg := Config{Clock: clock.RealClock{}}
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.SetOutput(progress)
	fs.StringVar(&cfg.URL, "url", "", "what to request; required")
	fs.StringVar(&cfg.Host, "host", "", "Host header; that of the URL if empty")
	fs.Float64Var(&cfg.Rate, "rate", DefaultRate, "requests per second")
	fs.DurationVar(&cfg.Timeout, "timeout", DefaultTimeout, "how long an answer may take")
	fs.Float64Var(&cfg.Fresh, "fresh", DefaultFresh, "part of the requests, 0 to 1, with a new connection each (-1 for none)")
	faulty := fs.String("faulty", "", "comma-separated versions whose own 5xx answers are not counted as lost")
	duration := fs.Duration("duration", 0, "how long to send; until interrupted if 0")
	every := fs.Duration("every", 5*time.Second, "time between lines of progress; none if 0")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("load: unexpected argument %q; all settings are flags", fs.Arg(0))
	}
	if *faulty != "" {
		cfg.Faulty = strings.Split(*faulty, ",")
	}
	g, err := New(cfg)
	if err != nil {
		return err
	}
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	if *every > 0 {
		go g.printPeriods(ctx, progress, *every)
	}
	g.Run(ctx)
	report := Report{URL: cfg.URL, Host: cfg.Host, Rate: cfg.Rate, Window: g.Total()}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(report); err != nil {
		return fmt.Errorf("load: print report: %w", err)
	}
	if report.Lost > 0 {
		return fmt.Errorf("load: %w: %d of %d", ErrLost, report.Lost, report.Sent)
	}
	return nil
}

// printPeriods prints a line about each period until ctx ends.
func (g *Generator) printPeriods(ctx context.Context, out io.Writer, every time.Duration) {
	from := g.cfg.Clock.Now()
	for {
		if !g.waitUntil(ctx, from.Add(every)) {
			return
		}
		to := g.cfg.Clock.Now()
		w := g.Window(from, to)
		_, _ = fmt.Fprintf(out, "%s  sent %d  lost %d  p50 %s  p99 %s  %s\n", to.Format(time.TimeOnly),
			w.Sent, w.Lost, ms(w.Latency.P50), ms(w.Latency.P99), shares(w))
		from = to
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond)) }

// shares lists the versions with their parts of the answers.
func shares(w Window) string {
	parts := make([]string, 0, len(w.Version))
	for _, version := range sortedKeys(w.Version) {
		name := version
		if name == "" {
			name = "gateway"
		}
		parts = append(parts, fmt.Sprintf("%s %.1f%%", name, 100*float64(w.Version[version].Answered)/float64(w.Answered)))
	}
	return strings.Join(parts, ", ")
}
