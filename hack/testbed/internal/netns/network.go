package netns

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setUpNetwork brings up loopback, gives the node its address, makes the whole
// Service range local and lets packets of pods pass.
func setUpNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find interface lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up interface lo: %w", err)
	}
	node := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(NodeIP), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(lo, node); err != nil {
		return fmt.Errorf("add address %s to interface lo: %w", NodeIP, err)
	}
	_, services, err := net.ParseCIDR(ServiceCIDR)
	if err != nil {
		return fmt.Errorf("service range %s: %w", ServiceCIDR, err)
	}
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index,
		Dst:       services,
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Scope:     unix.RT_SCOPE_HOST,
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add local route %s: %w", ServiceCIDR, err)
	}
	const forward = "/proc/sys/net/ipv4/ip_forward"
	if err := os.WriteFile(forward, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("enable forwarding: %w", err)
	}
	return nil
}
