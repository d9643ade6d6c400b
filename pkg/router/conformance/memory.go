package conformance

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// memory are objects of a Store that no server holds.
type memory struct {
	objects  map[key]*unstructured.Unstructured
	versions int
	schemas  Schemas
	mutate   func(*unstructured.Unstructured)
}

func newMemory(schemas Schemas) *memory {
	return &memory{objects: map[key]*unstructured.Unstructured{}, schemas: schemas}
}

// stored is a key by which an object is found in every version of its group.
func (k key) stored() key {
	k.Version = ""
	return k
}

func (m *memory) get(k key) (*unstructured.Unstructured, error) {
	return m.objects[k.stored()].DeepCopy(), nil
}

func (m *memory) keys() []key { return slices.Collect(maps.Keys(m.objects)) }

func (m *memory) remove(k key) error {
	delete(m.objects, k.stored())
	return nil
}

// put stores what the API server would make of an object.
func (m *memory) put(k key, o, old *unstructured.Unstructured) error {
	if m.mutate != nil {
		m.mutate(o)
	}
	if err := m.schemas.admit(o); err != nil {
		return err
	}
	m.versions++
	o.SetGeneration(1)
	o.SetUID(types.UID("uid-" + strconv.Itoa(m.versions)))
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
	o.SetResourceVersion(strconv.Itoa(m.versions))
	m.objects[k.stored()] = o
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

func (m *memory) read(k key) (*unstructured.Unstructured, error) {
	o := m.objects[k.stored()]
	if o == nil {
		return nil, apierrors.NewNotFound(k.GroupResource(), k.name)
	}
	return o.DeepCopy(), nil
}

func (m *memory) create(k key, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if m.objects[k.stored()] != nil {
		return nil, apierrors.NewAlreadyExists(k.GroupResource(), k.name)
	}
	if err := m.put(k, o.DeepCopy(), nil); err != nil {
		return nil, err
	}
	return m.read(k)
}

func (m *memory) patch(k key, patch []byte) (*unstructured.Unstructured, error) {
	old, err := m.read(k)
	if err != nil {
		return nil, err
	}
	changed, err := merge(old, patch)
	if err != nil {
		return nil, err
	}
	if changed.GetResourceVersion() != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(k.GroupResource(), k.name, errors.New("the object has been modified"))
	}
	if err := m.put(k, changed, old); err != nil {
		return nil, err
	}
	return m.read(k)
}

func (m *memory) delete(k key) error {
	if _, err := m.read(k); err != nil {
		return err
	}
	return m.remove(k)
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
