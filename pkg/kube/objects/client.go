// Package objects is a dynamic client that decodes what an API server says in one pass over it. The client of client-go gives the same
// objects, but reads each event of a watch some ten times: to find its end, to check it, to find its kind, and once more for each of the
// types that it is unpacked through. For an operator that mostly listens that is much of what it does.
//
// Only what the operator gets all the time is decoded here: events of watches, lists and single objects in JSON. Whatever is anything
// else, or looks odd in any way, is left to client-go, so that a failure is the one that it would have been. What it sends is encoded in
// one pass as well.
package objects

import (
	"fmt"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// NewForConfig returns a dynamic client that leaves out of all that it reads what no cache keeps, metadata.managedFields. Who wants to
// know about them asks a client for metadata.
func NewForConfig(config *rest.Config) (dynamic.Interface, error) {
	own := dynamic.ConfigFor(config)
	own.NegotiatedSerializer = faster(own.NegotiatedSerializer)
	// The dynamic client names the whole path of each call.
	own.GroupVersion, own.APIPath = nil, "/"
	httpClient, err := rest.HTTPClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	client, err := rest.UnversionedRESTClientForConfigAndClient(own, httpClient)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return dynamic.New(client), nil
}
