package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/router"
)

// ErrCrashed is what a Store answers once it refuses writes.
var ErrCrashed = errors.New("the process is gone")

// Store is an API server in memory: optimistic locking, merge patches, generations and, with schemas, pruning, defaults and
// validation by the real CRD. It is a client and, read directly, a cache that never lags. A test may put a Server behind it.
type Store struct {
	mu      sync.Mutex
	objects objects
	writes  []Write
	// hooks are set by tests before anything runs.
	beforeWrite func(Write)
	allowed     int
	// calls are what clients asked for, whatever came of it.
	calls map[string]bool
}

// objects are what a Store holds. The first three are what somebody else does, the others are requests of the operator, which are
// answered as by an API server. Whoever calls them holds the lock of the Store.
type objects interface {
	// get returns a copy, nil if there is none.
	get(k key) (*unstructured.Unstructured, error)
	// put creates an object or replaces old. The object is the callee's from then on.
	put(k key, o, old *unstructured.Unstructured) error
	remove(k key) error
	create(k key, o *unstructured.Unstructured) (*unstructured.Unstructured, error)
	read(k key) (*unstructured.Unstructured, error)
	patch(k key, patch []byte) (*unstructured.Unstructured, error)
	delete(k key) error
	// keys are those that any object has had.
	keys() []key
}

// Write is one request that changed an object.
type Write struct {
	Op   router.Op
	Name string
	Kind string
}

type key struct {
	schema.GroupVersionResource
	namespace, name string
}

func keyOf(ref router.Ref) key { return key{ref.Resource, ref.Namespace, ref.Name} }

// unlimited writes are allowed.
const unlimited = -1

// NewStore returns an empty store that admits by these schemas. Kinds without a schema are stored as they come.
func NewStore(schemas Schemas) *Store { return newStore(newMemory(schemas)) }

func newStore(o objects) *Store {
	return &Store{objects: o, allowed: unlimited, calls: map[string]bool{}}
}

// Calls lists what clients have asked for, sorted: a verb and the resource with its group, as in "patch ingresses.networking.k8s.io".
func (s *Store) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.calls))
}

// called notes a request. The caller holds the lock.
func (s *Store) called(verb string, k key) { s.calls[verb+" "+k.GroupResource().String()] = true }

// Get returns a copy of an object, nil if there is none.
func (s *Store) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects.get(keyOf(ref))
}

// Snapshot is the store as it is now, like a cache that lags behind.
func (s *Store) Snapshot() (router.Live, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	frozen := newMemory(nil)
	for _, k := range s.objects.keys() {
		o, err := s.objects.get(k)
		if err != nil {
			return nil, err
		}
		if o != nil {
			frozen.objects[k.stored()] = o
		}
	}
	return newStore(frozen), nil
}

// Writes lists the requests of clients that changed something, since the last call.
func (s *Store) Writes() []Write {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := s.writes
	s.writes = nil
	return writes
}

// AllowWrites makes all writes after the next n fail with ErrCrashed.
func (s *Store) AllowWrites(n int) { s.set(func() { s.allowed = n }) }

// BeforeWrite has somebody else act between a client's read and its next write.
func (s *Store) BeforeWrite(act func(Write)) { s.set(func() { s.beforeWrite = act }) }

// Mutate installs a webhook that changes every object before it is stored. A Server has none.
func (s *Store) Mutate(webhook func(*unstructured.Unstructured)) {
	s.set(func() {
		if m := s.memory(); m != nil {
			m.mutate = webhook
		}
	})
}

// memory is what the store holds, nil where that is a Server.
func (s *Store) memory() *memory {
	m, _ := s.objects.(*memory)
	return m
}

// strict is whether kinds have schemas, so that fields which these do not know are lost or refused.
func (s *Store) strict() bool {
	m := s.memory()
	return m == nil || m.schemas != nil
}

func (s *Store) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Edit changes an object as somebody else would. The change is not among the Writes.
func (s *Store) Edit(ref router.Ref, change func(*unstructured.Unstructured)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.objects.get(keyOf(ref))
	if err != nil {
		return err
	}
	if old == nil {
		return fmt.Errorf("%s does not exist", ref)
	}
	changed := old.DeepCopy()
	change(changed)
	return s.objects.put(keyOf(ref), changed, old)
}

// Put creates or replaces an object as somebody else would.
func (s *Store) Put(ref router.Ref, o *unstructured.Unstructured) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.objects.get(keyOf(ref))
	if err != nil {
		return err
	}
	return s.objects.put(keyOf(ref), o.DeepCopy(), old)
}

// Remove deletes an object of a store in memory as somebody else would.
func (s *Store) Remove(ref router.Ref) { _ = s.remove(ref) }

func (s *Store) remove(ref router.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects.remove(keyOf(ref))
}

// act runs a client's write: the interfering hook, the crash, then the write itself.
func (s *Store) act(verb string, k key, w Write, write func() (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	hook := s.beforeWrite
	s.beforeWrite = nil
	s.called(verb, k)
	s.mu.Unlock()
	if hook != nil {
		hook(w)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed == 0 {
		return nil, ErrCrashed
	}
	o, err := write()
	if err != nil {
		return nil, err
	}
	if s.allowed > 0 {
		s.allowed--
	}
	s.writes = append(s.writes, w)
	return o, nil
}

func (s *Store) create(k key, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return s.act("create", k, Write{router.Create, k.name, o.GetKind()}, func() (*unstructured.Unstructured, error) {
		return s.objects.create(k, o)
	})
}

func (s *Store) patch(k key, patch []byte) (*unstructured.Unstructured, error) {
	return s.act("patch", k, Write{router.Update, k.name, k.Resource}, func() (*unstructured.Unstructured, error) {
		return s.objects.patch(k, patch)
	})
}

var _ dynamic.Interface = (*Store)(nil)
