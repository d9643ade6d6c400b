package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

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

// checkPorts tells of a Service that would lead nowhere. A named port must be declared. A number need not be, Kubernetes
// takes the declaration as information; so a number that differs from all declared ones is a mistake only until a primary
// shows that it works.
func checkPorts(c *v1beta1.Canary, target *unstructured.Unstructured, primaryExists bool) *rollout.Problem {
	declared := servingPorts(target)
	main := servicePort(c)
	for _, p := range declared {
		if leadsTo(main, p) {
			return nil
		}
	}
	name := described(target)
	if main.Type == intstr.String {
		return invalid("spec.service.targetPort: no container of %s has a TCP port named %q (%s): name one that exists, or "+
			"write the number of a port without quotes", name, main.StrVal, describePorts(declared))
	}
	if len(declared) == 0 || primaryExists {
		return nil
	}
	field := "spec.service.targetPort"
	if c.Spec.Service.TargetPort != main {
		field = "spec.service.port"
	}
	return invalid("%s: no container of %s has the TCP port %d (%s): set spec.service.targetPort to the port that the "+
		"container listens on, or declare %d in its ports", field, name, main.IntVal, describePorts(declared), main.IntVal)
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
