package services

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// unshared are the fields of a Service that no other Service can have, too: the API server or a load balancer assigned
// them, or packets to them can lead to one place only.
func unshared() []string {
	return []string{"clusterIP", "clusterIPs", "healthCheckNodePort", "loadBalancerIP", "externalIPs"}
}

// Shared returns the part of the spec of a Service that a copy of it can have. It shares nothing with the Service.
func Shared(service *unstructured.Unstructured) map[string]any {
	spec, _, err := unstructured.NestedMap(service.Object, "spec")
	if err != nil || spec == nil {
		return map[string]any{}
	}
	headless := spec["clusterIP"] == corev1.ClusterIPNone
	for _, field := range unshared() {
		delete(spec, field)
	}
	if headless {
		spec["clusterIP"] = corev1.ClusterIPNone
	}
	for _, port := range portMaps(spec) {
		delete(port, "nodePort")
	}
	return spec
}

// CopySpec returns the spec that a copy of a Service target should have. Current is the copy as it is, nil if there is none:
// it keeps what was assigned to it.
func CopySpec(c *v1beta1.Canary, target, current *unstructured.Unstructured) map[string]any {
	spec := Shared(target)
	if c.Spec.Service.TrafficDistribution != "" {
		spec["trafficDistribution"] = c.Spec.Service.TrafficDistribution
	}
	if current == nil {
		return spec
	}
	live, _, err := unstructured.NestedMap(current.Object, "spec")
	if err != nil {
		return spec
	}
	for _, field := range unshared() {
		if value, ok := live[field]; ok && spec[field] == nil {
			spec[field] = value
		}
	}
	if kind := spec["type"]; kind == string(corev1.ServiceTypeNodePort) || kind == string(corev1.ServiceTypeLoadBalancer) {
		keepNodePorts(spec, live)
	}
	return spec
}

// keepNodePorts gives ports without a node port those of the live ones with the same number and protocol.
func keepNodePorts(spec, live map[string]any) {
	for _, port := range portMaps(spec) {
		for _, old := range portMaps(live) {
			if nodePort, ok := old["nodePort"]; ok && port["nodePort"] == nil && old["port"] == port["port"] && old["protocol"] == port["protocol"] {
				port["nodePort"] = nodePort
			}
		}
	}
}

func portMaps(spec map[string]any) []map[string]any { return mapsIn(spec, "ports") }

// mapsIn shares what it returns with the object.
func mapsIn(object map[string]any, field string) []map[string]any {
	list, _ := object[field].([]any)
	var maps []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			maps = append(maps, m)
		}
	}
	return maps
}

// CopiesKey is whether a label or annotation of a Service target is meant for its copies. Those of the toolkit would make it
// prune the copy, and that of kubectl describes the very object that it is on.
func CopiesKey(key string) bool {
	return !strings.Contains(key, "toolkit.fluxcd.io") && key != router.KubectlAnnotation
}

// canaryCopy renders the copy of a Service target that stands for the canary: it follows the target.
func canaryCopy(c *v1beta1.Canary, live router.Live) ([]router.Object, error) {
	name := c.Spec.TargetRef.Name
	target, err := live.Get(Ref(c.Namespace, name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Ref(c.Namespace, name), err)
	}
	if target == nil {
		// Whoever observes the target tells about it.
		return nil, nil
	}
	ref := Ref(c.Namespace, name+v1beta1.CanarySuffix)
	current, err := live.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if err := CheckForeignCopy(c, target, current); err != nil {
		return nil, err
	}
	if err := checkCopy(target, current); err != nil {
		return nil, err
	}
	spec := CopySpec(c, target, current)
	fields := maps.Clone(spec)
	if current != nil {
		maps.Copy(fields, Shared(current))
	}
	var owned [][]string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(unshared(), field) {
			owned = append(owned, []string{"spec", field})
		}
	}
	return []router.Object{{
		Ref:    ref,
		Wanted: router.NewObject(ref, copied(target.GetLabels()), copied(target.GetAnnotations()), spec),
		Owned:  owned,
	}}, nil
}

func copied(metadata map[string]string) map[string]string {
	maps.DeleteFunc(metadata, func(key, _ string) bool { return !CopiesKey(key) })
	return metadata
}

// checkCopy reports a copy that can't follow its target, because the API server allows no change of spec.clusterIP.
func checkCopy(target, current *unstructured.Unstructured) error {
	if current == nil {
		return nil
	}
	for _, o := range []*unstructured.Unstructured{target, current} {
		if stringField(o, "type") == string(corev1.ServiceTypeExternalName) {
			return nil
		}
	}
	headless := func(o *unstructured.Unstructured) bool { return stringField(o, "clusterIP") == corev1.ClusterIPNone }
	if headless(target) == headless(current) {
		return nil
	}
	return &router.FieldError{Field: "spec.targetRef", Message: fmt.Sprintf(
		"Service %s.%s can't become a copy of %s, because only one of them is headless: delete it and %s while nothing uses "+
			"them, and they are created anew", current.GetName(), current.GetNamespace(), target.GetName(),
		target.GetName()+v1beta1.PrimarySuffix)}
}
