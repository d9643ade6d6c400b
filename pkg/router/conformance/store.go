package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/router"
)

// ErrCrashed is what a Store answers once it refuses writes.
var ErrCrashed = errors.New("the process is gone")

// Store is an API server in memory: optimistic locking, merge patches, generations and, with schemas, pruning, defaults and
// validation by the real CRD. It is a client and, read directly, a cache that never lags.
type Store struct {
	mu       sync.Mutex
	objects  map[key]*unstructured.Unstructured
	versions int
	writes   []Write
	// hooks are set by tests before anything runs.
	schemas     Schemas
	beforeWrite func(Write)
	mutate      func(*unstructured.Unstructured)
	allowed     int
	// calls are what clients asked for, whatever came of it.
	calls map[string]bool
}

// Write is one request that changed an object.
type Write struct {
	Op   router.Op
	Name string
	Kind string
}

type key struct{ group, resource, namespace, name string }

func keyOf(ref router.Ref) key {
	return key{ref.Resource.Group, ref.Resource.Resource, ref.Namespace, ref.Name}
}

// unlimited writes are allowed.
const unlimited = -1

// NewStore returns an empty store that admits by these schemas. Kinds without a schema are stored as they come.
func NewStore(schemas Schemas) *Store {
	return &Store{objects: map[key]*unstructured.Unstructured{}, schemas: schemas, allowed: unlimited, calls: map[string]bool{}}
}

// Calls lists what clients have asked for, sorted: a verb and the resource with its group, as in "patch ingresses.networking.k8s.io".
func (s *Store) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.calls))
}

// called notes a request. The caller holds the lock.
func (s *Store) called(verb string, k key) { s.calls[verb+" "+k.groupResource().String()] = true }

// Get returns a copy of an object, nil if there is none.
func (s *Store) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[keyOf(ref)].DeepCopy(), nil
}

// Snapshot is the store as it is now, like a cache that lags behind.
func (s *Store) Snapshot() router.Live {
	s.mu.Lock()
	defer s.mu.Unlock()
	frozen := NewStore(nil)
	for k, o := range s.objects {
		frozen.objects[k] = o.DeepCopy()
	}
	return frozen
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

// Mutate installs a webhook that changes every object before it is stored.
func (s *Store) Mutate(webhook func(*unstructured.Unstructured)) {
	s.set(func() { s.mutate = webhook })
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
	old := s.objects[keyOf(ref)]
	if old == nil {
		return fmt.Errorf("%s does not exist", ref)
	}
	changed := old.DeepCopy()
	change(changed)
	return s.put(keyOf(ref), changed, old)
}

// Put creates or replaces an object as somebody else would.
func (s *Store) Put(ref router.Ref, o *unstructured.Unstructured) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(keyOf(ref), o.DeepCopy(), s.objects[keyOf(ref)])
}

// Remove deletes an object as somebody else would.
func (s *Store) Remove(ref router.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, keyOf(ref))
}

// put stores what the API server would make of an object.
func (s *Store) put(k key, o, old *unstructured.Unstructured) error {
	if s.mutate != nil {
		s.mutate(o)
	}
	if err := s.schemas.admit(o); err != nil {
		return err
	}
	s.versions++
	o.SetGeneration(1)
	o.SetUID(types.UID("uid-" + strconv.Itoa(s.versions)))
	if old != nil {
		o.SetUID(old.GetUID())
		o.SetGeneration(old.GetGeneration())
		same, err := equalSpecs(old, o)
		if err != nil {
			return err
		}
		if !same {
			o.SetGeneration(old.GetGeneration() + 1)
		}
	}
	o.SetResourceVersion(strconv.Itoa(s.versions))
	s.objects[k] = o
	return nil
}

func equalSpecs(a, b *unstructured.Unstructured) (bool, error) {
	x, err := json.Marshal(a.Object["spec"])
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b.Object["spec"])
	return string(x) == string(y), err
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
	return o.DeepCopy(), nil
}

func (s *Store) create(k key, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return s.act("create", k, Write{router.Create, k.name, o.GetKind()}, func() (*unstructured.Unstructured, error) {
		if s.objects[k] != nil {
			return nil, apierrors.NewAlreadyExists(k.groupResource(), k.name)
		}
		if err := s.put(k, o.DeepCopy(), nil); err != nil {
			return nil, err
		}
		return s.objects[k], nil
	})
}

func (s *Store) patch(k key, patch []byte) (*unstructured.Unstructured, error) {
	return s.act("patch", k, Write{router.Update, k.name, k.resource}, func() (*unstructured.Unstructured, error) {
		old := s.objects[k]
		if old == nil {
			return nil, apierrors.NewNotFound(k.groupResource(), k.name)
		}
		changed, err := merge(old, patch)
		if err != nil {
			return nil, err
		}
		if changed.GetResourceVersion() != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(k.groupResource(), k.name, errors.New("the object has been modified"))
		}
		if err := s.put(k, changed, old); err != nil {
			return nil, err
		}
		return s.objects[k], nil
	})
}

func merge(o *unstructured.Unstructured, patch []byte) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(o.Object)
	if err != nil {
		return nil, err
	}
	if raw, err = jsonpatch.MergePatch(raw, patch); err != nil {
		return nil, err
	}
	merged := map[string]any{}
	if err := utiljson.Unmarshal(raw, &merged); err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: merged}, nil
}

var _ dynamic.Interface = (*Store)(nil)
