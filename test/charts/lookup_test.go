package charts

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
)

// found is what the function lookup of templates gets from a cluster. As with the real one, a kind that is not served is an error, which
// ends the installation.
type found cluster

// GetClientFor is the interface of both versions of Helm.
func (f found) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	resources := map[string]string{"Canary": "canaries", "CustomResourceDefinition": "customresourcedefinitions"}
	if kind != "CustomResourceDefinition" && !slices.Contains(f.apis, apiVersion+"/"+kind) {
		return nil, false, fmt.Errorf("unable to get apiresource from unstructured: %s", gvk)
	}
	resource := gvk.GroupVersion().WithResource(resources[kind])
	var objects []runtime.Object
	for _, u := range f.objects {
		if u.GroupVersionKind() == gvk {
			objects = append(objects, u)
		}
	}
	lists := map[schema.GroupVersionResource]string{resource: kind + "List"}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, objects...)
	return client.Resource(resource), kind == "Canary", nil
}
