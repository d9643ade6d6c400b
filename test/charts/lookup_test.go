package charts

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
)

// found are the objects of a cluster, for the function lookup of templates.
type found []*unstructured.Unstructured

// GetClientFor is the interface of both versions of Helm.
func (f found) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	resources := map[string]string{"Canary": "canaries", "Namespace": "namespaces", "CustomResourceDefinition": "customresourcedefinitions"}
	resource := gvk.GroupVersion().WithResource(resources[kind])
	var objects []runtime.Object
	for _, u := range f {
		if u.GroupVersionKind() == gvk {
			objects = append(objects, u)
		}
	}
	lists := map[schema.GroupVersionResource]string{resource: kind + "List"}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, objects...)
	return client.Resource(resource), kind == "Canary", nil
}
