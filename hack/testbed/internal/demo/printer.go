package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// width is that of a plain terminal.
const width = 100

// printer writes the story line by line, with the time since its begin and
// the phase the Canary is in.
type printer struct {
	clock clock.PassiveClock
	begin time.Time

	mu    sync.Mutex
	out   io.Writer
	phase string
}

func newPrinter(out io.Writer, clk clock.PassiveClock) *printer {
	return &printer{clock: clk, begin: clk.Now(), out: out}
}

// chapter writes a heading.
func (p *printer) chapter(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	title := fmt.Sprintf(format, args...)
	_, _ = fmt.Fprintf(p.out, "\n== %s %s\n\n", title, strings.Repeat("=", max(2, width-len(title)-4)))
}

// setPhase changes the phase that lines are headed by.
func (p *printer) setPhase(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

// step writes an entry of the story, on several lines if it is long.
func (p *printer) step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	head := fmt.Sprintf("%7.1fs  %-12s  ", p.clock.Since(p.begin).Seconds(), p.phase)
	for _, line := range wrap(fmt.Sprintf(format, args...), width-len(head)) {
		_, _ = fmt.Fprintln(p.out, head+line)
		head = strings.Repeat(" ", len(head)+2)
	}
}

// wrap breaks a text between words so that lines have at most the given
// length, if words allow.
func wrap(text string, most int) []string {
	var lines []string
	for len(text) > most {
		end := strings.LastIndexByte(text[:most+1], ' ')
		if end <= 0 || strings.TrimSpace(text[:end]) == "" {
			break
		}
		lines = append(lines, text[:end])
		text = text[end+1:]
	}
	return append(lines, text)
}

// plain writes a line without time and phase.
func (p *printer) plain(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// thousands writes a number with commas, as 12,345.
func thousands(n int) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func percent(part float64) string { return fmt.Sprintf("%.2f %%", 100*part) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
