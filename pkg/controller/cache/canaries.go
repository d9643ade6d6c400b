package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/kube/objects"
)

// CanaryResource are read as unstructured objects: one Canary that does not fit our types must not keep all others out of
// the list.
var CanaryResource = v1beta1.SchemeGroupVersion.WithResource("canaries")

// Canaries is the store of all Canaries.
type Canaries struct {
	cluster  *Cluster
	informer toolscache.SharedIndexInformer
	// outdated is set while the API server drops what we write into the status.
	outdated atomic.Bool
}

// UndecodableError is a Canary that does not fit our types.
type UndecodableError struct{ cause error }

func (e UndecodableError) Error() string { return e.cause.Error() }

// NewCanaries returns the store of the Canaries of a cluster, which is empty before Run. It has the given indexes besides those
// that it needs itself. An excerpt is taken of each Canary, for Excerpts, and may be nil. onEvent is told of every change, with old nil for
// an addition and current nil for a deletion.
func NewCanaries(cluster *Cluster, indexers toolscache.Indexers, excerpt func(*unstructured.Unstructured) any,
	onEvent func(old, current *unstructured.Unstructured)) (*Canaries, error) {
	k := cluster.codec.newPacker(excerpt)
	informer := cluster.newInformer(CanaryResource, cluster.namespace, part{}, k, indexers)
	err := informer.AddIndexers(toolscache.Indexers{
		byTarget: IndexBy(workloadsOf), byService: IndexBy(one(serviceOf)), byScaler: IndexBy(scalersOf),
	})
	if err != nil {
		return nil, fmt.Errorf("watching canaries: %w", err)
	}
	if err := configure(informer, k, toolscache.DefaultWatchErrorHandler, func(old, current *packed) {
		cluster.consistency.onEvent(CanaryResource, old, current)
		onEvent(old.object(), current.object())
	}); err != nil {
		return nil, fmt.Errorf("watching canaries: %w", err)
	}
	return &Canaries{cluster: cluster, informer: informer}, nil
}

// Run fills the store and keeps it up to date until ctx ends.
func (s *Canaries) Run(ctx context.Context) { s.informer.RunWithContext(ctx) }

// HasSynced is whether the store has been filled.
func (s *Canaries) HasSynced() bool { return s.informer.HasSynced() }

// The store as the informer fills it, which Keys, KeysBy and Excerpts read, does not know what was written a moment ago.

// Keys are the keys of all Canaries.
func (s *Canaries) Keys() []string { return s.informer.GetIndexer().ListKeys() }

// KeysBy are the keys of the Canaries that an index has under a value.
func (s *Canaries) KeysBy(index, value string) []string {
	// It fails for an index that there is not.
	keys, _ := s.informer.GetIndexer().IndexKeys(index, value)
	return keys
}

// Excerpts are those of the Canaries that an index has under a value.
func (s *Canaries) Excerpts(index, value string) []any {
	items, _ := s.informer.GetIndexer().ByIndex(index, value)
	var all []any
	for _, item := range items {
		if p, ok := item.(*packed); ok {
			all = append(all, p.excerpt)
		}
	}
	return all
}

// IndexBy is an index of Canaries by any number of values.
func IndexBy(values func(*unstructured.Unstructured) []string) toolscache.IndexFunc {
	return func(item any) ([]string, error) {
		if u := unpack(item); u != nil {
			return values(u), nil
		}
		return nil, nil
	}
}

func one(value func(*unstructured.Unstructured) string) func(*unstructured.Unstructured) []string {
	return func(u *unstructured.Unstructured) []string { return []string{value(u)} }
}

// Get returns the newest known state of a Canary, nil if it does not exist. An object that does not fit our types comes
// with an error of type UndecodableError. What earlier calls, also of WriteStatus, have returned, nil for nothing, is returned once more
// if the Canary is at that version: most passes come of other objects, or of their own writes. So nobody may change it. The object, which
// hardly any of these passes needs, comes to whoever asks for it.
func (s *Canaries) Get(key string, earlier ...*v1beta1.Canary) (*v1beta1.Canary, func() *unstructured.Unstructured, error) {
	newest, err := s.newest(key)
	if err != nil || newest == (state{}) {
		return nil, nil, err
	}
	version := newest.version()
	for _, c := range earlier {
		if isAt(c, version) {
			return c, newest.object, nil
		}
	}
	c, err := Decode(newest.object())
	return c, newest.object, err
}

// IsAt is whether a Canary, which may be nil, was decoded from an object at this version.
func IsAt(c *v1beta1.Canary, u *unstructured.Unstructured) bool { return isAt(c, VersionOf(u)) }

func isAt(c *v1beta1.Canary, version Version) bool {
	return c != nil && version.IsKnown() && Version{c.UID, c.ResourceVersion} == version
}

// Object returns the newest known state of a Canary whether it can be decoded or not, nil if it does not exist.
func (s *Canaries) Object(key string) (*unstructured.Unstructured, error) {
	newest, err := s.newest(key)
	return newest.object(), err
}

// newest is empty for a Canary that does not exist.
func (s *Canaries) newest(key string) (state, error) {
	p, err := s.stored(key)
	if err != nil || p == nil {
		return state{}, err
	}
	return s.cluster.consistency.newest(KeyOfObject(CanaryResource, p), p), nil
}

// stored is a Canary as the informer last saw it, nil if it does not exist.
func (s *Canaries) stored(key string) (*packed, error) {
	item, exists, err := s.informer.GetIndexer().GetByKey(key)
	if err != nil || !exists {
		return nil, err
	}
	p, ok := item.(*packed)
	if !ok {
		return nil, fmt.Errorf("canary %s: unexpected type %T in the cache", key, item)
	}
	return p, nil
}

// Decode goes through JSON because that checks number ranges, which a field-wise conversion silently truncates.
func Decode(u *unstructured.Unstructured) (*v1beta1.Canary, error) {
	data, err := objects.Marshal(u.Object)
	if err != nil {
		return nil, UndecodableError{err}
	}
	c := &v1beta1.Canary{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, UndecodableError{readable(err)}
	}
	return c, nil
}

// readable names the field where the decoder names Go types.
func readable(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	return fmt.Errorf("%s: %s is not usable here, expected %s; correct the field", wrong.Field, wrong.Value, plain(wrong))
}

func plain(e *json.UnmarshalTypeError) string {
	switch e.Type.String() {
	case "int32", "int64", "int":
		return "a whole number"
	case "float64":
		return "a number"
	default:
		return e.Type.String()
	}
}

// Key is the key of a Canary in queue and cache.
func Key(o metav1.Object) string {
	return toolscache.NewObjectName(o.GetNamespace(), o.GetName()).String()
}
