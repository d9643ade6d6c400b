package cache

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/workload"
)

const (
	// writtenFor bounds how long the answer to a write is preferred to an informer that has not caught up. It only matters for an
	// object that was written and deleted while the watch was broken: no event tells of it.
	writtenFor = 30 * time.Second
	// maxWritten bounds how many answers are kept that no informer has shown. It is more than informers that keep up are ever behind.
	maxWritten = 10_000
)

// consistency remembers what the API server answered to our own writes until the informers show it, so that a pass never
// decides on a state older than its predecessor's writes. It keeps an answer until an informer tells of that state or a later one,
// for writtenFor at the most; there may be no informer that tells.
type consistency struct {
	clock clock.PassiveClock
	// watches is whether there is an informer of a resource, or will be. Without one nobody reads what was written, and no event says
	// that it may go; an informer that comes later begins with a list that has it.
	watches func(schema.GroupVersionResource) bool

	mu      sync.Mutex
	objects map[ObjectKey]answer
	// order are the keys of the answers as they came, with those that are gone.
	order []dated
}

// dated is an answer that was kept at a time, unless a later one took its place.
type dated struct {
	key ObjectKey
	at  time.Time
}

type answer struct {
	object *unstructured.Unstructured
	at     time.Time
}

func newConsistency(c clock.PassiveClock, watches func(schema.GroupVersionResource) bool) *consistency {
	return &consistency{clock: c, watches: watches, objects: map[ObjectKey]answer{}}
}

func (c *consistency) record(resource schema.GroupVersionResource, u *unstructured.Unstructured) {
	if u == nil || !c.watches(resource) {
		return
	}
	dropManagedFields(u)
	u = workload.Summarize(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	key, now := KeyOfObject(resource, u), c.clock.Now()
	c.objects[key] = answer{object: u, at: now}
	c.order = append(c.order, dated{key, now})
	c.expire(now)
}

// expire drops the answers that are too old to be believed, and the oldest of too many. A clock that is set back makes none young
// again: the count bounds them.
func (c *consistency) expire(now time.Time) {
	for len(c.order) > 0 {
		first := c.order[0]
		kept, ok := c.objects[first.key]
		// What was shown meanwhile, as most is at once, counts no more.
		present := ok && kept.at.Equal(first.at)
		if present && now.Sub(first.at) <= writtenFor && len(c.objects) <= maxWritten {
			return
		}
		c.order = c.order[1:]
		if present {
			delete(c.objects, first.key)
		}
	}
}

// state is what is known of an object: what was last written if that is newer than what an informer has.
type state struct {
	written *unstructured.Unstructured
	cached  *packed
}

// object is nil if there is none.
func (s state) object() *unstructured.Unstructured {
	if s.written != nil {
		return s.written
	}
	return s.cached.object()
}

// version decodes nothing.
func (s state) version() Version {
	if s.written != nil {
		return VersionOf(s.written)
	}
	return s.cached.at()
}

// newest is the state of an object of which an informer has cached, nil if it has none.
func (c *consistency) newest(o ObjectKey, cached *packed) state {
	return state{c.ahead(o, cached), cached}
}

// ahead returns what was last written, nil if an informer's object is as new.
func (c *consistency) ahead(o ObjectKey, cached *packed) *unstructured.Unstructured {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.objects[o]
	if !ok {
		return nil
	}
	if c.clock.Since(a.at) > writtenFor || cached != nil && !later(a.object.GetResourceVersion(), cached.version) {
		delete(c.objects, o)
		return nil
	}
	return a.object
}

// onEvent follows a change that an informer tells of: what it shows, and what was deleted, is not read back.
func (c *consistency) onEvent(resource schema.GroupVersionResource, old, current *packed) {
	if current == nil {
		c.forget(KeyOfObject(resource, old), old)
		return
	}
	c.ahead(KeyOfObject(resource, current), current)
}

// forget follows a deletion. An object that was made again since is another one.
func (c *consistency) forget(o ObjectKey, gone *packed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.objects[o]; ok && a.object.GetUID() != gone.uid && later(a.object.GetResourceVersion(), gone.version) {
		return
	}
	delete(c.objects, o)
}

// later is whether a is a later version than b of the same resource. Versions that can't be compared are not.
func later(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order > 0
}

// recordingClient hands every answer to a write to a consistency. So nobody may change it.
type recordingClient struct {
	dynamic.Interface
	consistency *consistency
}

func (c recordingClient) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	all := c.Interface.Resource(resource)
	return recordingNamespaceable{recordingResource{all, resource, c.consistency}, all}
}

type recordingNamespaceable struct {
	recordingResource
	all dynamic.NamespaceableResourceInterface
}

func (r recordingNamespaceable) Namespace(namespace string) dynamic.ResourceInterface {
	return recordingResource{r.all.Namespace(namespace), r.resource, r.consistency}
}

type recordingResource struct {
	dynamic.ResourceInterface
	resource    schema.GroupVersionResource
	consistency *consistency
}

func (r recordingResource) keep(u *unstructured.Unstructured, err error) (*unstructured.Unstructured, error) {
	if err == nil {
		r.consistency.record(r.resource, u)
	}
	return u, err
}

// Create, Update, UpdateStatus, Patch and Apply are the writes that are used; each answers with the whole object.

func (r recordingResource) Create(ctx context.Context, u *unstructured.Unstructured, o metav1.CreateOptions, sub ...string) (*unstructured.Unstructured, error) {
	return r.keep(r.ResourceInterface.Create(ctx, u, o, sub...))
}

func (r recordingResource) Update(ctx context.Context, u *unstructured.Unstructured, o metav1.UpdateOptions, sub ...string) (*unstructured.Unstructured, error) {
	return r.keep(r.ResourceInterface.Update(ctx, u, o, sub...))
}

func (r recordingResource) UpdateStatus(ctx context.Context, u *unstructured.Unstructured, o metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	return r.keep(r.ResourceInterface.UpdateStatus(ctx, u, o))
}

func (r recordingResource) Patch(ctx context.Context, name string, t types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (*unstructured.Unstructured, error) {
	u, err := r.ResourceInterface.Patch(ctx, name, t, data, o, sub...)
	if len(sub) > 0 && sub[0] == "scale" {
		// The scale subresource answers with a Scale, not with the object.
		return u, err
	}
	return r.keep(u, err)
}

func (r recordingResource) Apply(ctx context.Context, name string, u *unstructured.Unstructured, o metav1.ApplyOptions, sub ...string) (*unstructured.Unstructured, error) {
	return r.keep(r.ResourceInterface.Apply(ctx, name, u, o, sub...))
}
