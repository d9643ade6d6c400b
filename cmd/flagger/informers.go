package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/client/clientset/versioned/scheme"
)

// flaggerClient is the client of our own kinds that have types here. The generated clientset would do as well, but the configurations
// for server-side apply that come with it need the types of all built-in kinds: see package kube.
func flaggerClient(cfg *rest.Config) (rest.Interface, error) {
	own := rest.CopyConfig(cfg)
	own.APIPath, own.GroupVersion = "/apis", &v1beta1.SchemeGroupVersion
	own.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}
	return client, nil
}

// informer returns the cache of one of our kinds, by its name in the plural and an example. It was not started.
func informer(client rest.Interface, plural, namespace string, example runtime.Object) cache.SharedIndexInformer {
	objects := cache.NewListWatchFromClient(client, plural, namespace, fields.Everything())
	return cache.NewSharedIndexInformer(objects, example, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
}
