package controller

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/router"
)

// site is a cluster as the Controller reads and writes it. The one of the mesh also leads to those objects of providers that are
// with the workloads, so that whoever handles the objects of a provider need not know where each of them is.
type site struct {
	*cache.Cluster
	applier *router.Applier
	// workloads is the cluster of the workloads, nil for that one itself.
	workloads *site
}

func (c *Controller) newSite(cluster Cluster) *site {
	cached := cache.NewCluster(cache.Config{
		Client: cluster.Dynamic, Metadata: cluster.Metadata, Discovery: cluster.Discovery, Clock: c.Clock, Namespace: c.Namespace,
		OnEvent: c.onObject, OnState: c.onResource,
	})
	return &site{Cluster: cached, applier: router.NewApplier(cached.Client(), cached)}
}

// of returns where the objects of a resource are.
func (s *site) of(resource schema.GroupVersionResource) *site {
	if s.workloads != nil && router.WithWorkloads(resource) {
		return s.workloads
	}
	return s
}

// Ensure makes sure that a resource is watched where its objects are.
func (s *site) Ensure(resource schema.GroupVersionResource, key string) (cache.Availability, string) {
	return s.of(resource).Cluster.Ensure(resource, key)
}

// Ready returns nil when a resource can be read, and why not otherwise.
func (s *site) Ready(resource schema.GroupVersionResource) error {
	return s.of(resource).Cluster.Ready(resource)
}

// Get implements router.Live.
func (s *site) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	return s.of(ref.Resource).Cluster.Get(ref)
}

// Version implements cache.Live.
func (s *site) Version(ref router.Ref) (cache.Version, error) {
	return s.of(ref.Resource).Cluster.Version(ref)
}

// Diff tells what Apply would write.
func (s *site) Diff(c *v1beta1.Canary, objects []router.Object) ([]router.Change, error) {
	return s.DiffFrom(s, c, objects)
}

// DiffFrom is Diff with the objects that live finds.
func (s *site) DiffFrom(live router.Live, c *v1beta1.Canary, objects []router.Object) ([]router.Change, error) {
	var all []router.Change
	for i := range objects {
		changes, err := s.of(objects[i].Ref.Resource).applier.Reading(live).Diff(c, objects[i:i+1])
		if err != nil {
			return nil, err
		}
		all = append(all, changes...)
	}
	return all, nil
}

// Apply makes the objects as wanted, in their order, and stops at the first failure.
func (s *site) Apply(ctx context.Context, c *v1beta1.Canary, objects []router.Object) error {
	for i := range objects {
		if err := s.of(objects[i].Ref.Resource).applier.Apply(ctx, c, objects[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// Write makes a change that Diff has told of, about an object that was wanted.
func (s *site) Write(ctx context.Context, c *v1beta1.Canary, object *router.Object, change *router.Change) error {
	return s.of(change.Ref.Resource).applier.Write(ctx, c, object, change)
}

// Delete deletes objects, in their order, that the Canary still controls.
func (s *site) Delete(ctx context.Context, c *v1beta1.Canary, refs []router.Ref) error {
	for i := range refs {
		if err := s.of(refs[i].Resource).applier.Delete(ctx, c, refs[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}
