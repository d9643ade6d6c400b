package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/client/clientset/versioned"
	"flagger.app/flagger/pkg/client/informers/externalversions"
)

// phases follows how far the Canaries are.
type phases struct {
	mu sync.Mutex
	// at holds the phase of each Canary, resting those that have told all that they had to tell.
	at      map[string]v1beta1.CanaryPhase
	resting map[string]bool
	changed chan struct{}
}

func newPhases() *phases {
	return &phases{at: map[string]v1beta1.CanaryPhase{}, resting: map[string]bool{}, changed: make(chan struct{})}
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
	p.at[c.Name] = c.Status.Phase
	p.resting[c.Name] = c.Status.Rollout != nil && len(c.Status.Rollout.Outbox) == 0
	close(p.changed)
	p.changed = make(chan struct{})
}

// all waits until n Canaries are in a phase, or in one that there is no way out of, and resting if they have to.
func (p *phases) all(ctx context.Context, n int, phase v1beta1.CanaryPhase, resting bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		p.mu.Lock()
		there, failed, changed := 0, 0, p.changed
		for name, at := range p.at {
			if at == phase && (!resting || p.resting[name]) {
				there++
			}
			if at == v1beta1.CanaryPhaseFailed {
				failed++
			}
		}
		p.mu.Unlock()
		switch {
		case there == n:
			return nil
		case failed > 0:
			return fmt.Errorf("%d Canaries have failed", failed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), fmt.Errorf("only %d of %d Canaries are %s", there, n, phase))
		}
	}
}
