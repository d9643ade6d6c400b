package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// servicePort is the container port that service.port is forwarded to.
func servicePort(c *v1beta1.Canary) intstr.IntOrString {
	port := c.Spec.Service.TargetPort
	if port == intstr.FromInt32(0) || port == intstr.FromString("") {
		return intstr.FromInt32(c.Spec.Service.Port)
	}
	return port
}

// maxPortName is the longest name that a port of a Service may have.
const maxPortName = 63

// containerPort is a port with the place where it was declared.
type containerPort struct {
	Port
	container string
	index     int
}

// containerPorts lists the ports of the containers.
func containerPorts(target *unstructured.Unstructured) []containerPort {
	return portsOf(listAt(target.Object, podSpec("containers")...), func(map[string]any) bool { return true })
}

// servingPorts lists the ports that a Service can lead to by name: those of the containers, and of the init containers that
// go on running beside them.
func servingPorts(target *unstructured.Unstructured) []containerPort {
	sidecar := func(c map[string]any) bool { return stringAt(c, "restartPolicy") == "Always" }
	return append(containerPorts(target), portsOf(listAt(target.Object, podSpec("initContainers")...), sidecar)...)
}

// discoveredPorts lists the ports that portDiscovery is about: those of all containers but the proxies that a mesh injects.
// Each has a name, and names and numbers are unique, as a Service requires.
func discoveredPorts(c *v1beta1.Canary, target *unstructured.Unstructured) []Port {
	main := servicePort(c)
	mainName := cmp.Or(c.Spec.Service.PortName, "http")
	var ports []Port
	for _, p := range containerPorts(target) {
		if p.container == "istio-proxy" || p.container == "envoy" {
			continue
		}
		sameNumber := func(o Port) bool { return o.Number == p.Number && o.Protocol == p.Protocol }
		sameName := func(o Port) bool { return o.Name == p.Name }
		if slices.ContainsFunc(ports, sameNumber) {
			continue
		}
		if p.Name == "" || slices.ContainsFunc(ports, sameName) || (p.Name == mainName && !leadsTo(main, p)) {
			p.Name = generatedPortName(p)
		}
		ports = append(ports, p.Port)
	}
	return ports
}

// generatedPortName names a port by its container and its place there: tcp-<container>-<index>.
func generatedPortName(p containerPort) string {
	prefix, suffix := strings.ToLower(string(p.Protocol))+"-", fmt.Sprintf("-%d", p.index)
	container := p.container
	if room := maxPortName - len(prefix) - len(suffix); len(container) > room {
		container = strings.TrimRight(container[:room], "-")
	}
	return prefix + container + suffix
}

func podSpec(field string) []string { return []string{"spec", "template", "spec", field} }

func portsOf(containers []any, include func(map[string]any) bool) []containerPort {
	var ports []containerPort
	for _, item := range containers {
		container, _ := item.(map[string]any)
		if container == nil || !include(container) {
			continue
		}
		for i, entry := range listAt(container, "ports") {
			port, _ := entry.(map[string]any)
			protocol := corev1.Protocol(stringAt(port, "protocol"))
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			ports = append(ports, containerPort{
				Port: Port{
					Name: stringAt(port, "name"), Number: int32(intAt(port, 0, "containerPort")), Protocol: protocol,
				},
				container: stringAt(container, "name"),
				index:     i,
			})
		}
	}
	return ports
}

// leadsTo is whether the port is the one that service.port is forwarded to. That one is always TCP.
func leadsTo(main intstr.IntOrString, p containerPort) bool {
	if p.Protocol != corev1.ProtocolTCP {
		return false
	}
	if main.Type == intstr.String {
		return p.Name == main.StrVal
	}
	return p.Number == main.IntVal
}

// checkPorts tells of a Service that leads to a port which no container declares. Kubernetes takes a declaration as information:
// whatever listens on a number gets its requests. A name must be that of a port of the pods, but a webhook may add the container that
// has it, so what the pods turn out to have decides. What is refused is a name that no port can have, and one that only the primary
// declares: the revision that drops it would lose all requests once it is promoted.
func checkPorts(c *v1beta1.Canary, target, primary *unstructured.Unstructured) (rollout.PortFact, *rollout.Problem) {
	declared := servingPorts(target)
	main := servicePort(c)
	leads := func(p containerPort) bool { return leadsTo(main, p) }
	if slices.ContainsFunc(declared, leads) {
		return rollout.PortFact{}, nil
	}
	name, list := described(target), describePorts(declared)
	if main.Type == intstr.String {
		return checkPortName(name, list, main.StrVal, primary != nil && slices.ContainsFunc(servingPorts(primary), leads))
	}
	if len(declared) == 0 {
		return rollout.PortFact{}, nil
	}
	field := "spec.service.targetPort"
	if c.Spec.Service.TargetPort != main {
		field = "spec.service.port"
	}
	return rollout.PortFact{Undeclared: fmt.Sprintf("%s: no container of %s declares the TCP port %d (%s): requests go there all the "+
		"same; if nothing listens on it, set spec.service.targetPort to the port that the container listens on",
		field, name, main.IntVal, list)}, nil
}

func checkPortName(target, declared, port string, dropped bool) (rollout.PortFact, *rollout.Problem) {
	const remedy = "name one that exists, or write the number of a port without quotes"
	if len(validation.IsValidPortName(port)) > 0 {
		return rollout.PortFact{}, invalid("spec.service.targetPort: %q is no name that a port can have, and no container of %s has "+
			"it (%s): %s", port, target, declared, remedy)
	}
	undeclared := fmt.Sprintf("spec.service.targetPort: no container of %s declares a TCP port named %q", target, port)
	if dropped {
		return rollout.PortFact{}, invalid("%s any more (%s), and the primary does: %s", undeclared, declared, remedy)
	}
	return rollout.PortFact{
		Name: port, Declared: declared,
		Undeclared: undeclared + " (" + declared + "): requests are led there only if ready pods of the primary have it, as when a " +
			"webhook adds a container to them",
	}, nil
}

func describePorts(ports []containerPort) string {
	if len(ports) == 0 {
		return "it declares no ports"
	}
	list := make([]string, 0, len(ports))
	for _, p := range ports {
		text := fmt.Sprintf("%d", p.Number)
		if p.Name != "" {
			text = p.Name + "=" + text
		}
		if p.Protocol != corev1.ProtocolTCP {
			text += "/" + string(p.Protocol)
		}
		list = append(list, text)
	}
	return "it has " + strings.Join(list, ", ")
}
