package node

import (
	"fmt"
	"net/netip"
	"sync"
)

// addressPool hands out the pod addresses of a node, round the range so that
// an address rests as long as possible before another pod gets it.
type addressPool struct {
	mu     sync.Mutex
	prefix netip.Prefix
	last   netip.Addr
	used   map[netip.Addr]bool
}

func newAddressPool(cidr string) (*addressPool, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, fmt.Errorf("node: PodCIDR: %w", err)
	}
	if !prefix.Addr().Is4() || prefix.Bits() > 30 {
		return nil, fmt.Errorf("node: PodCIDR %s: want an IPv4 range of /30 or larger", cidr)
	}
	prefix = prefix.Masked()
	// The first address after the network's own is left for a gateway.
	return &addressPool{prefix: prefix, last: prefix.Addr().Next(), used: map[netip.Addr]bool{}}, nil
}

func (p *addressPool) take() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.prefix.Addr().Next().Next()
	next := p.last
	for {
		next = next.Next()
		// The broadcast address is the one whose successor is outside.
		if !p.prefix.Contains(next.Next()) {
			next = first
		}
		if !p.used[next] {
			p.used[next] = true
			p.last = next
			return next, nil
		}
		if next == p.last {
			return netip.Addr{}, fmt.Errorf("all addresses of PodCIDR %s are in use", p.prefix)
		}
	}
}

func (p *addressPool) release(ip netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, ip)
}
