package controller

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/router"
)

// objectKey names an object without its kind, which watch events of unstructured objects and references may spell
// differently.
type objectKey struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

func keyOfRef(ref router.Ref) objectKey {
	return objectKey{ref.Resource, ref.Namespace, ref.Name}
}

func keyOfObject(resource schema.GroupVersionResource, u *unstructured.Unstructured) objectKey {
	return objectKey{resource, u.GetNamespace(), u.GetName()}
}

// index knows which Canaries looked at which objects in their last pass. An event about an object wakes exactly those, be it
// owned, adopted, referred to, or missing so far.
type index struct {
	mu      sync.Mutex
	keys    map[objectKey]map[string]struct{}
	objects map[string]map[objectKey]struct{}
}

func newIndex() *index {
	return &index{keys: map[objectKey]map[string]struct{}{}, objects: map[string]map[objectKey]struct{}{}}
}

// add notes that a Canary is about to look at an object. It has to be called before the look: an event between the two would
// be lost otherwise.
func (x *index) add(key string, o objectKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys[o] == nil {
		x.keys[o] = map[string]struct{}{}
	}
	x.keys[o][key] = struct{}{}
	if x.objects[key] == nil {
		x.objects[key] = map[objectKey]struct{}{}
	}
	x.objects[key][o] = struct{}{}
}

// keep drops the objects that a finished pass no longer looked at.
func (x *index) keep(key string, touched map[objectKey]struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for o := range x.objects[key] {
		if _, ok := touched[o]; !ok {
			x.remove(key, o)
		}
	}
}

// forget drops a Canary that is gone.
func (x *index) forget(key string) {
	x.keep(key, nil)
}

func (x *index) remove(key string, o objectKey) {
	delete(x.objects[key], o)
	if len(x.objects[key]) == 0 {
		delete(x.objects, key)
	}
	delete(x.keys[o], key)
	if len(x.keys[o]) == 0 {
		delete(x.keys, o)
	}
}

// lookup returns the keys of the Canaries that look at an object, in order.
func (x *index) lookup(o objectKey) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Sorted(maps.Keys(x.keys[o]))
}

// lookupResource returns the keys of the Canaries that look at any object of a resource, in order.
func (x *index) lookupResource(resource schema.GroupVersionResource) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[string]struct{}{}
	for o, keys := range x.keys {
		if o.resource != resource {
			continue
		}
		for key := range keys {
			found[key] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
