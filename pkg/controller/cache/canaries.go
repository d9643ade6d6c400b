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
	decoder  *objects.Decoder
	// outdated is set while the API server drops what we write into the status.
	outdated atomic.Bool
}

// UndecodableError is a Canary that does not fit our types.
type UndecodableError struct{ cause error }

func (e UndecodableError) Error() string { return e.cause.Error() }

// NewCanaries returns the store of the Canaries of a cluster, which is empty before Run. It has the given indexes besides those
// that it needs itself. onEvent is told of every change, with old nil for an addition and current nil for a deletion.
func NewCanaries(cluster *Cluster, indexers toolscache.Indexers, onEvent func(old, current *unstructured.Unstructured)) (*Canaries, error) {
	informer := cluster.newInformer(CanaryResource, cluster.namespace, part{}, indexers)
	err := informer.AddIndexers(toolscache.Indexers{byTarget: indexWorkloads, byService: IndexBy(serviceOf), byScaler: IndexBy(scalerOf)})
	if err != nil {
		return nil, fmt.Errorf("watching canaries: %w", err)
	}
	if err := cluster.configure(informer, toolscache.DefaultWatchErrorHandler, func(old, current *unstructured.Unstructured) {
		cluster.consistency.onEvent(CanaryResource, old, current)
		onEvent(old, current)
	}); err != nil {
		return nil, fmt.Errorf("watching canaries: %w", err)
	}
	return &Canaries{cluster: cluster, informer: informer, decoder: objects.NewDecoder()}, nil
}

// Run fills the store and keeps it up to date until ctx ends.
func (s *Canaries) Run(ctx context.Context) { s.informer.RunWithContext(ctx) }

// HasSynced is whether the store has been filled.
func (s *Canaries) HasSynced() bool { return s.informer.HasSynced() }

// Indexer is the store as the informer fills it. It does not know what was written a moment ago.
func (s *Canaries) Indexer() toolscache.Indexer { return s.informer.GetIndexer() }

// IndexBy is an index of Canaries by one value.
func IndexBy(value func(*unstructured.Unstructured) string) toolscache.IndexFunc {
	return func(item any) ([]string, error) {
		u, ok := item.(*unstructured.Unstructured)
		if !ok {
			return nil, nil
		}
		return []string{value(u)}, nil
	}
}

// indexWorkloads is an index of Canaries by the workloads that they write to.
func indexWorkloads(item any) ([]string, error) {
	u, ok := item.(*unstructured.Unstructured)
	if !ok {
		return nil, nil
	}
	return workloadsOf(u), nil
}

// Get returns the newest known state of a Canary, nil if it does not exist. An object that does not fit our types comes
// with an error of type UndecodableError. What earlier calls, also of WriteStatus, have returned, nil for nothing, is returned once more
// if the Canary is at that version: most passes come of other objects, or of their own writes. So nobody may change it.
func (s *Canaries) Get(key string, earlier ...*v1beta1.Canary) (*v1beta1.Canary, *unstructured.Unstructured, error) {
	u, err := s.Object(key)
	if err != nil || u == nil {
		return nil, nil, err
	}
	for _, c := range earlier {
		if IsAt(c, u) {
			return c, u, nil
		}
	}
	c, err := Decode(u)
	return c, u, err
}

// IsAt is whether a Canary, which may be nil, was decoded from an object at this version.
func IsAt(c *v1beta1.Canary, u *unstructured.Unstructured) bool {
	return c != nil && c.UID == u.GetUID() && c.ResourceVersion != "" && c.ResourceVersion == u.GetResourceVersion()
}

// Object returns the newest known state of a Canary whether it can be decoded or not, nil if it does not exist.
func (s *Canaries) Object(key string) (*unstructured.Unstructured, error) {
	item, exists, err := s.informer.GetIndexer().GetByKey(key)
	if err != nil || !exists {
		return nil, err
	}
	u, ok := item.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("canary %s: unexpected type %T in the cache", key, item)
	}
	return s.cluster.consistency.newest(KeyOfObject(CanaryResource, u), u), nil
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
