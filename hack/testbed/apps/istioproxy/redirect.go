package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// redirect leads connections that come to the pod to its proxy, by rules of
// the kernel that stand in the pod's network namespace, as Istio's init
// container does. It takes that container's flags. What the pod's own programs
// send is left alone: they would have to run as another user than the proxy to
// be told from it, and a testbed has one user only.
func redirect(args []string) error {
	flags := flag.NewFlagSet("istio-iptables", flag.ContinueOnError)
	port := flags.Uint("z", 15006, "port of the proxy that takes connections to the pod")
	include := flags.String("b", "", "ports that are led to the proxy: * for all, or none")
	exclude := flags.String("d", "", "ports that are not, separated by commas")
	outbound := flags.String("i", "", "ranges of addresses whose connections from the pod are led to the proxy; only none is possible")
	mode := flags.String("m", "REDIRECT", "how; only REDIRECT is possible")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *outbound != "" || *mode != "REDIRECT":
		return errors.New("leave out -i and say -m REDIRECT; nothing else is possible here")
	case *include == "":
		return nil
	case *include != "*":
		return fmt.Errorf("-b %s: say '*' or nothing", *include)
	}
	excluded, err := parsePorts(*exclude)
	if err != nil {
		return fmt.Errorf("-d: %w", err)
	}
	return addRules(uint16(*port), excluded)
}

func parsePorts(list string) ([]uint16, error) {
	var ports []uint16
	for part := range strings.SplitSeq(list, ",") {
		if part == "" {
			continue
		}
		port, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", part, err)
		}
		ports = append(ports, uint16(port))
	}
	return ports, nil
}

// addRules makes a table with one chain: what is excluded or comes from the
// pod itself goes on, other TCP connections go to the proxy.
func addRules(proxy uint16, excluded []uint16) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "istio"})
	chain := c.AddChain(&nftables.Chain{
		Table: table, Name: "inbound", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	add := func(exprs ...expr.Any) { c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs}) }
	accept := &expr.Verdict{Kind: expr.VerdictAccept}
	add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equals([]byte("lo\x00")), accept)
	for _, port := range excluded {
		add(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equals(binary.BigEndian.AppendUint16(nil, port)), accept)
	}
	add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equals([]byte{unix.IPPROTO_TCP}),
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(proxy)},
		&expr.Redir{RegisterProtoMin: 1})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("netfilter rules: %w; this needs a kernel with nf_tables and its redirect", err)
	}
	return nil
}

func equals(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
