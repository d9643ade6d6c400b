// Package gateway runs data planes beside a testbed's cluster, as processes in
// the testbed's own network namespace, from where every pod is reached
// directly: Contour, which reads HTTPProxy objects, with the Envoy proxy that
// it configures, Traefik, which is slow to build but needs Go only, and Skipper,
// which reads Ingresses. Of Istio only the control plane is such a process; its
// proxies are pods.
package gateway

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"k8s.io/client-go/rest"

	"flagger.app/flagger/hack/testbed/internal/manifest"
	"flagger.app/flagger/hack/testbed/internal/proc"
)

// Kind is a data plane. Its value is also the name of its feature and of the
// routing provider of the operator.
type Kind string

// The data planes. They can run side by side.
const (
	Contour    Kind = "contour"
	GatewayAPI Kind = "gatewayapi"
	Traefik    Kind = "traefik"
	Skipper    Kind = "skipper"
	Istio      Kind = "istio"
)

// ports of a data plane on the node's address, and the path of its metrics.
type ports struct {
	http, stats int
	statsPath   string
}

func (k Kind) ports() ports {
	switch k {
	case Traefik:
		return ports{http: 81, stats: 8003, statsPath: "/metrics"}
	case Skipper:
		return ports{http: 82, stats: 8005, statsPath: "/metrics"}
	case Istio:
		return ports{http: 80, stats: 8004, statsPath: "/metrics"}
	case GatewayAPI:
		// Contour adds 8000 to the port of a listener, which is 80.
		return ports{http: 8080, stats: 8006, statsPath: "/stats/prometheus"}
	default:
		return ports{http: 80, stats: 8002, statsPath: "/stats/prometheus"}
	}
}

// Address is where the data plane on a node takes requests, as host:port.
func (k Kind) Address(nodeIP string) string {
	if k == Istio {
		nodeIP = istioGatewayIP
	}
	return net.JoinHostPort(nodeIP, strconv.Itoa(k.ports().http))
}

// URL is where the data plane on a node takes requests.
func (k Kind) URL(nodeIP string) string { return "http://" + k.Address(nodeIP) + "/" }

// StatsTarget is what a Prometheus scrapes: address and path of the metrics.
func (k Kind) StatsTarget(nodeIP string) string { return k.statsAddress(nodeIP) + k.ports().statsPath }

func (k Kind) statsAddress(nodeIP string) string {
	return net.JoinHostPort(nodeIP, strconv.Itoa(k.ports().stats))
}

// Config says how to run a data plane. All fields are required.
type Config struct {
	// Programs maps the names of the components of the data plane to the paths
	// of their programs and files.
	Programs map[string]string
	// Dir gets configuration, LogDir the logs.
	Dir, LogDir string
	// NodeIP is the address to listen on.
	NodeIP string
	// Kubeconfig is what the cluster is watched with.
	Kubeconfig string
	// Admin may install custom resource definitions.
	Admin *rest.Config
}

// Gateway is a running data plane.
type Gateway struct {
	kind   Kind
	cfg    Config
	failed chan error
}

// Failed yields an error if one of the programs ends unasked.
func (g *Gateway) Failed() <-chan error { return g.failed }

// Start installs the custom resource definitions of the data plane and runs
// its programs. It returns when the proxy is ready. All end when ctx does.
func Start(ctx context.Context, kind Kind, cfg Config) (*Gateway, error) {
	g := &Gateway{kind: kind, cfg: cfg, failed: make(chan error, 2)}
	plan, ready := g.contourSpecs, "http://"+kind.statsAddress(cfg.NodeIP)+"/ready"
	switch kind {
	case Contour, GatewayAPI:
	case Traefik:
		plan, ready = g.traefikSpecs, "http://"+kind.statsAddress(cfg.NodeIP)+"/ping"
	case Skipper:
		plan, ready = g.skipperSpecs, kind.URL(cfg.NodeIP)+"kube-system/healthz"
	case Istio:
		plan, ready = g.istioSpecs, "http://"+net.JoinHostPort(istioGatewayIP, "15021")+"/healthz/ready"
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", kind, err)
	}
	if err := g.install(ctx); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", kind, err)
	}
	specs, err := plan(ctx)
	if err != nil {
		return nil, fmt.Errorf("gateway %s: %w", kind, err)
	}
	for _, spec := range specs {
		p, err := proc.Start(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("gateway %s: %w", kind, err)
		}
		go g.watch(p)
	}
	if err := g.waitReady(ctx, ready); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", kind, err)
	}
	return g, nil
}

func (g *Gateway) watch(p *proc.Process) {
	<-p.Done()
	if err := p.Err(); err != nil {
		g.failed <- err
	}
}

// install applies the custom resource definitions, and the Gateway where the
// data plane has one.
func (g *Gateway) install(ctx context.Context) error {
	for _, name := range g.kind.crds() {
		content, err := os.ReadFile(g.cfg.Programs[name])
		if err != nil {
			return err
		}
		if err := g.apply(ctx, content); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return g.apply(ctx, []byte(g.kind.gateway()))
}

// apply applies a manifest, to gatewayNamespace where it names no other.
func (g *Gateway) apply(ctx context.Context, content []byte) error {
	applier, err := manifest.NewApplier(g.cfg.Admin)
	if err != nil {
		return err
	}
	return applier.Apply(ctx, content, gatewayNamespace)
}

// drain is how long a proxy may take to end.
const drain = 2 * time.Second

// waitReady returns when the URL answers 200.
func (g *Gateway) waitReady(ctx context.Context, url string) error {
	return proc.WaitReady(ctx, url, "logs are in "+g.cfg.LogDir, func() error {
		select {
		case err := <-g.failed:
			return err
		default:
			return nil
		}
	})
}
