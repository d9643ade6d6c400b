// Package cachetest has what tests of caches need.
package cachetest

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
)

// Discovery is that of an API server on which resources come and go. They are namespaced but for those of ServeCluster.
type Discovery struct {
	*fakediscovery.FakeDiscovery

	mu     sync.Mutex
	served map[string]*metav1.APIResourceList
	err    error
}

// NewDiscovery returns the discovery of a server that serves nothing.
func NewDiscovery() *Discovery {
	return &Discovery{
		FakeDiscovery: &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}},
		served:        map[string]*metav1.APIResourceList{},
	}
}

// Serve makes resources known, and all others of the group unknown.
func (d *Discovery) Serve(groupVersion string, resources ...string) {
	list := &metav1.APIResourceList{GroupVersion: groupVersion}
	for _, r := range resources {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: r, Namespaced: true})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served[groupVersion] = list
}

// ServeCluster makes resources known that are in no namespace, and all others of the group unknown.
func (d *Discovery) ServeCluster(groupVersion string, resources ...string) {
	d.Serve(groupVersion, resources...)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.served[groupVersion].APIResources {
		d.served[groupVersion].APIResources[i].Namespaced = false
	}
}

// Unserve makes a group unknown.
func (d *Discovery) Unserve(groupVersion string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.served, groupVersion)
}

// Fail answers everything with an error.
func (d *Discovery) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// ServerResourcesForGroupVersion lists what is served of a group.
func (d *Discovery) ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	if list, ok := d.served[groupVersion]; ok {
		return list, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{}, groupVersion)
}
