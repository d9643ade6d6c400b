package services

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// defaultPortName is the name of the Service port if service.portName is empty.
const defaultPortName = "http"

// port is one port of a Service, with the defaults of the API server filled in.
type port struct {
	name, appProtocol string
	protocol          corev1.Protocol
	number            int32
	target            intstr.IntOrString
	nodePort          int64
}

// ports lists the ports as they belong into the spec: in the order in which the live Service has them, and with its node
// ports.
func ports(service *v1beta1.CanaryService, discovered []Port, current *unstructured.Unstructured) []any {
	wanted := []port{mainPort(service)}
	if service.PortDiscovery {
		wanted = append(wanted, discover(wanted[0], discovered)...)
	}
	if current != nil {
		live := livePorts(current)
		carryNodePorts(wanted, live)
		order := func(p port) int {
			at := slices.IndexFunc(live, p.sameNumber)
			if at < 0 {
				return len(live)
			}
			return at
		}
		slices.SortStableFunc(wanted, func(a, b port) int { return cmp.Compare(order(a), order(b)) })
	}
	rendered := make([]any, len(wanted))
	for i := range wanted {
		rendered[i] = wanted[i].render()
	}
	return rendered
}

func mainPort(service *v1beta1.CanaryService) port {
	target := service.TargetPort
	if target == intstr.FromInt32(0) || target == intstr.FromString("") {
		target = intstr.FromInt32(service.Port)
	}
	return port{
		name:        cmp.Or(service.PortName, defaultPortName),
		appProtocol: service.AppProtocol,
		protocol:    corev1.ProtocolTCP,
		number:      service.Port,
		target:      target,
	}
}

// discover lists the container ports that the main port doesn't serve already. A Service needs unique names and numbers.
func discover(main port, discovered []Port) []port {
	all := []port{main}
	for _, d := range discovered {
		p := port{
			name:     d.Name,
			protocol: cmp.Or(d.Protocol, corev1.ProtocolTCP),
			number:   d.Number,
			target:   intstr.FromInt32(d.Number),
		}
		same := func(other port) bool { return p.sameNumber(other) || p.name == other.name }
		if !servedBy(main, d) && !slices.ContainsFunc(all, same) {
			all = append(all, p)
		}
	}
	return all[1:]
}

// servedBy tells whether the main port of the Service leads to a container port.
func servedBy(main port, d Port) bool {
	if cmp.Or(d.Protocol, corev1.ProtocolTCP) != main.protocol {
		return false
	}
	if main.target.Type == intstr.String {
		return d.Name == main.target.StrVal
	}
	return d.Number == main.target.IntVal
}

func (p port) sameNumber(other port) bool {
	return p.number == other.number && p.protocol == other.protocol
}

func (p port) render() map[string]any {
	rendered := map[string]any{
		"name":     p.name,
		"protocol": string(p.protocol),
		"port":     int64(p.number),
	}
	if p.target.Type == intstr.String {
		rendered["targetPort"] = p.target.StrVal
	} else {
		rendered["targetPort"] = int64(p.target.IntVal)
	}
	if p.appProtocol != "" {
		rendered["appProtocol"] = p.appProtocol
	}
	if p.nodePort != 0 {
		rendered["nodePort"] = p.nodePort
	}
	return rendered
}

// livePorts reads what is needed to carry over node ports, to keep the order, and to see where the ports lead.
func livePorts(o *unstructured.Unstructured) []port {
	list, _, err := unstructured.NestedSlice(o.Object, "spec", "ports")
	if err != nil {
		return nil
	}
	var live []port
	for _, item := range list {
		fields, ok := item.(map[string]any)
		if !ok {
			continue
		}
		p := port{protocol: corev1.ProtocolTCP}
		if name, ok := fields["name"].(string); ok {
			p.name = name
		}
		if protocol, ok := fields["protocol"].(string); ok {
			p.protocol = corev1.Protocol(protocol)
		}
		if number, ok := fields["port"].(int64); ok {
			p.number = int32(number)
		}
		switch target := fields["targetPort"].(type) {
		case string:
			p.target = intstr.FromString(target)
		case int64:
			p.target = intstr.FromInt32(int32(target))
		}
		if nodePort, ok := fields["nodePort"].(int64); ok {
			p.nodePort = nodePort
		}
		live = append(live, p)
	}
	return live
}

// carryNodePorts keeps node ports: those of the port with the same name or, as user-made Services often have an unnamed
// port, with the same number. Clients outside the cluster may depend on them.
func carryNodePorts(wanted, live []port) {
	used := map[int64]bool{}
	carry := func(same func(a, b port) bool) {
		for i := range wanted {
			if wanted[i].nodePort != 0 {
				continue
			}
			for _, old := range live {
				if old.nodePort != 0 && !used[old.nodePort] && same(wanted[i], old) {
					wanted[i].nodePort = old.nodePort
					used[old.nodePort] = true
					break
				}
			}
		}
	}
	carry(func(a, b port) bool { return a.name == b.name })
	carry(port.sameNumber)
}
