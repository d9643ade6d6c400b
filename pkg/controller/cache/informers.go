package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/kube"
	"flagger.app/flagger/pkg/workload"
)

const (
	// lookForMissing is how often the API server is asked whether a resource that a Canary needs has been installed.
	lookForMissing = 5 * time.Second
	// watchAgain is the pause before a resource is watched again whose watch ended although it is served.
	watchAgain = time.Second
)

// Availability is whether a resource can be read.
type Availability int

const (
	// Syncing resources are being listed; whoever asked is woken when that is done.
	Syncing Availability = iota
	// Synced resources can be read from the cache.
	Synced
	// Missing resources are not served; whoever asked is woken when they are.
	Missing
)

// informers watches the resources that somebody asked for, as unstructured objects. They start when first asked for, survive
// that their CRD is removed, and start again when it comes back.
type informers struct {
	client dynamic.Interface
	// outlines reads the metadata of objects alone; nil reads them whole.
	outlines  metadata.Interface
	discovery kube.Discovery
	clock     clock.Clock
	namespace string
	// onEvent is told of every change, with old nil for an addition and current nil for a deletion.
	onEvent func(resource schema.GroupVersionResource, old, current *packed)
	// onState is told when a resource became readable, or stopped being so, with the keys of those who waited for it.
	onState func(resource schema.GroupVersionResource, waiters []string)

	// codec is for all stores.
	codec *codec

	mu        sync.Mutex
	run       context.Context
	wait      *sync.WaitGroup
	resources map[schema.GroupVersionResource]*watched
	stopped   bool
}

// watched is one resource that somebody asked for.
type watched struct {
	state  Availability
	reason string
	// informers are those of its parts.
	informers []toolscache.SharedIndexInformer
	waiters   map[string]struct{}
}

// Start lets the informers run until the context ends. They must not be asked for anything before.
func (i *informers) Start(ctx context.Context, wait *sync.WaitGroup) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.run, i.wait = ctx, wait
	i.resources = map[schema.GroupVersionResource]*watched{}
}

// Stop keeps new informers from being started, so that the wait for the others can come to an end.
func (i *informers) Stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
}

// Ensure makes sure that a resource is watched and tells whether it can be read. If not, the reason says why, and the key is
// woken when that changes.
func (i *informers) Ensure(resource schema.GroupVersionResource, key string) (Availability, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w, ok := i.resources[resource]
	if !ok && i.stopped {
		return Syncing, "the operator is stopping"
	}
	if !ok {
		w = &watched{waiters: map[string]struct{}{}}
		i.resources[resource] = w
		i.wait.Go(func() { i.watch(i.run, resource, w) })
	}
	if w.state != Synced {
		w.waiters[key] = struct{}{}
	}
	return w.state, w.reason
}

// asked is whether somebody asked for a resource.
func (i *informers) asked(resource schema.GroupVersionResource) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.resources[resource]
	return ok
}

// Ready returns nil when a resource can be read, and why not otherwise.
func (i *informers) Ready(resource schema.GroupVersionResource) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	w, ok := i.resources[resource]
	switch {
	case !ok || w.state != Synced && w.reason == "":
		return fmt.Errorf("the list of %s is not read yet", resource.GroupResource())
	case w.state != Synced:
		return errors.New(w.reason)
	}
	return nil
}

// get returns an object as the informers last saw it, nil if it does not exist.
func (i *informers) get(o ObjectKey) (*packed, error) {
	stores := i.stores(o.Resource)
	if stores == nil {
		return nil, fmt.Errorf("%s are not watched yet", o.Resource.GroupResource())
	}
	var found *packed
	for _, store := range stores {
		item, exists, err := store.GetByKey(toolscache.NewObjectName(o.Namespace, o.Name).String())
		if err != nil {
			return nil, err
		}
		// One that was made again as another type is in two parts until the informer of the first has heard of it.
		if p, ok := item.(*packed); ok && exists && (found == nil || later(p.version, found.version)) {
			found = p
		}
	}
	return found, nil
}

// stores is what the informers of a resource hold, nil while that can't be read.
func (i *informers) stores(resource schema.GroupVersionResource) []toolscache.Indexer {
	i.mu.Lock()
	defer i.mu.Unlock()
	w, ok := i.resources[resource]
	if !ok || w.state != Synced {
		return nil
	}
	var stores []toolscache.Indexer
	for _, informer := range w.informers {
		stores = append(stores, informer.GetIndexer())
	}
	return stores
}

// byOwner is the index of the objects that Canaries control, by the UID of the Canary.
const byOwner = "owner"

// ofService is the name of the index of indexByService.
const ofService = "service"

// entries are what the indexes have an object by. Both states of one that changes are asked for them.
type entries struct{ owner, service string }

// entriesOf is an excerpt, nothing for an object that is in no index.
func entriesOf(u *unstructured.Unstructured) any {
	e := entries{service: serviceOfSlice(u)}
	if owner := metav1.GetControllerOf(u); owner != nil && owner.Kind == v1beta1.CanaryKind {
		e.owner = string(owner.UID)
	}
	if e == (entries{}) {
		return nil
	}
	return &e
}

func entriesIn(p *packed) entries {
	if e, ok := p.excerpt.(*entries); ok {
		return *e
	}
	return entries{}
}

func indexByOwner(item any) ([]string, error) {
	if p, ok := item.(*packed); ok && entriesIn(p).owner != "" {
		return []string{entriesIn(p).owner}, nil
	}
	return nil, nil
}

// Owned returns the objects of a resource that a Canary controls, as far as the resource is watched.
func (i *informers) Owned(resource schema.GroupVersionResource, uid types.UID) []*unstructured.Unstructured {
	return i.indexed(resource, byOwner, string(uid))
}

// indexed returns the objects of a resource that an index has under a value.
func (i *informers) indexed(resource schema.GroupVersionResource, index, value string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, store := range i.stores(resource) {
		items, err := store.ByIndex(index, value)
		if err != nil {
			return nil
		}
		all = append(all, unpackAll(items)...)
	}
	return all
}

// watch keeps one resource watched: it waits for the resource to be served, runs an informer until the resource is gone,
// and begins again.
func (i *informers) watch(ctx context.Context, resource schema.GroupVersionResource, w *watched) {
	for ctx.Err() == nil {
		namespaced, state, err := i.served(resource)
		if err == nil {
			err = i.runInformer(ctx, resource, w, namespaced)
		}
		pause, reason := watchAgain, ""
		if err != nil {
			pause, reason = lookForMissing, err.Error()
		}
		i.become(resource, w, state, reason)
		select {
		case <-ctx.Done():
		case <-i.clock.After(pause):
		}
	}
}

// served asks the API server whether it knows a resource. The state belongs to the error.
func (i *informers) served(resource schema.GroupVersionResource) (namespaced bool, state Availability, err error) {
	list, err := i.discovery.ServerResourcesForGroupVersion(resource.GroupVersion().String())
	if err != nil && !apierrors.IsNotFound(err) {
		return false, Syncing, fmt.Errorf("looking for the resource %s: %w", resource.GroupResource(), err)
	}
	if list != nil {
		for _, r := range list.APIResources {
			if r.Name == resource.Resource {
				return r.Namespaced, Syncing, nil
			}
		}
	}
	return false, Missing, fmt.Errorf("the resource %s (%s) is not installed", resource.GroupResource(), resource.Version)
}

// runInformer returns when the context ends or the resource is no longer served.
func (i *informers) runInformer(ctx context.Context, resource schema.GroupVersionResource, w *watched, namespaced bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	namespace := i.namespace
	if !namespaced {
		namespace = metav1.NamespaceAll
	}
	var all []toolscache.SharedIndexInformer
	hasSynced := func() bool {
		return !slices.ContainsFunc(all, func(informer toolscache.SharedIndexInformer) bool { return !informer.HasSynced() })
	}
	onError := func(ctx context.Context, r *toolscache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			cancel()
			return
		}
		toolscache.DefaultWatchErrorHandler(ctx, r, err)
		if !hasSynced() {
			i.become(resource, w, Syncing, fmt.Sprintf("listing the resource %s: %v", resource.GroupResource(), err))
		}
	}
	for _, p := range i.partsOf(resource) {
		k := i.codec.newPacker(entriesOf)
		informer := i.newInformer(resource, namespace, p, k, toolscache.Indexers{byOwner: indexByOwner, ofService: indexByService})
		if err := configure(informer, k, onError, func(old, current *packed) {
			i.onEvent(resource, old, current)
		}); err != nil {
			return fmt.Errorf("watching the resource %s: %w", resource.GroupResource(), err)
		}
		all = append(all, informer)
	}
	i.wait.Go(func() {
		if toolscache.WaitForCacheSync(ctx.Done(), hasSynced) {
			i.mu.Lock()
			w.informers = all
			i.mu.Unlock()
			i.become(resource, w, Synced, "")
		}
	})
	var running sync.WaitGroup
	for _, informer := range all {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	running.Wait()
	return nil
}

// configure prepares an informer that was not started.
func configure(informer toolscache.SharedIndexInformer, k *packer, onError toolscache.WatchErrorHandlerWithContext,
	onEvent func(old, current *packed)) error {
	if err := informer.SetTransform(k.transform); err != nil {
		return err
	}
	if err := informer.SetWatchErrorHandlerWithContext(onError); err != nil {
		return err
	}
	_, err := informer.AddEventHandler(handler(onEvent))
	return err
}

// become changes the state of a resource and tells about it.
func (i *informers) become(resource schema.GroupVersionResource, w *watched, state Availability, reason string) {
	i.mu.Lock()
	changed := w.state != state || w.reason != reason
	w.state, w.reason = state, reason
	var waiters []string
	if changed {
		waiters = slices.Sorted(maps.Keys(w.waiters))
		clear(w.waiters)
	}
	i.mu.Unlock()
	if changed {
		i.onState(resource, waiters)
	}
}

// trim keeps what the rules never read out of memory, above all the contents of Secrets.
func trim(item any) (any, error) {
	if u, ok := item.(*unstructured.Unstructured); ok {
		if summary := workload.Summarize(u); summary != u {
			return summary, nil
		}
		trimSlice(u)
		dropManagedFields(u)
	}
	return item, nil
}

// dropManagedFields drops the record of who wrote which field.
func dropManagedFields(u *unstructured.Unstructured) {
	if _, found, _ := unstructured.NestedFieldNoCopy(u.Object, "metadata", "managedFields"); found {
		unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	}
}

// handler turns the three kinds of events into one. An object that was deleted while the watch was broken arrives as a
// tombstone with its last known state.
func handler(onEvent func(old, current *packed)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(item any) {
			if p, ok := item.(*packed); ok {
				onEvent(nil, p)
			}
		},
		UpdateFunc: func(before, after any) {
			old, okOld := before.(*packed)
			current, okCurrent := after.(*packed)
			if okOld && okCurrent && old.version != current.version {
				onEvent(old, current)
			}
		},
		DeleteFunc: func(item any) {
			if tombstone, ok := item.(toolscache.DeletedFinalStateUnknown); ok {
				item = tombstone.Obj
			}
			if p, ok := item.(*packed); ok {
				onEvent(p, nil)
			}
		},
	}
}
