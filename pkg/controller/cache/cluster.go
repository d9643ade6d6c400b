package cache

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/kube"
	"flagger.app/flagger/pkg/router"
)

// Config is what the caches of a cluster are made of.
type Config struct {
	Client dynamic.Interface
	// Metadata reads what Secrets there are without their contents, and who wrote an object. Without it all is read whole by Client.
	Metadata  metadata.Interface
	Discovery kube.Discovery
	Clock     clock.Clock
	// Namespace restricts what is watched to one namespace. Empty means all.
	Namespace string
	// OnEvent is told of every change.
	OnEvent func(Event)
	// OnState is told when a resource became readable, or stopped being so, with the keys of those who waited for it.
	OnState func(resource schema.GroupVersionResource, waiters []string)
}

// Event is a change of an object.
type Event struct {
	Resource schema.GroupVersionResource
	// ReadAs is the key that the object is read by, which for an EndpointSlice is that of its Service.
	ReadAs ObjectKey
	// Version is the one that the object is at, empty for a deletion.
	Version Version
	// Old and Current return the object before and after, nil for an addition and for a deletion. Most events are of no interest, so
	// that what was not asked for is not decoded.
	Old, Current func() *unstructured.Unstructured
}

func eventOf(resource schema.GroupVersionResource, old, current *packed) Event {
	present := current
	if current == nil {
		present = old
	}
	return Event{Resource: resource, ReadAs: readAs(resource, present), Version: current.at(), Old: old.object, Current: current.object}
}

// Cluster is a cluster as it can be read without a call. It implements router.Live.
type Cluster struct {
	*informers
	recording   recordingClient
	consistency *consistency
}

// NewCluster returns the caches of a cluster. They are empty before Start.
func NewCluster(cfg Config) *Cluster {
	i := &informers{
		client:    cfg.Client,
		outlines:  cfg.Metadata,
		discovery: cfg.Discovery,
		clock:     cfg.Clock,
		namespace: cfg.Namespace,
		onState:   cfg.OnState,
		codec:     newCodec(),
	}
	w := newConsistency(cfg.Clock, func(resource schema.GroupVersionResource) bool {
		// The Canaries have an informer of their own.
		return resource == CanaryResource || i.asked(resource)
	})
	i.onEvent = func(resource schema.GroupVersionResource, old, current *packed) {
		w.onEvent(resource, old, current)
		cfg.OnEvent(eventOf(resource, old, current))
	}
	return &Cluster{informers: i, recording: recordingClient{cfg.Client, w}, consistency: w}
}

// Client writes to the cluster, so that what was written can be read back at once.
func (c *Cluster) Client() dynamic.Interface { return c.recording }

// Managed returns an object with the record of who wrote which field, which no cache has: its metadata, where that can be read alone.
func (c *Cluster) Managed(ctx context.Context, ref router.Ref) (*unstructured.Unstructured, error) {
	if c.outlines == nil {
		return c.client.Resource(ref.Resource).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	m, err := c.outlines.Resource(ref.Resource).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return &unstructured.Unstructured{Object: fields}, nil
}

// Get returns the newest known state of an object, nil if it does not exist.
func (c *Cluster) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	o := KeyOfRef(ref)
	cached, err := c.get(o)
	if err != nil {
		return nil, err
	}
	return c.consistency.newest(o, cached).object(), nil
}

// Version returns the version of the newest known state of an object. It decodes nothing.
func (c *Cluster) Version(ref router.Ref) (Version, error) {
	o := KeyOfRef(ref)
	cached, err := c.get(o)
	if err != nil {
		return Version{}, err
	}
	return c.consistency.newest(o, cached).version(), nil
}
