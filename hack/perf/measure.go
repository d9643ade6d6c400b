package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/test/audit"
)

// quiet is how long no call has to come for a stage to be over. The operator looks again 10 seconds after its last action.
const quiet = 12 * time.Second

// measure plays the stages.
func (b *bench) measure(ctx context.Context, o *operator) (*report, error) {
	r := &report{N: b.n, Stages: map[string]*stage{}}
	add := func(name string, n int, play func() (*stage, error)) (*stage, error) {
		s, err := b.profiled(ctx, strings.ReplaceAll(name, " ", "-"), play)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.count(n)
		r.add(name, s)
		if s.ResidentMiB == 0 {
			s.ResidentMiB, err = o.resident()
		}
		r.ResidentMiB = s.ResidentMiB
		return s, err
	}
	if _, err := add("bootstrap", b.n, func() (*stage, error) {
		return b.stage(ctx, o, b.n, v1beta1.CanaryPhaseInitialized, func(a app) error { return b.onboard(ctx, a) })
	}); err != nil {
		return nil, err
	}
	if b.soak > 0 {
		s, err := b.soakFor(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("soak: %w", err)
		}
		r.add("soak", s)
		r.ResidentMiB, err = o.resident()
		return r, err
	}
	for i, n := range b.rolls {
		s, err := add(b.rolloutName(i), n, func() (*stage, error) {
			return b.stage(ctx, o, n, v1beta1.CanaryPhaseSucceeded, func(a app) error { return b.ship(ctx, a, i+2) })
		})
		if err != nil {
			return nil, err
		}
		s.FirstAction, s.Lateness = firstActions(s.calls, s.changed), lateness(s.calls)
	}
	if _, err := add("idle", b.n, func() (*stage, error) { return b.rest(ctx, o) }); err != nil {
		return nil, err
	}
	if b.trace {
		r.Stages["bootstrap"].trace(os.Stderr, appName(0))
		r.Stages[b.rolloutName(0)].trace(os.Stderr, appName(0))
	}
	return r, nil
}

// rolloutName is that of the stage of a number, among those in which Canaries are rolled out.
func (b *bench) rolloutName(i int) string {
	switch {
	case len(b.rolls) == 1:
		return "rollout"
	case slices.Contains(b.rolls[:i], b.rolls[i]):
		return fmt.Sprintf("rollout of %d (%d)", b.rolls[i], i+1)
	}
	return fmt.Sprintf("rollout of %d", b.rolls[i])
}

// metered begins to measure what is used. The function that it returns writes down what was used since.
func metered(ctx context.Context, o *operator) (func(*stage) error, error) {
	cpu, err := o.cpu()
	passes, passesErr := passesSoFar(ctx)
	if err := errors.Join(err, passesErr); err != nil {
		return nil, err
	}
	before, err := used()
	return func(s *stage) error {
		now, err := o.cpu()
		more, passesErr := passesSoFar(ctx)
		if err := errors.Join(err, passesErr); err != nil {
			return err
		}
		after, err := used()
		s.CPUSeconds, s.passes = now-cpu, more-passes
		s.noteUsage(&before, &after)
		return err
	}, err
}

// stage does something to the first n applications and waits until their Canaries are in a phase and no more calls come of it.
func (b *bench) stage(ctx context.Context, o *operator, n int, end v1beta1.CanaryPhase, do func(app) error) (*stage, error) {
	used, err := metered(ctx, o)
	if err != nil {
		return nil, err
	}
	there := b.phases.arrivals(end)
	s, begin := newStage(), b.clock.Now()
	err = each(n, func(a app) error {
		asked := b.clock.Now()
		if err := do(a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		s.note(a.name, change{asked, b.clock.Now()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := b.phases.arrive(ctx, end, there+n, b.patience()); err != nil {
		return nil, err
	}
	s.Seconds = b.clock.Since(begin).Seconds()
	if err := b.phases.rest(ctx, b.patience()); err != nil {
		return nil, err
	}
	if err := used(s); err != nil {
		return nil, err
	}
	s.calls, err = b.untilQuiet(ctx, begin)
	return s, err
}

// again starts an operator on Canaries that have settled. The stage takes as long as that needs to get ready, and has the writes until
// long after that.
func (b *bench) again(ctx context.Context, start func() (*operator, error)) (*stage, error) {
	s, begin := newStage(), b.clock.Now()
	before, err := used()
	if err != nil {
		return nil, err
	}
	o, err := start()
	if err != nil {
		return nil, err
	}
	s.Seconds = b.clock.Since(begin).Seconds()
	err = b.pause(ctx, quiet)
	cpu, cpuErr := o.cpu()
	after, usedErr := used()
	s.noteUsage(&before, &after)
	resident, residentErr := o.resident()
	if err := errors.Join(err, cpuErr, usedErr, residentErr, o.end()); err != nil {
		return nil, err
	}
	s.CPUSeconds, s.ResidentMiB = cpu, resident
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
	used, err := metered(ctx, o)
	if err != nil {
		return nil, err
	}
	s, begin := newStage(), b.clock.Now()
	if err := b.pause(ctx, b.idle); err != nil {
		return nil, err
	}
	// Before the operator is asked for its metrics, which takes megabytes of them.
	if s.ResidentMiB, err = o.resident(); err != nil {
		return nil, err
	}
	if err := used(s); err != nil {
		return nil, err
	}
	s.Seconds = b.clock.Since(begin).Seconds()
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
