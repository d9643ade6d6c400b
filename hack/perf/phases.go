package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/client/clientset/versioned"
	"flagger.app/flagger/pkg/client/informers/externalversions"
)

// phases follows how far the Canaries are.
type phases struct {
	mu sync.Mutex
	// at holds how far each Canary is, arrived how often Canaries have come to each phase, restless how many are not at rest.
	at       map[string]progress
	arrived  map[v1beta1.CanaryPhase]int
	restless int
	failed   int
	changed  chan struct{}
}

// progress is how far a Canary is. Resting ones have told all that they had to tell.
type progress struct {
	phase   v1beta1.CanaryPhase
	resting bool
}

func newPhases() *phases {
	return &phases{at: map[string]progress{}, arrived: map[v1beta1.CanaryPhase]int{}, changed: make(chan struct{})}
}

// follow begins to follow them, until ctx ends.
func (p *phases) follow(ctx context.Context, client versioned.Interface) error {
	factory := externalversions.NewSharedInformerFactory(client, 0)
	canaries := factory.Flagger().V1beta1().Canaries().Informer()
	if _, err := canaries.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: p.note, UpdateFunc: func(_, item any) { p.note(item) }}); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), canaries.HasSynced) {
		return ctx.Err()
	}
	return nil
}

func (p *phases) note(item any) {
	c, ok := item.(*v1beta1.Canary)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last, known := p.at[c.Name]
	now := progress{c.Status.Phase, c.Status.Rollout != nil && len(c.Status.Rollout.Outbox) == 0}
	if known && !last.resting {
		p.restless--
	}
	if !now.resting {
		p.restless++
	}
	p.at[c.Name] = now
	if now.phase != last.phase {
		p.arrived[now.phase]++
		if now.phase == v1beta1.CanaryPhaseFailed {
			p.failed++
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// arrivals is how often Canaries have come to a phase.
func (p *phases) arrivals(phase v1beta1.CanaryPhase) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.arrived[phase]
}

// arrive waits until Canaries have come to a phase n times, or one has failed.
func (p *phases) arrive(ctx context.Context, phase v1beta1.CanaryPhase, n int, patience time.Duration) error {
	return p.until(ctx, patience, func() (bool, string) {
		return p.arrived[phase] >= n, fmt.Sprintf("Canaries have come to %s %d times, which should be %d", phase, p.arrived[phase], n)
	})
}

// rest waits until all Canaries are at rest.
func (p *phases) rest(ctx context.Context, patience time.Duration) error {
	return p.until(ctx, patience, func() (bool, string) { return p.restless == 0, fmt.Sprintf("%d Canaries are not at rest", p.restless) })
}

// until waits until something holds, which the lock is held for. It fails with what is missing, and when a Canary has failed.
func (p *phases) until(ctx context.Context, patience time.Duration, holds func() (ok bool, missing string)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		p.mu.Lock()
		ok, missing := holds()
		failed := p.failed
		changed := p.changed
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case failed > 0:
			return fmt.Errorf("%d Canaries have failed", failed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), errors.New(missing))
		}
	}
}
