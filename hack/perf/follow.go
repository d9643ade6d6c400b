package main

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
)

// follow does something about each object of an informer that comes or changes, many at the same time, until ctx ends. It returns once
// all objects that were there are known. What fails is logged, but for objects that are gone.
func follow[T any](ctx context.Context, informer cache.SharedIndexInformer, log func(error), do func(context.Context, T) error) error {
	due := make(chan T, 1<<16)
	offer := func(item any) {
		if object, ok := item.(T); ok {
			due <- object
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: offer, UpdateFunc: func(_, item any) { offer(item) }}); err != nil {
		return err
	}
	for range hands {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case object := <-due:
					if err := do(ctx, object); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
						log(err)
					}
				}
			}
		}()
	}
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	return nil
}
