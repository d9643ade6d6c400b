package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/test/audit"
)

// quiet is how long no call has to come for a stage to be over. The operator looks again 10 seconds after its last action.
const quiet = 12 * time.Second

// measure plays the three stages.
func (b *bench) measure(ctx context.Context, o *operator) (*report, error) {
	r := &report{N: b.n, Load: []float64{load()}, Stages: map[string]*stage{}}
	bootstrap, err := b.profiled(ctx, "bootstrap", func() (*stage, error) {
		return b.stage(ctx, o, b.n, v1beta1.CanaryPhaseInitialized, func(name string) error { return b.onboard(ctx, name) })
	})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	bootstrap.count(b.n)
	r.Stages["bootstrap"] = bootstrap
	if b.soak > 0 {
		r.Stages["soak"], err = b.soakFor(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("soak: %w", err)
		}
		r.ResidentMiB, err = o.resident()
		r.Load = append(r.Load, load())
		return r, err
	}
	rollout, err := b.profiled(ctx, "rollout", func() (*stage, error) {
		return b.stage(ctx, o, b.roll, v1beta1.CanaryPhaseSucceeded, func(name string) error { return b.ship(ctx, name, 2) })
	})
	if err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	if r.ResidentMiB, err = o.resident(); err != nil {
		return nil, err
	}
	idle, err := b.profiled(ctx, "idle", func() (*stage, error) { return b.rest(ctx, o) })
	if err != nil {
		return nil, fmt.Errorf("idle: %w", err)
	}
	r.Load = append(r.Load, load())
	rollout.count(b.roll)
	idle.count(b.n)
	r.Stages["rollout"], r.Stages["idle"] = rollout, idle
	r.FirstAction, r.Lateness = firstActions(rollout.calls, rollout.changed), lateness(rollout.calls)
	if b.trace {
		bootstrap.trace(os.Stderr, appName(0))
		rollout.trace(os.Stderr, appName(0))
	}
	return r, nil
}

// stage does something to the first n applications and waits until n Canaries are in a phase and no more calls come of it.
func (b *bench) stage(ctx context.Context, o *operator, n int, end v1beta1.CanaryPhase, do func(name string) error) (*stage, error) {
	before, err := o.cpu()
	if err != nil {
		return nil, err
	}
	s, begin := newStage(), b.clock.Now()
	err = each(n, func(name string) error {
		if err := do(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.note(name, b.clock.Now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := b.phases.all(ctx, n, end, false, b.patience()); err != nil {
		return nil, err
	}
	s.Seconds = b.clock.Since(begin).Seconds()
	if err := b.phases.all(ctx, n, end, true, b.patience()); err != nil {
		return nil, err
	}
	after, err := o.cpu()
	if err != nil {
		return nil, err
	}
	s.CPUSeconds = after - before
	s.calls, err = b.untilQuiet(ctx, begin)
	return s, err
}

// again starts an operator on Canaries that have settled. The stage takes as long as that needs to get ready, and has the writes until
// long after that.
func (b *bench) again(ctx context.Context, start func() (*operator, error)) (*stage, error) {
	s, begin := newStage(), b.clock.Now()
	o, err := start()
	if err != nil {
		return nil, err
	}
	s.Seconds = b.clock.Since(begin).Seconds()
	err = b.pause(ctx, quiet)
	used, cpuErr := o.cpu()
	if err := errors.Join(err, cpuErr, o.end()); err != nil {
		return nil, err
	}
	s.CPUSeconds = used
	calls, err := b.calls(begin)
	for i := range calls {
		if verb := calls[i].Verb; verb != "get" && verb != "list" {
			s.calls = append(s.calls, calls[i])
		}
	}
	s.count(b.n)
	return s, err
}

// rest looks on while nothing happens.
func (b *bench) rest(ctx context.Context, o *operator) (*stage, error) {
	before, err := o.cpu()
	if err != nil {
		return nil, err
	}
	s, begin := newStage(), b.clock.Now()
	if err := b.pause(ctx, b.idle); err != nil {
		return nil, err
	}
	after, err := o.cpu()
	if err != nil {
		return nil, err
	}
	s.Seconds, s.CPUSeconds = b.clock.Since(begin).Seconds(), after-before
	s.calls, err = b.calls(begin)
	return s, err
}

// untilQuiet waits until the operator calls no more, and returns its calls since a time.
func (b *bench) untilQuiet(ctx context.Context, begin time.Time) ([]audit.Call, error) {
	for end := b.clock.Now().Add(b.patience()); ; {
		calls, err := b.calls(begin)
		if err != nil {
			return nil, err
		}
		left := quiet
		if len(calls) > 0 {
			left -= b.clock.Since(calls[len(calls)-1].RequestReceivedTimestamp)
		}
		switch {
		case left <= 0:
			return calls, nil
		case b.clock.Now().After(end):
			return nil, errors.New("the operator goes on calling")
		}
		if err := b.pause(ctx, left); err != nil {
			return nil, err
		}
	}
}

// calls are those of the operator since a time, in the order of the log, but for watches and leases.
func (b *bench) calls(since time.Time) (calls []audit.Call, err error) {
	err = audit.Read(os.Getenv("TESTBED_STATE"), user, since, b.clock.Now(), func(c *audit.Call) {
		if c.Verb != "watch" && c.Resource() != "leases" {
			calls = append(calls, *c)
		}
	})
	return calls, err
}

func (b *bench) pause(ctx context.Context, d time.Duration) error {
	timer := b.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
