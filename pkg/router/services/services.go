// Package services renders the three Services of a Canary: the apex that clients use, and one for each side.
package services

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Input is what the Services take from the target.
type Input struct {
	// Label is the key that selects the pods of the target, Value its value there. The pods of the primary carry
	// "<Value>-primary".
	Label, Value string
	// Primary is what selects the pods of the primary where that was made when the target had another label or value. Default:
	// Label and "<Value>-primary".
	Primary Selector
	// Apart are labels of the pods of the target that the canary Service selects by as well, because pods of the primary have Label
	// and Value, too.
	Apart map[string]string
	// Pods are the labels of the pods of the target, PrimaryPods those of the primary.
	Pods, PrimaryPods map[string]string
	// Ports are the container ports of the target. They are used with service.portDiscovery only.
	Ports []Port
}

// Equal is whether the same Services come of both.
func (in *Input) Equal(other *Input) bool {
	// Labels that are not known are something else than none.
	same := func(a, b map[string]string) bool { return (a == nil) == (b == nil) && maps.Equal(a, b) }
	return in.Label == other.Label && in.Value == other.Value && in.Primary == other.Primary && same(in.Apart, other.Apart) &&
		same(in.Pods, other.Pods) && same(in.PrimaryPods, other.PrimaryPods) && slices.Equal(in.Ports, other.Ports)
}

// Port is one container port of the target.
type Port struct {
	// Name is unique among the ports of the target.
	Name   string
	Number int32
	// Protocol is TCP if empty.
	Protocol corev1.Protocol
}

// Selector selects pods by one label.
type Selector struct{ Label, Value string }

// primary is what selects the pods of the primary.
func (in *Input) primary() Selector {
	if in.Primary.Label != "" {
		return in.Primary
	}
	return Selector{in.Label, in.Value + v1beta1.PrimarySuffix}
}

// Ref names a Service.
func Ref(namespace, name string) router.Ref {
	return router.Ref{
		Resource:  schema.GroupVersionResource{Version: "v1", Resource: "services"},
		Kind:      "Service",
		Namespace: namespace,
		Name:      name,
	}
}

// Refs names the three Services of a Canary.
func Refs(c *v1beta1.Canary) (apex, primary, canary router.Ref) {
	names := router.NamesOf(c)
	return Ref(c.Namespace, names.Apex), Ref(c.Namespace, names.Primary), Ref(c.Namespace, names.Canary)
}

// Managed tells whether the operator makes Services for the Canary. It does not when the target is a Service itself, or when the
// primary is the user's.
func Managed(c *v1beta1.Canary) bool { return c.Spec.TargetRef.Kind != "Service" && !c.HasOwnPrimary() }

// Backends renders the canary and the primary Service, in this order. Where the target is a Service, it is the copy for the
// canary alone: that for the primary changes with a promotion only. An error is a *router.FieldError.
func Backends(c *v1beta1.Canary, in Input, live router.Live) ([]router.Object, error) {
	switch {
	case c.IsCoreService():
		return canaryCopy(c, live)
	case c.HasOwnPrimary():
		return nil, checkNamed(c, in, live)
	case !Managed(c):
		return nil, nil
	}
	names := router.NamesOf(c)
	canary, err := render(c, in, live, side{names.Canary, Selector{in.Label, in.Value}, in.Apart, c.Spec.Service.Canary})
	if err != nil {
		return nil, err
	}
	primary, err := render(c, in, live, side{names.Primary, in.primary(), nil, c.Spec.Service.Primary})
	if err != nil {
		return nil, err
	}
	return []router.Object{canary, primary}, nil
}

// Apex renders the Service that clients use. It selects the pods of the primary, so it must not be applied before those
// are ready. An error is a *router.FieldError.
func Apex(c *v1beta1.Canary, in Input, live router.Live) ([]router.Object, error) {
	if !Managed(c) {
		return nil, nil
	}
	apex, err := render(c, in, live, side{router.NamesOf(c).Apex, in.primary(), nil, c.Spec.Service.Apex})
	if err != nil {
		return nil, err
	}
	return []router.Object{apex}, nil
}

// side is what one Service differs in from the two others.
type side struct {
	name     string
	selects  Selector
	apart    map[string]string
	metadata *v1beta1.CustomMetadata
}

func render(c *v1beta1.Canary, in Input, live router.Live, s side) (router.Object, error) {
	ref := Ref(c.Namespace, s.name)
	current, err := live.Get(ref)
	if err != nil {
		return router.Object{}, fmt.Errorf("%s: %w", ref, err)
	}
	if err := checkForeign(c, in, current); err != nil {
		return router.Object{}, err
	}
	if err := checkHeadless(c, current); err != nil {
		return router.Object{}, err
	}
	service := &c.Spec.Service
	spec := map[string]any{
		"type":     string(corev1.ServiceTypeClusterIP),
		"ports":    ports(service, in.Ports, current),
		"selector": s.selector(),
	}
	if service.Headless {
		spec["clusterIP"] = corev1.ClusterIPNone
	}
	if service.TrafficDistribution != "" {
		spec["trafficDistribution"] = service.TrafficDistribution
	}
	labels := map[string]string{}
	if s.metadata != nil {
		maps.Copy(labels, s.metadata.Labels)
	}
	labels[s.selects.Label] = s.name
	return router.Object{
		Ref:           ref,
		Wanted:        router.NewObject(ref, labels, router.Annotated(s.metadata), spec),
		Owned:         owned(c, current),
		ExactMetadata: exactMetadata(service.UnmanagedMetadata),
		// What leads to a primary already is no original: Flagger took it over, or the primary was another one then.
		KeepOriginal: current != nil && !selectsPrimary(current, in),
	}, nil
}

func (s *side) selector() map[string]any {
	selector := map[string]any{s.selects.Label: s.selects.Value}
	for key, value := range s.apart {
		selector[key] = value
	}
	return selector
}

// owned lists the fields that are ours in a Service. A Service of the user keeps its type, because a load balancer or node
// port may depend on it; only an ExternalName, which serves no pods at all, has to become a ClusterIP.
func owned(c *v1beta1.Canary, current *unstructured.Unstructured) [][]string {
	paths := [][]string{{"spec", "ports"}, {"spec", "selector"}}
	if current == nil {
		return paths
	}
	if c.Spec.Service.TrafficDistribution != "" || router.ControlOf(c, current) == router.Ours {
		paths = append(paths, []string{"spec", "trafficDistribution"})
	}
	if stringField(current, "type") == string(corev1.ServiceTypeExternalName) {
		paths = append(paths, []string{"spec", "type"}, []string{"spec", "externalName"})
	}
	return paths
}

// checkHeadless reports a change of service.headless that an existing Service can't follow, because the API server allows
// none of spec.clusterIP. A headless Service of the user that was taken over stays headless.
func checkHeadless(c *v1beta1.Canary, current *unstructured.Unstructured) error {
	if current == nil || stringField(current, "type") == string(corev1.ServiceTypeExternalName) {
		return nil
	}
	headless := stringField(current, "clusterIP") == corev1.ClusterIPNone
	wanted := c.Spec.Service.Headless
	if headless == wanted || (headless && router.ControlOf(c, current) != router.Ours) {
		return nil
	}
	state, remedy := "has a cluster IP", "false"
	if headless {
		state, remedy = "is headless", "true"
	}
	return &router.FieldError{Field: "spec.service.headless", Message: fmt.Sprintf(
		"Service %s.%s %s, which can't be changed on an existing Service: set headless to %s, or delete the Service while "+
			"nothing uses it and it is created anew", current.GetName(), current.GetNamespace(), state, remedy)}
}

func exactMetadata(unmanaged *v1beta1.UnmanagedMetadata) *router.ExactMetadata {
	exact := &router.ExactMetadata{AdoptedAnnotations: slices.Sorted(maps.Keys(router.ToolkitAnnotations()))}
	if unmanaged != nil {
		exact.KeepLabels = unmanaged.Labels
		exact.KeepAnnotations = unmanaged.Annotations
	}
	return exact
}

// stringField reads a field of the spec, empty where it is missing or no string.
func stringField(o *unstructured.Unstructured, field string) string {
	value, _, err := unstructured.NestedString(o.Object, "spec", field)
	if err != nil {
		return ""
	}
	return value
}
