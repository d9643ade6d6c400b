package cache

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/router"
)

// EndpointSlices have generated names, and a Service may have any number of them. Whoever reads them names the Service in their
// place. The Endpoints object of a Service would have its name, but it is deprecated, and a cluster need not write it any more.

func slicesResource() schema.GroupVersionResource {
	return discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
}

// SlicesRef stands for all EndpointSlices of a Service.
func SlicesRef(namespace, service string) router.Ref {
	return router.Ref{Resource: slicesResource(), Kind: "EndpointSlice", Namespace: namespace, Name: service}
}

// readAs is the key that an object is read by: its own, and for an EndpointSlice that of its Service.
func readAs(resource schema.GroupVersionResource, p *packed) ObjectKey {
	o := KeyOfObject(resource, p)
	if resource == slicesResource() {
		o.Name = entriesIn(p).service
	}
	return o
}

// serviceOfSlice is the name of the Service of an EndpointSlice, empty for anything else.
func serviceOfSlice(u *unstructured.Unstructured) string {
	if u.GetKind() != "EndpointSlice" {
		return ""
	}
	return u.GetLabels()[discoveryv1.LabelServiceName]
}

// indexByService is the index of the EndpointSlices, by namespace and name of their Service.
func indexByService(item any) ([]string, error) {
	if p, ok := item.(*packed); ok && entriesIn(p).service != "" {
		return []string{toolscache.NewObjectName(p.namespace, entriesIn(p).service).String()}, nil
	}
	return nil, nil
}

// Slices returns the EndpointSlices of a Service, as far as they are watched.
func (i *informers) Slices(namespace, service string) []*unstructured.Unstructured {
	return i.indexed(slicesResource(), ofService, toolscache.NewObjectName(namespace, service).String())
}

// trimSlice leaves of the endpoints of an EndpointSlice whether any is ready, which is all that is asked. One that does not say
// counts as ready.
func trimSlice(u *unstructured.Unstructured) {
	endpoints, ok := u.Object["endpoints"].([]any)
	if !ok || u.GetKind() != "EndpointSlice" {
		return
	}
	some := false
	for _, item := range endpoints {
		if endpoint, ok := item.(map[string]any); ok && !some {
			ready, said, err := unstructured.NestedBool(endpoint, "conditions", "ready")
			some = err == nil && (ready || !said)
		}
	}
	u.Object["endpoints"] = []any{map[string]any{"conditions": map[string]any{"ready": some}}}
}
