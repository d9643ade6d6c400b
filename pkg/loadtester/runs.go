package loadtester

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"
)

var (
	errFull    = errors.New("too many commands run")
	errStopped = errors.New("the load tester stops")
)

// job is what a webhook asks for.
type job struct {
	// canary is name.namespace, kind the type of the task, text what users know it by.
	canary, kind, text string
	// key is the same for jobs of which one runs at a time.
	key string
	// do returns what was written, and a channel that is closed when nothing of it runs anymore.
	do func(ctx context.Context, log *zap.Logger) (written string, rest <-chan struct{}, err error)
	// logOutput is whether the log of a success has the output.
	logOutput bool
	// service is whether a service does it. Its errors say all.
	service bool
}

// run is a job that has begun.
type run struct {
	// began is when it was asked for.
	began time.Time
	// done is closed when the result is there.
	done    chan struct{}
	written string
	err     error
}

// runs are the jobs under way. At most as many work at a time as there are slots.
type runs struct {
	ctx     context.Context
	cancel  context.CancelFunc
	timeout time.Duration
	slots   chan struct{}
	clock   clock.Clock
	log     *zap.Logger
	metrics *metrics

	mu     sync.Mutex
	active map[string]*run
	wait   sync.WaitGroup
}

func newRuns(o Options, m *metrics) *runs {
	ctx, cancel := context.WithCancel(context.Background())
	return &runs{
		ctx: ctx, cancel: cancel, timeout: o.Timeout, slots: make(chan struct{}, o.MaxCommands), clock: o.Clock, log: o.Log,
		metrics: m, active: map[string]*run{},
	}
}

// background starts a job if there is a slot for it, and tells whether one with this key was under way already.
func (r *runs) background(j job) (before *run, err error) {
	begun, mine := r.begin(j)
	if !mine {
		return begun, nil
	}
	select {
	case r.slots <- struct{}{}:
	default:
		r.end(j, begun, "", errFull)
		r.wait.Done()
		return nil, errFull
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	go func() {
		defer r.wait.Done()
		defer cancel()
		r.work(ctx, j, begun)
	}()
	return nil, nil
}

// blocking starts a job once there is a slot for it, or joins the one with this key that is under way. Its result is there when
// done is closed.
func (r *runs) blocking(j job) *run {
	begun, mine := r.begin(j)
	if !mine {
		return begun
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	go func() {
		defer r.wait.Done()
		defer cancel()
		select {
		case r.slots <- struct{}{}:
			r.work(ctx, j, begun)
		case <-ctx.Done():
			r.end(j, begun, "", r.explain(ctx, errFull))
		}
	}()
	return begun
}

// begin is false if a job with this key is under way. Otherwise somebody has to end it.
func (r *runs) begin(j job) (*run, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.active[j.key]; ok {
		return before, false
	}
	begun := &run{began: r.clock.Now(), done: make(chan struct{})}
	r.active[j.key] = begun
	r.wait.Add(1)
	return begun, true
}

// work has a slot, and gives it back when nothing of the job runs anymore.
func (r *runs) work(ctx context.Context, j job, begun *run) {
	defer func() { <-r.slots }()
	log := r.log.With(zap.String("canary", j.canary), zap.String("type", j.kind), zap.String("command", j.text))
	log.Info("command starts")
	running := r.metrics.running.WithLabelValues(j.kind)
	running.Inc()
	defer running.Dec()
	start := r.clock.Now()
	written, rest, err := j.do(ctx, log)
	if err != nil {
		err = r.explain(ctx, err)
	}
	took := r.clock.Since(start)
	r.metrics.took(j.kind, took, err)
	fields := []zap.Field{zap.Duration("took", took)}
	if err != nil {
		log.Error("command failed", append(fields, zap.String("output", written), zap.Error(err))...)
	} else {
		if j.logOutput {
			fields = append(fields, zap.String("output", written))
		}
		log.Info("command succeeded", fields...)
	}
	r.end(j, begun, written, err)
	<-rest
}

// explain says why a job was ended, if it was.
func (r *runs) explain(ctx context.Context, err error) error {
	switch {
	case r.ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errStopped, err)
	case ctx.Err() != nil:
		return &timeoutError{limit: r.timeout, err: err}
	default:
		return err
	}
}

// timeoutError is why a job was killed.
type timeoutError struct {
	limit time.Duration
	err   error
}

func (t *timeoutError) Error() string {
	return fmt.Sprintf("ended after %s, the limit that -timeout sets: %v", t.limit, t.err)
}

func (t *timeoutError) Unwrap() error { return t.err }

// end makes the result known.
func (r *runs) end(j job, begun *run, written string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun.written, begun.err = written, err
	delete(r.active, j.key)
	close(begun.done)
}

// stop ends all jobs.
func (r *runs) stop() {
	r.cancel()
	r.wait.Wait()
}
