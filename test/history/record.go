package history

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// resources are what a history is made of.
func resources() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Version: "v1", Resource: "configmaps"},
		{Version: "v1", Resource: "secrets"},
		v1beta1.SchemeGroupVersion.WithResource("canaries"),
	}
}

// Recorder keeps every version of every object of a namespace that a history is about. A watch tells of each write, in
// order; one that breaks is resumed where it ended, and one that can't be resumed fails the record.
type Recorder struct {
	client    dynamic.Interface
	namespace string
	clock     clock.PassiveClock
	cancel    context.CancelFunc
	wait      sync.WaitGroup
	// news wakes who waits for a state to arrive.
	news chan struct{}

	mu     sync.Mutex
	states []State
	latest map[types.UID]int64
	err    error
}

// Record begins to record a namespace.
func Record(ctx context.Context, client dynamic.Interface, namespace string, c clock.PassiveClock) (*Recorder, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &Recorder{
		client: client, namespace: namespace, clock: c, cancel: cancel,
		news: make(chan struct{}, 1), latest: map[types.UID]int64{},
	}
	for _, resource := range resources() {
		if err := r.record(ctx, resource); err != nil {
			cancel()
			r.wait.Wait()
			return nil, err
		}
	}
	return r, nil
}

func (r *Recorder) record(ctx context.Context, resource schema.GroupVersionResource) error {
	client := r.client.Resource(resource).Namespace(r.namespace)
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("recording %s: %w", resource.GroupResource(), err)
	}
	for i := range list.Items {
		r.keep(&list.Items[i], false)
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
	})
	if err != nil {
		return fmt.Errorf("recording %s: %w", resource.GroupResource(), err)
	}
	r.wait.Go(func() {
		for e := range watcher.ResultChan() {
			switch object := e.Object.(type) {
			case *unstructured.Unstructured:
				if e.Type != watch.Bookmark {
					r.keep(object, e.Type == watch.Deleted)
				}
			default:
				r.fail(fmt.Errorf("recording %s: %w", resource.GroupResource(), apierrors.FromObject(e.Object)))
			}
		}
	})
	return nil
}

func (r *Recorder) keep(u *unstructured.Unstructured, deleted bool) {
	version, err := strconv.ParseInt(u.GetResourceVersion(), 10, 64)
	if err != nil {
		r.fail(fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err))
		return
	}
	r.mu.Lock()
	r.states = append(r.states, State{Version: version, Seen: r.clock.Now(), Object: u, Deleted: deleted})
	r.latest[u.GetUID()] = max(r.latest[u.GetUID()], version)
	r.mu.Unlock()
	r.wake()
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	r.wake()
}

func (r *Recorder) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// Stop ends the record once it holds every object as it is now, and returns it.
func (r *Recorder) Stop(ctx context.Context) ([]State, error) {
	err := r.catchUp(ctx)
	r.cancel()
	r.wait.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return r.states, err
}

func (r *Recorder) catchUp(ctx context.Context) error {
	for _, resource := range resources() {
		list, err := r.client.Resource(resource).Namespace(r.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("recording %s: %w", resource.GroupResource(), err)
		}
		for i := range list.Items {
			if err := r.await(ctx, &list.Items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// await waits until an object was recorded that is no older than this one.
func (r *Recorder) await(ctx context.Context, u *unstructured.Unstructured) error {
	version, err := strconv.ParseInt(u.GetResourceVersion(), 10, 64)
	if err != nil {
		return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	for {
		r.mu.Lock()
		have, failed := r.latest[u.GetUID()] >= version, r.err
		r.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case have:
			return nil
		}
		select {
		case <-r.news:
		case <-ctx.Done():
			return fmt.Errorf("waiting for version %d of %s %s: %w", version, u.GetKind(), u.GetName(), ctx.Err())
		}
	}
}
