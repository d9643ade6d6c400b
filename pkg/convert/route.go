package convert

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// port is that of the Services of both sides. A Rollout does not have it; the VirtualService that it names does, or a Service.
func (c *conversion) port(route, primary, canary string) (int32, error) {
	found := c.portOfRoute(route, primary, canary)
	if c.options.Port != 0 {
		return c.options.Port, nil
	}
	for i := range c.all {
		d := &c.all[i]
		if found == 0 && d.isOf("", "Service") && d.GetName() == primary && d.inNamespaceOf(c.document) {
			found = portOf(d)
		}
	}
	if found < 1 || found > 65535 {
		return 0, c.fault("spec.primary.host", "the port of Service %s is not in the input: add the VirtualService %s or that Service to it, or give "+
			"the port with -port", primary, route)
	}
	return int32(found), nil
}

// portOfRoute looks for a rule of the VirtualService with both sides, 0 if it names no port.
func (c *conversion) portOfRoute(route, primary, canary string) int64 {
	for i := range c.all {
		d := &c.all[i]
		if !d.isOf(istioGroup, "VirtualService") || d.GetName() != route || !d.inNamespaceOf(c.document) {
			continue
		}
		for _, rule := range objectsAt(d.Object, "spec", "http") {
			ports := map[string]int64{}
			for _, destination := range objectsAt(rule, "route") {
				host, _, _ := unstructured.NestedString(destination, "destination", "host")
				port, _, _ := unstructured.NestedFieldNoCopy(destination, "destination", "port", "number")
				number, _ := asNumber(port)
				ports[host] = int64(number)
			}
			_, first := ports[primary]
			if port, second := ports[canary]; first && second {
				return max(ports[primary], port)
			}
		}
		c.note("VirtualService %s has no rule with the hosts %s and %s. Give it one, with the weights 100 and 0.", route, primary, canary)
		return 0
	}
	c.note("VirtualService %s is not in the input: see that it has a rule with the hosts %s and %s.", route, primary, canary)
	return 0
}

// portOf is the one port of a Service, 0 if it has several.
func portOf(service *document) int64 {
	ports := objectsAt(service.Object, "spec", "ports")
	if len(ports) != 1 {
		return 0
	}
	number, _ := asNumber(ports[0]["port"])
	return int64(number)
}

// objectsAt lists the objects in a list. What is no list has none.
func objectsAt(o map[string]any, path ...string) []map[string]any {
	value, _, _ := unstructured.NestedFieldNoCopy(o, path...)
	list, _ := value.([]any)
	var objects []map[string]any
	for _, item := range list {
		if object, ok := item.(map[string]any); ok {
			objects = append(objects, object)
		}
	}
	return objects
}
