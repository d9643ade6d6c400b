package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// ErrLinkLocal is wrapped by the error for an address that the operator does not connect to. Whoever may write a Canary, a template
// or an AlertProvider chooses addresses, and must not reach by them what only the operator's node can: clouds serve the credentials
// of the node at such addresses.
var ErrLinkLocal = errors.New("link-local addresses are not called, since clouds serve the credentials of the node there")

// ec2Metadata is the IPv6 address of the AWS metadata service, which is not link-local.
var ec2Metadata = netip.MustParseAddr("fd00:ec2::254")

// Dialer opens connections to all addresses but those that are link-local.
func Dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: refuseLinkLocal}
}

// refuseLinkLocal looks at the address after name resolution, so no name can lead around it.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	ip := addrPort.Addr().Unmap().WithZone("")
	if ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip == ec2Metadata {
		return fmt.Errorf("%s: %w", ip, ErrLinkLocal)
	}
	return nil
}
