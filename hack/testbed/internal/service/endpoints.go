package service

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// portKey is where a Service port is served.
type portKey struct {
	ip   netip.Addr
	port uint16
}

func (k portKey) String() string { return netip.AddrPortFrom(k.ip, k.port).String() }

// servicePort is one TCP port of a Service and the addresses behind it.
type servicePort struct {
	// name of the port, for logs: namespace/service:port.
	name string
	// backends are sorted host:port addresses.
	backends []string
	// affinity is how long (in seconds) a client stays with a backend; 0 for
	// no affinity.
	affinity int32
}

// servicePorts are the TCP ports to serve for a Service: those of its cluster
// IP. Headless and ExternalName Services have none.
func servicePorts(svc *corev1.Service, slices []*discoveryv1.EndpointSlice) map[portKey]servicePort {
	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil || !ip.Is4() || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	out := map[portKey]servicePort{}
	for _, port := range svc.Spec.Ports {
		if port.Protocol != corev1.ProtocolTCP && port.Protocol != "" {
			continue
		}
		number := strconv.Itoa(int(port.Port))
		out[portKey{ip, uint16(port.Port)}] = servicePort{
			name:     svc.Namespace + "/" + svc.Name + ":" + number,
			backends: backends(port.Name, slices),
			affinity: affinitySeconds(svc),
		}
	}
	return out
}

func affinitySeconds(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	config := svc.Spec.SessionAffinityConfig
	if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil {
		return corev1.DefaultClientIPServiceAffinitySeconds
	}
	return *config.ClientIP.TimeoutSeconds
}

// backends are the addresses that take new connections for a port: the ready
// ones; if there are none, those that end but still serve, as kube-proxy does.
func backends(portName string, list []*discoveryv1.EndpointSlice) []string {
	var ready, ending []string
	for _, slice := range list {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		number, ok := slicePort(slice, portName)
		if !ok {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if len(endpoint.Addresses) == 0 {
				continue
			}
			// One of several addresses is meant to be as good as all.
			address := net.JoinHostPort(endpoint.Addresses[0], number)
			conditions := endpoint.Conditions
			switch {
			case conditions.Ready == nil || *conditions.Ready:
				ready = append(ready, address)
			case isTrue(conditions.Serving) && isTrue(conditions.Terminating):
				ending = append(ending, address)
			}
		}
	}
	if len(ready) == 0 {
		ready = ending
	}
	slices.Sort(ready)
	// An endpoint can be in two slices while it moves between them.
	return slices.Compact(ready)
}

func isTrue(b *bool) bool { return b != nil && *b }

func slicePort(slice *discoveryv1.EndpointSlice, name string) (string, bool) {
	for _, port := range slice.Ports {
		if port.Port == nil || port.Protocol != nil && *port.Protocol != corev1.ProtocolTCP {
			continue
		}
		if port.Name == nil && name == "" || port.Name != nil && *port.Name == name {
			return strconv.Itoa(int(*port.Port)), true
		}
	}
	return "", false
}
