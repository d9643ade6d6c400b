// Package manifest applies YAML documents to a cluster, as kubectl does.
package manifest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// fieldManager owns the applied fields.
const fieldManager = "testbed"

// crd is the resource of custom resource definitions.
func crd() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

// Applier applies objects.
type Applier struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

// NewApplier returns an applier that acts as config says.
func NewApplier(config *rest.Config) (*Applier, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("discovery client: %w", err)
	}
	return &Applier{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))}, nil
}

// Parse splits YAML documents into objects; empty documents are left out.
func Parse(content []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read YAML: %w", err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return nil, fmt.Errorf("parse YAML document %d: %w", len(objects)+1, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// Apply applies the documents in their order; objects without namespace that
// need one go to the given one. It returns when the custom resource
// definitions among them are served.
func (a *Applier) Apply(ctx context.Context, content []byte, namespace string) error {
	objects, err := Parse(content)
	if err != nil {
		return err
	}
	return a.ApplyObjects(ctx, namespace, objects...)
}

// ApplyObjects is Apply for parsed documents.
func (a *Applier) ApplyObjects(ctx context.Context, namespace string, objects ...*unstructured.Unstructured) error {
	var crds []string
	for _, object := range objects {
		if err := a.apply(ctx, object, namespace); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if object.GetKind() == "CustomResourceDefinition" {
			crds = append(crds, object.GetName())
		}
	}
	for _, name := range crds {
		if err := a.waitEstablished(ctx, name); err != nil {
			return fmt.Errorf("wait for CustomResourceDefinition %s: %w", name, err)
		}
	}
	if len(crds) > 0 {
		a.mapper.Reset()
	}
	return nil
}

// Resource returns the client for the objects of a kind.
func (a *Applier) Resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return a.client.Resource(mapping.Resource).Namespace(namespace), nil
	}
	return a.client.Resource(mapping.Resource), nil
}

func (a *Applier) apply(ctx context.Context, object *unstructured.Unstructured, namespace string) error {
	if own := object.GetNamespace(); own != "" {
		namespace = own
	}
	client, err := a.Resource(object.GroupVersionKind(), namespace)
	if err != nil {
		return err
	}
	_, err = client.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}

// Limits of the wait for a custom resource definition; some 100 ms are usual.
const (
	establishTimeout = 5 * time.Minute
	establishPoll    = 25 * time.Millisecond
)

func (a *Applier) waitEstablished(ctx context.Context, name string) error {
	poll := func(ctx context.Context) (bool, error) {
		object, err := a.client.Resource(crd()).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return hasCondition(object, "Established"), nil
	}
	return wait.PollUntilContextTimeout(ctx, establishPoll, establishTimeout, true, poll)
}

// hasCondition tells whether the object's condition has the status True.
func hasCondition(object *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == kind && m["status"] == "True" {
			return true
		}
	}
	return false
}
