package conformance

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// Resource returns a client that can get, create, patch and delete. Other verbs are answered as a server without them
// would.
func (s *Store) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return &client{store: s, resource: resource}
}

type client struct {
	store     *Store
	resource  schema.GroupVersionResource
	namespace string
}

func (c *client) key(name string) key {
	return key{c.resource, c.namespace, name}
}

func (c *client) refuse(verb string) error {
	return apierrors.NewMethodNotSupported(c.resource.GroupResource(), verb)
}

func (c *client) Namespace(namespace string) dynamic.ResourceInterface {
	return &client{store: c.store, resource: c.resource, namespace: namespace}
}

func (c *client) Create(_ context.Context, o *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	return c.store.create(c.key(o.GetName()), o)
}

func (c *client) Patch(_ context.Context, name string, kind types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*unstructured.Unstructured, error) {
	if kind != types.MergePatchType {
		return nil, c.refuse("patch " + string(kind))
	}
	return c.store.patch(c.key(name), data)
}

func (c *client) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.called("get", c.key(name))
	return c.store.objects.read(c.key(name))
}

func (c *client) Delete(_ context.Context, name string, _ metav1.DeleteOptions, _ ...string) error {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.called("delete", c.key(name))
	return c.store.objects.delete(c.key(name))
}

func (c *client) Update(context.Context, *unstructured.Unstructured, metav1.UpdateOptions, ...string) (*unstructured.Unstructured, error) {
	return nil, c.refuse("update")
}

func (c *client) UpdateStatus(context.Context, *unstructured.Unstructured, metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	return nil, c.refuse("update status")
}

func (c *client) DeleteCollection(context.Context, metav1.DeleteOptions, metav1.ListOptions) error {
	return c.refuse("delete collection")
}

func (c *client) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	return nil, c.refuse("list")
}

func (c *client) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return nil, c.refuse("watch")
}

func (c *client) Apply(context.Context, string, *unstructured.Unstructured, metav1.ApplyOptions, ...string) (*unstructured.Unstructured, error) {
	return nil, c.refuse("apply")
}

func (c *client) ApplyStatus(context.Context, string, *unstructured.Unstructured, metav1.ApplyOptions) (*unstructured.Unstructured, error) {
	return nil, c.refuse("apply status")
}
