package services

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Endpoints is what is known of the pods that service.port of the primary or the canary Service leads to.
type Endpoints struct {
	// Wanted is whether the Service leads to the container port that the Canary wants.
	Wanted bool
	// Ready is whether it selects ready pods, Served whether such pods have the container port that it leads to now, wanted or not.
	Ready, Served bool
	// Used is whether the Service that clients use leads to the pods of the primary.
	Used bool
}

// EndpointsOf tells about a Service of one side and its EndpointSlices. All is false while there is no such Service.
func EndpointsOf(c *v1beta1.Canary, side router.Ref, in Input, live router.Live, endpointSlices []*unstructured.Unstructured) (Endpoints, error) {
	apexRef, _, _ := Refs(c)
	service, err := live.Get(side)
	if err != nil || service == nil {
		return Endpoints{}, wrapped(side, err)
	}
	apex, err := live.Get(apexRef)
	if err != nil {
		return Endpoints{}, wrapped(apexRef, err)
	}
	e := Endpoints{Used: apex != nil && leadsToPrimary(apex, in)}
	main := mainPort(&c.Spec.Service)
	name := main.name
	for _, p := range livePorts(service) {
		if p.protocol == main.protocol && p.target == main.target {
			name, e.Wanted = p.name, true
		} else if p.number == main.number && !e.Wanted {
			name = p.name
		}
	}
	for _, slice := range endpointSlices {
		if hasReady(slice) {
			e.Ready = true
			e.Served = e.Served || hasPort(slice, name)
		}
	}
	return e, nil
}

func wrapped(ref router.Ref, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", ref, err)
}

// hasReady is whether any endpoint of a slice is ready. One that does not say counts as ready.
func hasReady(slice *unstructured.Unstructured) bool {
	for _, endpoint := range mapsIn(slice.Object, "endpoints") {
		if ready, said, err := unstructured.NestedBool(endpoint, "conditions", "ready"); err == nil && (ready || !said) {
			return true
		}
	}
	return false
}

// hasPort is whether the endpoints of a slice have the port that a port of the Service leads to. The slice calls it by the name of
// the latter.
func hasPort(slice *unstructured.Unstructured, name string) bool {
	for _, p := range mapsIn(slice.Object, "ports") {
		protocol, _ := p["protocol"].(string)
		called, _ := p["name"].(string)
		if called == name && (protocol == "" || protocol == string(corev1.ProtocolTCP)) {
			return true
		}
	}
	return false
}
