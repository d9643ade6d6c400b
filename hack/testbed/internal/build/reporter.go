package build

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Progress is told how a build goes on.
type Progress interface {
	// Phase says what happens to the component, as "is being linked".
	Phase(what string)
	// Count says that done of total packages are compiled.
	Count(done, total int)
}

// lineEvery is the time between progress lines in a log; on a terminal the one
// line is rewritten every frameEvery.
const (
	lineEvery  = 15 * time.Second
	frameEvery = 200 * time.Millisecond
)

// Reporter shows the progress of several builds. Components that need no
// building are not mentioned.
type Reporter struct {
	out      io.Writer
	terminal bool
	clock    clock.WithTicker

	mu    sync.Mutex
	tasks []*task
	shown string
}

// NewReporter returns a reporter that writes to out, which is rewritten in
// place if it is a terminal.
func NewReporter(out io.Writer, terminal bool, clk clock.WithTicker) *Reporter {
	return &Reporter{out: out, terminal: terminal, clock: clk}
}

// Run shows progress until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	every := lineEvery
	if r.terminal {
		every = frameEvery
	}
	ticker := r.clock.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.mu.Lock()
			r.clear()
			r.mu.Unlock()
			return
		case <-ticker.C():
			r.mu.Lock()
			r.show()
			r.mu.Unlock()
		}
	}
}

// Println writes a line of its own above the progress.
func (r *Reporter) Println(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.println(line)
}

func (r *Reporter) println(line string) {
	r.clear()
	_, _ = fmt.Fprintln(r.out, line)
	if r.terminal {
		r.show()
	}
}

// clear removes the line that is rewritten in place.
func (r *Reporter) clear() {
	if r.terminal && r.shown != "" {
		_, _ = fmt.Fprint(r.out, "\r\x1b[K")
		r.shown = ""
	}
}

func (r *Reporter) show() {
	line := r.line()
	if line == "" {
		r.clear()
		return
	}
	if !r.terminal {
		_, _ = fmt.Fprintln(r.out, line)
		return
	}
	if line != r.shown {
		_, _ = fmt.Fprint(r.out, "\r\x1b[K", line)
		r.shown = line
	}
}

// line describes all unfinished tasks.
func (r *Reporter) line() string {
	var parts []string
	for _, t := range r.tasks {
		if t.active {
			parts = append(parts, t.String())
		}
	}
	return strings.Join(parts, "; ")
}

// begin starts a task; a nil reporter gives one that shows nothing.
func (r *Reporter) begin(name string) *task {
	t := &task{reporter: r, name: name}
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		t.began = r.clock.Now()
		r.tasks = append(r.tasks, t)
	}
	return t
}

// task is the progress of one component.
type task struct {
	reporter    *Reporter
	name        string
	began       time.Time
	active      bool
	what        string
	done, total int
}

func (t *task) String() string {
	if t.total > 0 {
		return fmt.Sprintf("%s: %d of %d packages compiled (%d %%)", t.name, t.done, t.total, 100*t.done/t.total)
	}
	return t.name + " " + t.what
}

// Phase implements [Progress].
func (t *task) Phase(what string) {
	t.update(func() { t.what, t.total = what, 0 })
}

// Count implements [Progress].
func (t *task) Count(done, total int) {
	t.update(func() { t.done, t.total = done, total })
}

func (t *task) update(change func()) {
	if t.reporter == nil {
		return
	}
	t.reporter.mu.Lock()
	defer t.reporter.mu.Unlock()
	t.active = true
	change()
}

// end finishes the task and, if something was built, says how long it took.
func (t *task) end(origin string, err error) {
	if t.reporter == nil {
		return
	}
	t.reporter.mu.Lock()
	defer t.reporter.mu.Unlock()
	t.active = false
	if err == nil && origin == "built" {
		took := t.reporter.clock.Since(t.began)
		if took > time.Second {
			t.reporter.println(fmt.Sprintf("%s is built (%s)", t.name, took.Round(time.Second)))
		}
	}
}
