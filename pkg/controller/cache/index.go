package cache

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/router"
)

// ObjectKey names an object without its kind, which watch events of unstructured objects and references may spell
// differently.
type ObjectKey struct {
	Resource        schema.GroupVersionResource
	Namespace, Name string
}

// KeyOfRef is the key of what a reference names.
func KeyOfRef(ref router.Ref) ObjectKey {
	return ObjectKey{ref.Resource, ref.Namespace, ref.Name}
}

// KeyOfObject is the key of an object.
func KeyOfObject(resource schema.GroupVersionResource, u *unstructured.Unstructured) ObjectKey {
	return ObjectKey{resource, u.GetNamespace(), u.GetName()}
}

// Index knows which Canaries looked at which objects in their last pass. An event about an object wakes exactly those, be it
// owned, adopted, referred to, or missing so far.
type Index struct {
	mu      sync.Mutex
	keys    map[ObjectKey]map[string]struct{}
	objects map[string]map[ObjectKey]struct{}
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{keys: map[ObjectKey]map[string]struct{}{}, objects: map[string]map[ObjectKey]struct{}{}}
}

// add notes that a Canary is about to look at an object. It has to be called before the look: an event between the two would
// be lost otherwise.
func (x *Index) add(key string, o ObjectKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys[o] == nil {
		x.keys[o] = map[string]struct{}{}
	}
	x.keys[o][key] = struct{}{}
	if x.objects[key] == nil {
		x.objects[key] = map[ObjectKey]struct{}{}
	}
	x.objects[key][o] = struct{}{}
}

// keep drops the objects that a finished pass no longer looked at.
func (x *Index) keep(key string, touched map[ObjectKey]struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for o := range x.objects[key] {
		if _, ok := touched[o]; !ok {
			x.remove(key, o)
		}
	}
}

// Forget drops a Canary that is gone.
func (x *Index) Forget(key string) {
	x.keep(key, nil)
}

// Len is the number of Canaries that look at anything.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.objects)
}

func (x *Index) remove(key string, o ObjectKey) {
	delete(x.objects[key], o)
	if len(x.objects[key]) == 0 {
		delete(x.objects, key)
	}
	delete(x.keys[o], key)
	if len(x.keys[o]) == 0 {
		delete(x.keys, o)
	}
}

// Lookup returns the keys of the Canaries that look at an object, in order.
func (x *Index) Lookup(o ObjectKey) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Sorted(maps.Keys(x.keys[o]))
}

// LookupResource returns the keys of the Canaries that look at any object of a resource, in order.
func (x *Index) LookupResource(resource schema.GroupVersionResource) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[string]struct{}{}
	for o, keys := range x.keys {
		if o.Resource != resource {
			continue
		}
		for key := range keys {
			found[key] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
