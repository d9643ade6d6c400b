// Package dns is the cluster's name server.
package dns

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const (
	// domain of the cluster.
	domain = "cluster.local."
	// ttl of all records in seconds, the default of CoreDNS.
	ttl = 5
)

// source is what the zone is made of.
type source interface {
	// Service is nil when there is none.
	Service(namespace, name string) *corev1.Service
	EndpointSlices(namespace, service string) []*discoveryv1.EndpointSlice
	// Namespace says whether it has any Service.
	Namespace(name string) bool
}

// answer of the zone to a question. Without records it means that the name
// exists but has nothing of that type, unless rcode says NXDOMAIN.
type answer struct {
	rcode   int
	records []dns.RR
	// extra are the addresses of names in records.
	extra []dns.RR
}

var nxdomain = answer{rcode: dns.RcodeNameError}

// node is a name of the zone: what it has.
type node struct {
	addresses []string
	services  []srvTarget
	cname     string
}

type srvTarget struct {
	name, address string
	port          uint16
}

// lookup answers by the DNS specification of Kubernetes
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md).
func lookup(src source, name string, qtype uint16) answer {
	name = strings.ToLower(dns.Fqdn(name))
	n, ok := find(src, name)
	if !ok {
		return nxdomain
	}
	header := func(rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
	}
	var out answer
	if n.cname != "" {
		out.records = []dns.RR{&dns.CNAME{Hdr: header(dns.TypeCNAME), Target: dns.Fqdn(n.cname)}}
		// An alias within the cluster is followed; others are for somebody
		// else to resolve.
		if target := dns.Fqdn(n.cname); dns.IsSubDomain(domain, target) && target != name && qtype != dns.TypeCNAME {
			if next, ok := find(src, strings.ToLower(target)); ok && next.cname == "" {
				out.records = append(out.records, lookup(src, target, qtype).records...)
			}
		}
		return out
	}
	switch qtype {
	case dns.TypeA:
		for _, address := range n.addresses {
			out.records = append(out.records, &dns.A{Hdr: header(dns.TypeA), A: net.ParseIP(address).To4()})
		}
	case dns.TypeSRV:
		for _, target := range n.services {
			out.records = append(out.records, &dns.SRV{
				Hdr: header(dns.TypeSRV), Priority: 0, Weight: uint16(100 / len(n.services)), Port: target.port, Target: target.name,
			})
			glue := header(dns.TypeA)
			glue.Name = target.name
			out.extra = append(out.extra, &dns.A{Hdr: glue, A: net.ParseIP(target.address).To4()})
		}
	}
	return out
}

// find gives the name's node; false when it does not exist. Names that only
// lead to others (svc.cluster.local) exist and have nothing.
func find(src source, name string) (node, bool) {
	rest, ok := strings.CutSuffix(name, domain)
	if !ok {
		return node{}, false
	}
	labels := strings.Split(strings.TrimSuffix(rest, "."), ".")
	slices.Reverse(labels)
	if rest == "" {
		return node{}, true
	}
	switch kind, labels := labels[0], labels[1:]; kind {
	case "svc":
		return findService(src, labels)
	case "pod":
		return findPod(src, labels)
	}
	return node{}, false
}

// findPod takes a-b-c-d.namespace.pod at its word.
func findPod(src source, labels []string) (node, bool) {
	switch len(labels) {
	case 0:
		return node{}, true
	case 1:
		return node{}, src.Namespace(labels[0])
	case 2:
		address := strings.ReplaceAll(labels[1], "-", ".")
		if ip := net.ParseIP(address); ip != nil && ip.To4() != nil {
			return node{addresses: []string{address}}, src.Namespace(labels[0])
		}
	}
	return node{}, false
}

// findService takes the labels after svc, from right to left: namespace,
// service, then a host name or protocol and port.
func findService(src source, labels []string) (node, bool) {
	switch len(labels) {
	case 0:
		return node{}, true
	case 1:
		return node{}, src.Namespace(labels[0])
	}
	svc := src.Service(labels[0], labels[1])
	if svc == nil {
		return node{}, false
	}
	hosts := serviceHosts(src, svc)
	switch len(labels) {
	case 2:
		n := node{cname: svc.Spec.ExternalName}
		for _, host := range hosts {
			n.addresses = append(n.addresses, host.address)
		}
		return n, true
	case 3:
		return findHost(hosts, labels[2])
	case 4:
		return findPort(hosts, labels[2], labels[3])
	}
	return node{}, false
}

// host is one address of a Service with its ports: the cluster IP, or an
// endpoint of a headless Service.
type host struct {
	label, name, address string
	ports                []hostPort
}

type hostPort struct {
	name, protocol string
	number         uint16
}

func serviceHosts(src source, svc *corev1.Service) []host {
	name := fmt.Sprintf("%s.%s.svc.%s", svc.Name, svc.Namespace, domain)
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		if svc.Spec.ClusterIP == "" {
			return nil
		}
		h := host{name: name, address: svc.Spec.ClusterIP}
		for _, port := range svc.Spec.Ports {
			h.ports = append(h.ports, hostPort{port.Name, protocolLabel(port.Protocol), uint16(port.Port)})
		}
		return []host{h}
	}
	var out []host
	for _, slice := range src.EndpointSlices(svc.Namespace, svc.Name) {
		if slice.AddressType == discoveryv1.AddressTypeIPv4 {
			out = append(out, sliceHosts(slice, name)...)
		}
	}
	slices.SortFunc(out, func(a, b host) int { return cmp.Compare(a.address, b.address) })
	return slices.CompactFunc(out, func(a, b host) bool { return a.address == b.address && a.label == b.label })
}

func sliceHosts(slice *discoveryv1.EndpointSlice, serviceName string) []host {
	var ports []hostPort
	for _, port := range slice.Ports {
		if port.Port == nil {
			continue
		}
		p := hostPort{number: uint16(*port.Port), protocol: "tcp"}
		if port.Name != nil {
			p.name = *port.Name
		}
		if port.Protocol != nil {
			p.protocol = protocolLabel(*port.Protocol)
		}
		ports = append(ports, p)
	}
	var out []host
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
			continue
		}
		for _, address := range endpoint.Addresses {
			label := strings.ReplaceAll(address, ".", "-")
			if endpoint.Hostname != nil && *endpoint.Hostname != "" {
				label = *endpoint.Hostname
			}
			out = append(out, host{label: label, name: label + "." + serviceName, address: address, ports: ports})
		}
	}
	return out
}

func protocolLabel(p corev1.Protocol) string {
	if p == "" {
		p = corev1.ProtocolTCP
	}
	return strings.ToLower(string(p))
}

// findHost is an endpoint by its host name, or the level of the protocols.
func findHost(hosts []host, label string) (node, bool) {
	var n node
	for _, h := range hosts {
		if h.label != "" && h.label == label {
			n.addresses = append(n.addresses, h.address)
		}
		for _, port := range h.ports {
			if "_"+port.protocol == label {
				return node{}, true
			}
		}
	}
	return n, len(n.addresses) > 0
}

func findPort(hosts []host, protocol, port string) (node, bool) {
	var n node
	for _, h := range hosts {
		for _, p := range h.ports {
			if p.name != "" && "_"+p.protocol == protocol && "_"+p.name == port {
				n.services = append(n.services, srvTarget{h.name, h.address, p.number})
			}
		}
	}
	return n, len(n.services) > 0
}
