// Package kube is a client for the few built-in kinds that the operator knows the types of: Events, Leases and Secrets, which it neither
// watches nor copies. Everything else is read and written as unstructured objects, so that no field is lost that our types don't know.
//
// The clientset of client-go would do as well. It comes with the types, codecs and clients of all built-in kinds, though, which are
// more than a third of the program and of what it keeps in memory.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
)

// Events creates events.
type Events interface {
	CreateEvent(ctx context.Context, e *corev1.Event) error
}

// Leases reads and writes Leases.
type Leases interface {
	GetLease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error)
	CreateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error)
	// UpdateLease fails with a conflict unless the Lease is at the version of l.
	UpdateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error)
}

// Discovery tells what an API server serves.
type Discovery interface {
	// ServerResourcesForGroupVersion lists the resources of a group and version, such as apps/v1. One that is not served is an error
	// with the reason NotFound.
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// Versioned tells the version of Kubernetes of an API server.
type Versioned interface {
	ServerVersion() (*version.Info, error)
}

// Client implements the interfaces of this package. It is safe for concurrent use.
type Client struct {
	core, coordination *rest.RESTClient
	parameters         runtime.ParameterCodec
}

// NewForConfig returns a client with one limit of calls for all that it does.
func NewForConfig(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for group, types := range map[schema.GroupVersion][]runtime.Object{
		corev1.SchemeGroupVersion:         {&corev1.Event{}, &corev1.Secret{}},
		coordinationv1.SchemeGroupVersion: {&coordinationv1.Lease{}},
	} {
		scheme.AddKnownTypes(group, types...)
		metav1.AddToGroupVersion(scheme, group)
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	own := rest.CopyConfig(config)
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	own.ContentType = runtime.ContentTypeProtobuf
	own.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if own.UserAgent == "" {
		own.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	c := &Client{parameters: runtime.NewParameterCodec(scheme)}
	if c.core, err = restClient(own, httpClient, "/api", corev1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	c.coordination, err = restClient(own, httpClient, "/apis", coordinationv1.SchemeGroupVersion)
	return c, err
}

func restClient(config *rest.Config, httpClient *http.Client, path string, group schema.GroupVersion) (*rest.RESTClient, error) {
	own := rest.CopyConfig(config)
	own.APIPath, own.GroupVersion = path, &group
	client, err := rest.RESTClientForConfigAndClient(own, httpClient)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}

// CreateEvent implements Events.
func (c *Client) CreateEvent(ctx context.Context, e *corev1.Event) error {
	return c.core.Post().Namespace(e.Namespace).Resource("events").
		VersionedParams(&metav1.CreateOptions{}, c.parameters).Body(e).Do(ctx).Error()
}

// Secret reads a Secret with its contents.
func (c *Client) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	return secret, c.core.Get().Namespace(namespace).Resource("secrets").Name(name).Do(ctx).Into(secret)
}

// GetLease implements Leases.
func (c *Client) GetLease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	return lease, c.coordination.Get().Namespace(namespace).Resource("leases").Name(name).Do(ctx).Into(lease)
}

// CreateLease implements Leases.
func (c *Client) CreateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	stored := &coordinationv1.Lease{}
	return stored, c.coordination.Post().Namespace(l.Namespace).Resource("leases").Body(l).Do(ctx).Into(stored)
}

// UpdateLease implements Leases.
func (c *Client) UpdateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	stored := &coordinationv1.Lease{}
	return stored, c.coordination.Put().Namespace(l.Namespace).Resource("leases").Name(l.Name).Body(l).Do(ctx).Into(stored)
}

// ServerResourcesForGroupVersion implements Discovery.
func (c *Client) ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error) {
	path := "/apis/" + groupVersion
	if groupVersion == corev1.SchemeGroupVersion.String() {
		path = "/api/" + groupVersion
	}
	list := &metav1.APIResourceList{}
	return list, c.json(path, list)
}

// ServerVersion implements Versioned.
func (c *Client) ServerVersion() (*version.Info, error) {
	info := &version.Info{}
	return info, c.json("/version", info)
}

// json reads what has no kind that a codec would know.
func (c *Client) json(path string, into any) error {
	raw, err := c.core.Get().AbsPath(path).SetHeader("Accept", runtime.ContentTypeJSON).DoRaw(context.Background())
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
