package cache

import (
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

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
func KeyOfObject(resource schema.GroupVersionResource, object metav1.Object) ObjectKey {
	return ObjectKey{resource, object.GetNamespace(), object.GetName()}
}

// Index knows which Canaries looked at which objects in their last pass. An event about an object wakes exactly those, be it
// owned, adopted, referred to, or missing so far.
type Index struct {
	mu sync.Mutex
	// keys has the versions that the passes have seen.
	keys    map[ObjectKey]map[string]Version
	objects map[string]map[ObjectKey]struct{}
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{keys: map[ObjectKey]map[string]Version{}, objects: map[string]map[ObjectKey]struct{}{}}
}

// Version is a state of an object, empty if there is none or if it is not known.
type Version struct {
	uid    types.UID
	number string
}

// VersionOf returns the version of an object, which may be nil.
func VersionOf(u *unstructured.Unstructured) Version {
	if u == nil {
		return Version{}
	}
	return Version{u.GetUID(), u.GetResourceVersion()}
}

// IsKnown is whether another state of the same object would have another version.
func (v Version) IsKnown() bool { return v.number != "" }

// add notes that a Canary is about to look at an object. It has to be called before the look: an event between the two would
// be lost otherwise.
func (x *Index) add(key string, o ObjectKey) { x.see(key, o, Version{}) }

// see notes what a Canary has seen of an object.
func (x *Index) see(key string, o ObjectKey, version Version) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys[o] == nil {
		x.keys[o] = map[string]Version{}
	}
	x.keys[o][key] = version
	if x.objects[key] == nil {
		x.objects[key] = map[ObjectKey]struct{}{}
	}
	x.objects[key][o] = struct{}{}
}

// keep drops the objects that a finished pass no longer looked at.
func (x *Index) keep(key string, touched map[ObjectKey]Version) {
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

// News returns the keys of the Canaries, in order, that look at an object and whose last pass has not seen this version of it. Most
// events tell of what was written by the Canary that they would wake, and a pass reads its predecessor's writes before they do. A pass
// that has seen the version and failed comes again by itself.
func (x *Index) News(o ObjectKey, current *unstructured.Unstructured) []string {
	version := VersionOf(current)
	x.mu.Lock()
	defer x.mu.Unlock()
	var keys []string
	for key, last := range x.keys[o] {
		if last != version || !version.IsKnown() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
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
