package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// gateway is the next hop of pods. It exists on no interface: a permanent
// neighbor entry leads to the node's end of the cable, so that no address is
// spent and no ARP needed.
const gateway = "169.254.1.1"

// Network connects pods: each has a network namespace joined by a virtual
// cable to that of the node, which routes between them.
type Network struct {
	nodeIP netip.Addr
	host   *os.File
}

// NewNetwork makes the network namespace of the caller the hub: the node's
// address lies on its loopback device and packets are forwarded.
func NewNetwork(nodeIP netip.Addr) (*Network, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("loopback device: %w", err)
	}
	if err := netlink.AddrReplace(lo, &netlink.Addr{IPNet: hostNet(nodeIP)}); err != nil {
		return nil, fmt.Errorf("node address %s: %w", nodeIP, err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return nil, fmt.Errorf("enable forwarding between pods: %w", err)
	}
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("network namespace of the node: %w", err)
	}
	return &Network{nodeIP: nodeIP, host: host}, nil
}

// Host is the network namespace of the node.
func (n *Network) Host() *os.File { return n.host }

// Close releases the hub.
func (n *Network) Close() error { return n.host.Close() }

// PodNetwork is the network namespace of one pod. It lasts until Close.
type PodNetwork struct {
	// NS is a handle of the namespace.
	NS *os.File
	// link is the node's end of the cable; empty without one.
	link string
}

// HostNetwork stands for the node's own namespace.
func (n *Network) HostNetwork() *PodNetwork { return &PodNetwork{NS: n.host} }

// Attach makes a network namespace with the address.
func (n *Network) Attach(ip netip.Addr) (_ *PodNetwork, err error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	pod := &PodNetwork{NS: ns, link: linkName(ip)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("network of %s: %w", ip, err), pod.Close())
		}
	}()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: pod.link},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add cable %s: %w", pod.link, err)
	}
	hostEnd, err := netlink.LinkByName(pod.link)
	if err != nil {
		return nil, fmt.Errorf("cable %s: %w", pod.link, err)
	}
	podMAC, err := configurePod(ns, ip, hostEnd.Attrs().HardwareAddr)
	if err != nil {
		return nil, err
	}
	return pod, n.configureHost(hostEnd, ip, podMAC)
}

// configureHost leads the pod's address to the cable. The node's own packets
// come from its address, as it has none on the cable.
func (n *Network) configureHost(hostEnd netlink.Link, ip netip.Addr, podMAC net.HardwareAddr) error {
	if err := netlink.LinkSetUp(hostEnd); err != nil {
		return fmt.Errorf("cable up: %w", err)
	}
	if err := netlink.NeighSet(permanentNeighbor(hostEnd, ip.AsSlice(), podMAC)); err != nil {
		return fmt.Errorf("neighbor: %w", err)
	}
	route := &netlink.Route{
		LinkIndex: hostEnd.Attrs().Index, Dst: hostNet(ip), Scope: netlink.SCOPE_LINK, Src: n.nodeIP.AsSlice(),
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}

// configurePod sets the pod's end up and gives its hardware address.
func configurePod(ns *os.File, ip netip.Addr, hostMAC net.HardwareAddr) (net.HardwareAddr, error) {
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink in the pod: %w", err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("loopback device of the pod: %w", err)
	}
	eth0, err := handle.LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("eth0 of the pod: %w", err)
	}
	next := net.ParseIP(gateway)
	steps := []func() error{
		func() error { return handle.LinkSetUp(lo) },
		func() error { return handle.AddrAdd(eth0, &netlink.Addr{IPNet: hostNet(ip)}) },
		func() error { return handle.LinkSetUp(eth0) },
		func() error { return handle.NeighSet(permanentNeighbor(eth0, next, hostMAC)) },
		func() error {
			return handle.RouteAdd(&netlink.Route{
				LinkIndex: eth0.Attrs().Index, Gw: next, Flags: int(netlink.FLAG_ONLINK),
			})
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("set up the pod's network, step %d: %w", i+1, err)
		}
	}
	return eth0.Attrs().HardwareAddr, nil
}

func permanentNeighbor(link netlink.Link, ip net.IP, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: ip, HardwareAddr: mac,
		State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4,
	}
}

func hostNet(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

// linkName is unique per address of a /16 and within the 15 bytes allowed.
func linkName(ip netip.Addr) string {
	b := ip.As4()
	return fmt.Sprintf("pod-%d-%d", b[2], b[3])
}

// newNamespace makes a network namespace on a thread of its own.
func newNamespace() (*os.File, error) {
	type outcome struct {
		ns  *os.File
		err error
	}
	result := make(chan outcome, 1)
	go func() {
		// Never unlocked: the thread is of no use in another namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- outcome{err: fmt.Errorf("new network namespace: %w", err)}
			return
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		result <- outcome{ns: ns, err: err}
	}()
	r := <-result
	return r.ns, r.err
}

// Dial connects to a TCP address from within the pod, so that ports a program
// opened on the pod's loopback address only are reached as well.
func (p *PodNetwork) Dial(address string) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	result := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(p.NS.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- outcome{err: fmt.Errorf("join the pod's network: %w", err)}
			return
		}
		conn, err := net.Dial("tcp4", address)
		result <- outcome{conn, err}
	}()
	r := <-result
	return r.conn, r.err
}

// Close removes the pod's cable; its namespace goes when the last process in
// it ends.
func (p *PodNetwork) Close() error {
	if p.link == "" {
		return nil
	}
	var err error
	if link, findErr := netlink.LinkByName(p.link); findErr == nil {
		err = netlink.LinkDel(link)
	}
	return errors.Join(err, p.NS.Close())
}
