package services

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Originals returns the Services of users that were taken over, as they were before: by what kubectl last applied, or else by
// what was kept. Where neither tells, they select the pods of the target and keep the rest. A Service whose selector can't be
// told, because the target is gone, is left out.
func Originals(c *v1beta1.Canary, in Input, live router.Live) ([]router.Object, error) {
	return eachForeign(c, live, func(current *unstructured.Unstructured) (*router.Object, error) {
		return original(c, in, current)
	})
}

// Previous is what is left of the Services that were made under a previous name.
type Previous struct {
	// Ours are those that the Canary owns, the one that clients use first.
	Ours []router.Ref
	// Released are those of users as they are to be left, and Originals as they are to be when the Canary is deleted.
	Released, Originals []router.Object
}

// PreviousOf looks at the Services under a previous name, but for those that have a present name as well. A Service of the user's
// goes on leading to the primary, since the target has no pods most of the time; all else becomes what it was.
func PreviousOf(c *v1beta1.Canary, name string, in Input, live router.Live) (Previous, error) {
	var f Previous
	if !Managed(c) {
		return f, nil
	}
	previous := c.DeepCopy()
	previous.Spec.Service.Name = name
	present := allNames(c)
	for _, name := range allNames(previous) {
		ref := Ref(c.Namespace, name)
		if slices.Contains(present, name) {
			continue
		}
		current, err := live.Get(ref)
		switch {
		case err != nil:
			return Previous{}, fmt.Errorf("%s: %w", ref, err)
		case current == nil:
			continue
		case router.Owns(c, current):
			f.Ours = append(f.Ours, ref)
			continue
		case router.ControlOf(c, current) != router.Foreign || !leadsTo(current, in):
			// Another Canary has the name by now, or the user has made something else of the Service.
			continue
		}
		o, err := original(previous, in, current)
		if err != nil {
			return Previous{}, err
		}
		if o != nil {
			f.Originals = append(f.Originals, *o)
			f.Released = append(f.Released, released(o, in))
		}
	}
	return f, nil
}

func allNames(c *v1beta1.Canary) []string {
	names := router.NamesOf(c)
	return []string{names.Apex, names.Canary, names.Primary}
}

// leadsTo is whether a Service leads to a side of the Canary.
func leadsTo(service *unstructured.Unstructured, in Input) bool {
	value, ok := selectorOf(service)[in.Label]
	return ok && value == in.Value || leadsToPrimary(service, in)
}

func leadsToPrimary(service *unstructured.Unstructured, in Input) bool {
	primary := in.primary()
	value, ok := selectorOf(service)[primary.Label]
	return ok && value == primary.Value
}

// released is an original that selects the pods of the primary where it would select those of the target. What is kept of the
// original stays until it is given back.
func released(original *router.Object, in Input) router.Object {
	o := *original
	o.Wanted = original.Wanted.DeepCopy()
	if selector, primary := mapIn(o.Wanted, "selector"), in.primary(); selector[in.Label] == in.Value {
		delete(selector, in.Label)
		selector[primary.Label] = primary.Value
	}
	o.Owned = slices.DeleteFunc(slices.Clone(o.Owned), func(path []string) bool { return path[0] == "metadata" })
	return o
}

// eachForeign maps the Services of a Canary that it does not control.
func eachForeign(c *v1beta1.Canary, live router.Live, convert func(*unstructured.Unstructured) (*router.Object, error)) (
	[]router.Object, error) {
	if !Managed(c) {
		return nil, nil
	}
	var objects []router.Object
	for _, name := range allNames(c) {
		ref := Ref(c.Namespace, name)
		current, err := live.Get(ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if current == nil || router.ControlOf(c, current) != router.Foreign {
			continue
		}
		o, err := convert(current)
		if err != nil {
			return nil, err
		}
		if o != nil {
			objects = append(objects, *o)
		}
	}
	return objects, nil
}

// original is nil for a Service that does not lead to the primary, or of which nothing tells what it selected.
func original(c *v1beta1.Canary, in Input, current *unstructured.Unstructured) (*router.Object, error) {
	ref := Ref(current.GetNamespace(), current.GetName())
	was, err := router.OriginalSpec(ref, current)
	if err != nil {
		return nil, err
	}
	if was == nil && !leadsToPrimary(current, in) {
		// Given back already.
		return nil, nil
	}
	spec := map[string]any{}
	owned := [][]string{{"spec", "selector"}, {"metadata", "annotations", router.OriginalAnnotation}}
	own := func(field string) {
		owned = append(owned, []string{"spec", field})
		if value, ok := was[field]; ok {
			spec[field] = value
		}
	}
	if ports := originalPorts(was, current); len(ports) > 0 {
		own("ports")
		spec["ports"] = ports
	}
	if c.Spec.Service.TrafficDistribution != "" && was != nil {
		own("trafficDistribution")
	}
	selector := originalSelector(was, in)
	switch external, _ := was["externalName"].(string); {
	case was["type"] == string(corev1.ServiceTypeExternalName) && external != "":
		own("type")
		own("externalName")
		if spec["ports"] == nil {
			own("ports")
		}
	case len(selector) > 0:
	case in.Label == "":
		return nil, nil
	default:
		selector = map[string]any{in.Label: in.Value}
	}
	if len(selector) > 0 {
		spec["selector"] = maps.Clone(selector)
	}
	return &router.Object{Ref: ref, Wanted: router.NewObject(ref, nil, nil, spec), Owned: owned, Unowned: true}, nil
}

// originalSelector is what a Service selected, nothing if those were the pods of a target that was made anew with other labels since.
func originalSelector(was map[string]any, in Input) map[string]any {
	selector, _ := was["selector"].(map[string]any)
	for key, value := range selector {
		if have, ok := in.Pods[key]; len(in.Pods) > 0 && (!ok || have != value) {
			return nil
		}
	}
	return selector
}

// originalPorts are the ports that a Service had, with the defaults of the API server, and with the node ports that the live
// one has where the original left the choice to the server.
func originalPorts(was map[string]any, current *unstructured.Unstructured) []any {
	list, _ := was["ports"].([]any)
	ports := make([]any, 0, len(list))
	for _, item := range list {
		port, ok := item.(map[string]any)
		if !ok {
			continue
		}
		port = maps.Clone(port)
		if port["protocol"] == nil {
			port["protocol"] = string(corev1.ProtocolTCP)
		}
		if port["targetPort"] == nil {
			port["targetPort"] = port["port"]
		}
		ports = append(ports, port)
	}
	if kind := stringField(current, "type"); kind == string(corev1.ServiceTypeNodePort) || kind == string(corev1.ServiceTypeLoadBalancer) {
		keepNodePorts(map[string]any{"ports": ports}, mapIn(current))
	}
	return ports
}

// mapIn reads a map of the spec without a copy, nil where there is none.
func mapIn(o *unstructured.Unstructured, path ...string) map[string]any {
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, append([]string{"spec"}, path...)...)
	if err != nil {
		return nil
	}
	m, _ := value.(map[string]any)
	return m
}
