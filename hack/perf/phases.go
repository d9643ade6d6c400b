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
	// at holds how far each Canary is, count how many are that far.
	at    map[string]progress
	count map[progress]int
	// promoted is how often Canaries have got to Succeeded, all together.
	promoted int
	changed  chan struct{}
}

// progress is how far a Canary is. Resting ones have told all that they had to tell.
type progress struct {
	phase   v1beta1.CanaryPhase
	resting bool
}

func newPhases() *phases {
	return &phases{at: map[string]progress{}, count: map[progress]int{}, changed: make(chan struct{})}
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
	if known {
		p.count[last]--
	}
	p.at[c.Name] = now
	p.count[now]++
	if now.phase == v1beta1.CanaryPhaseSucceeded && last.phase != now.phase {
		p.promoted++
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// all waits until n Canaries are in a phase, or one is in one that there is no way out of, and resting if they have to.
func (p *phases) all(ctx context.Context, n int, phase v1beta1.CanaryPhase, resting bool, patience time.Duration) error {
	return p.until(ctx, patience, func() (bool, string) {
		there := p.count[progress{phase, true}]
		if !resting {
			there += p.count[progress{phase, false}]
		}
		return there == n, fmt.Sprintf("only %d of %d Canaries are %s", there, n, phase)
	})
}

// round waits until n Canaries have been promoted once more, times times in all.
func (p *phases) round(ctx context.Context, n, times int, patience time.Duration) error {
	return p.until(ctx, patience, func() (bool, string) {
		if p.promoted < n*times {
			return false, fmt.Sprintf("only %d of %d promotions have come about", p.promoted, n*times)
		}
		return true, ""
	})
}

// until waits until something holds, which the lock is held for. It fails with what is missing, and when a Canary has failed.
func (p *phases) until(ctx context.Context, patience time.Duration, holds func() (ok bool, missing string)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		p.mu.Lock()
		ok, missing := holds()
		failed := p.count[progress{v1beta1.CanaryPhaseFailed, true}] + p.count[progress{v1beta1.CanaryPhaseFailed, false}]
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
