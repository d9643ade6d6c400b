package cache

import (
	"iter"
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
	mu      sync.Mutex
	objects map[indexedKey]*indexed
	// canaries has what each Canary looks at, in no order.
	canaries map[string][]*indexed
	// resources are those that anybody has looked at.
	resources map[schema.GroupVersionResource]*schema.GroupVersionResource
}

// indexedKey is an ObjectKey of half the size.
type indexedKey struct {
	resource        *schema.GroupVersionResource
	namespace, name string
}

func (k indexedKey) whole() ObjectKey { return ObjectKey{*k.resource, k.namespace, k.name} }

// indexed is an object that somebody looks at. Almost every object is looked at by one Canary, and some by all there are.
type indexed struct {
	key indexedKey
	// only is that one Canary, empty for several.
	only look
	// several has the versions that they have seen.
	several map[string]Version
}

// look is what a Canary has seen of an object.
type look struct {
	canary string
	seen   Version
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{
		objects: map[indexedKey]*indexed{}, canaries: map[string][]*indexed{},
		resources: map[schema.GroupVersionResource]*schema.GroupVersionResource{},
	}
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
	resource, ok := x.resources[o.Resource]
	if !ok {
		resource = new(o.Resource)
		x.resources[o.Resource] = resource
	}
	at := indexedKey{resource, o.Namespace, o.Name}
	object := x.objects[at]
	if object == nil {
		object = &indexed{key: at}
		x.objects[at] = object
	}
	if object.put(key, version) {
		x.canaries[key] = append(x.canaries[key], object)
	}
}

// put reports whether the Canary did not look at the object before.
func (o *indexed) put(canary string, version Version) bool {
	switch {
	case o.several != nil:
		before := len(o.several)
		o.several[canary] = version
		return len(o.several) > before
	case o.only.canary == canary:
		o.only.seen = version
		return false
	case o.only.canary == "":
		o.only = look{canary, version}
		return true
	default:
		o.several = map[string]Version{o.only.canary: o.only.seen, canary: version}
		o.only = look{}
		return true
	}
}

// remove reports whether nobody looks at the object any more.
func (o *indexed) remove(canary string) bool {
	delete(o.several, canary)
	switch len(o.several) {
	case 0:
		return true
	case 1:
		for last, seen := range o.several {
			o.only = look{last, seen}
		}
		o.several = nil
	}
	return false
}

// looks are the Canaries that look at an object, with the versions that they have seen.
func (o *indexed) looks() iter.Seq2[string, Version] {
	return func(yield func(string, Version) bool) {
		switch {
		case o == nil:
		case o.several == nil:
			yield(o.only.canary, o.only.seen)
		default:
			maps.All(o.several)(yield)
		}
	}
}

// find returns an object, nil if nobody looks at it.
func (x *Index) find(o ObjectKey) *indexed {
	return x.objects[indexedKey{x.resources[o.Resource], o.Namespace, o.Name}]
}

// keep drops the objects that a finished pass no longer looked at.
func (x *Index) keep(key string, touched map[ObjectKey]Version) {
	x.mu.Lock()
	defer x.mu.Unlock()
	left := slices.DeleteFunc(x.canaries[key], func(object *indexed) bool {
		if _, ok := touched[object.key.whole()]; ok {
			return false
		}
		if object.remove(key) {
			delete(x.objects, object.key)
		}
		return true
	})
	if len(left) == 0 {
		delete(x.canaries, key)
		return
	}
	x.canaries[key] = left
}

// Forget drops a Canary that is gone.
func (x *Index) Forget(key string) {
	x.keep(key, nil)
}

// Len is the number of Canaries that look at anything.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.canaries)
}

// Lookup returns the keys of the Canaries that look at an object, in order.
func (x *Index) Lookup(o ObjectKey) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var keys []string
	for key := range x.find(o).looks() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// News returns the keys of the Canaries, in order, that look at an object and whose last pass has not seen the version that it is at, which
// is empty where it is gone. Most events tell of what was written by the Canary that they would wake, and a pass reads its predecessor's
// writes before they do. A pass that has seen the version and failed comes again by itself.
func (x *Index) News(o ObjectKey, version Version) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var keys []string
	for key, last := range x.find(o).looks() {
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
	known, found := x.resources[resource], map[string]struct{}{}
	for _, object := range x.objects {
		if object.key.resource != known {
			continue
		}
		for key := range object.looks() {
			found[key] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
