package cache

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/workload"
)

// part is some of the objects of a resource, which one informer watches.
type part struct {
	// selector is a field selector, empty for all.
	selector string
	// outlined parts come without contents.
	outlined bool
}

// partsOf says in which parts a resource is watched. Only Secrets of some types are ever read: of all others, such as the releases
// of Helm, it is enough to know that they exist. A field selector has no "or", so each type that is read is a part.
func (i *informers) partsOf(resource schema.GroupVersionResource) []part {
	if i.outlines == nil || resource != corev1.SchemeGroupVersion.WithResource("secrets") {
		return []part{{}}
	}
	var parts []part
	var others []string
	for _, t := range workload.TrackedSecretTypes() {
		parts = append(parts, part{selector: fields.OneTermEqualSelector("type", t).String()})
		others = append(others, fields.OneTermNotEqualSelector("type", t).String())
	}
	return append(parts, part{selector: strings.Join(others, ","), outlined: true})
}

// newInformer returns an informer of a part of a resource that reads in pages. It was not started.
func (i *informers) newInformer(resource schema.GroupVersionResource, namespace string, p part, k *packer, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	var lw toolscache.ListerWatcher
	if p.outlined {
		lw = outlineWatcher(i.outlines, resource, namespace, p.selector, k)
	} else {
		lw = objectWatcher(i.client, resource, namespace, p.selector, k)
	}
	return toolscache.NewSharedIndexInformerWithOptions(lw, &unstructured.Unstructured{}, toolscache.SharedIndexInformerOptions{
		Indexers: indexers, ObjectDescription: resource.String(),
	})
}

func objectWatcher(client dynamic.Interface, resource schema.GroupVersionResource, namespace, selector string, k *packer) toolscache.ListerWatcher {
	objects := client.Resource(resource).Namespace(namespace)
	return toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return listPages(ctx, o, objects.List, k.transform)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return objects.Watch(ctx, o)
		},
	}, client)
}

// outlineWatcher watches the metadata of Secrets. The API server leaves the contents out: they never come over the wire.
func outlineWatcher(client metadata.Interface, resource schema.GroupVersionResource, namespace, selector string, k *packer) toolscache.ListerWatcher {
	objects := client.Resource(resource).Namespace(namespace)
	list := func(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
		page, err := objects.List(ctx, o)
		if err != nil {
			return nil, err
		}
		all := &unstructured.UnstructuredList{Object: map[string]any{}}
		all.SetResourceVersion(page.ResourceVersion)
		all.SetContinue(page.Continue)
		for i := range page.Items {
			all.Items = append(all.Items, *workload.Outline(&page.Items[i]))
		}
		return all, nil
	}
	return toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return listPages(ctx, o, list, k.transform)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			w, err := objects.Watch(ctx, o)
			if err != nil {
				return nil, err
			}
			return watch.Filter(w, outlined), nil
		},
	}, client)
}

// outlined turns an event about metadata into one about an outline.
func outlined(e watch.Event) (watch.Event, bool) {
	m, ok := e.Object.(*metav1.PartialObjectMetadata)
	if !ok {
		return e, true
	}
	u := workload.Outline(m)
	if e.Type == watch.Bookmark {
		// An annotation says that all objects there are have been sent.
		u.SetAnnotations(m.Annotations)
	}
	e.Object = u
	return e, true
}
