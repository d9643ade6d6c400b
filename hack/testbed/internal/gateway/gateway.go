// Package gateway runs a data plane beside a testbed's cluster: Contour, which
// reads HTTPProxy objects, and the Envoy proxy that it configures. Both are
// processes in the testbed's own network namespace, from where every pod is
// reached directly.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"flagger.app/flagger/hack/testbed/internal/manifest"
	"flagger.app/flagger/hack/testbed/internal/proc"
)

// Ports on the node's address.
const (
	// HTTPPort is where requests go in.
	HTTPPort = 80
	// StatsPort is where Envoy serves its metrics, at [StatsPath].
	StatsPort = 8002
)

// StatsPath is the path of Envoy's metrics for Prometheus.
const StatsPath = "/stats/prometheus"

// IngressClass is what HTTPProxy objects may name as ingress class.
const IngressClass = "contour"

// Ports on loopback, between Contour and Envoy and for health checks.
const (
	xdsPort     = 8001
	contourPort = 8000
	debugPort   = 6060
)

// adminDir gets Envoy's admin socket. Paths of sockets are limited to 108
// bytes, which state folders may exceed; /run is private to the testbed.
const adminDir = "/run/testbed-gateway"

// Config says how to run the gateway. All fields are required.
type Config struct {
	// Contour, Envoy and CRDs are the paths of the programs and of the file
	// with Contour's custom resource definitions.
	Contour, Envoy, CRDs string
	// Dir gets configuration, LogDir the logs.
	Dir, LogDir string
	// NodeIP is the address to listen on.
	NodeIP string
	// Kubeconfig is what Contour watches the cluster with.
	Kubeconfig string
	// Admin may install custom resource definitions.
	Admin *rest.Config
}

// Gateway is a running gateway.
type Gateway struct {
	cfg       Config
	processes []*proc.Process
	failed    chan error
}

// URL is where requests go in.
func (g *Gateway) URL() string { return URL(g.cfg.NodeIP) }

// URL is where requests to the gateway on a node go in.
func URL(nodeIP string) string {
	return "http://" + net.JoinHostPort(nodeIP, strconv.Itoa(HTTPPort)) + "/"
}

// StatsTarget is what a Prometheus scrapes: address and path of the metrics.
func StatsTarget(nodeIP string) string {
	return net.JoinHostPort(nodeIP, strconv.Itoa(StatsPort)) + StatsPath
}

// Failed yields an error if one of the programs ends unasked.
func (g *Gateway) Failed() <-chan error { return g.failed }

// Start installs the custom resource definitions and runs the programs. It
// returns when Envoy has its first configuration. Both end when ctx does.
func Start(ctx context.Context, cfg Config) (*Gateway, error) {
	g := &Gateway{cfg: cfg, failed: make(chan error, 2)}
	if err := g.installCRDs(ctx); err != nil {
		return nil, err
	}
	bootstrap, err := g.writeFiles(ctx)
	if err != nil {
		return nil, err
	}
	for _, spec := range []proc.Spec{g.contour(), g.envoy(bootstrap)} {
		p, err := proc.Start(ctx, spec)
		if err != nil {
			return nil, err
		}
		g.processes = append(g.processes, p)
		go g.watch(p)
	}
	return g, g.waitReady(ctx)
}

func (g *Gateway) watch(p *proc.Process) {
	<-p.Done()
	if err := p.Err(); err != nil {
		g.failed <- err
	}
}

func (g *Gateway) installCRDs(ctx context.Context) error {
	content, err := os.ReadFile(g.cfg.CRDs)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	applier, err := manifest.NewApplier(g.cfg.Admin)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	if err := applier.Apply(ctx, content, ""); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// contourSettings logs requests only if they failed: at some hundred requests
// a second a full log would cost more than it tells.
const contourSettings = "accesslog-level: error\naccesslog-format: envoy\n"

// writeFiles writes Contour's configuration and has it write that of Envoy,
// whose path is returned.
func (g *Gateway) writeFiles(ctx context.Context) (string, error) {
	for _, dir := range []string{g.cfg.Dir, adminDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("gateway: %w", err)
		}
	}
	if err := os.WriteFile(g.path("contour.yaml"), []byte(contourSettings), 0o600); err != nil {
		return "", fmt.Errorf("gateway: %w", err)
	}
	bootstrap := g.path("envoy.json")
	// Without certificates Contour's stream to Envoy is plain text, which
	// stays on the loopback of a network namespace of its own.
	p, err := proc.Start(ctx, proc.Spec{
		Name: "contour-bootstrap", Path: g.cfg.Contour, LogDir: g.cfg.LogDir,
		Args: []string{
			"bootstrap", bootstrap, "--admin-address=" + filepath.Join(adminDir, "admin.sock"),
			"--xds-address=127.0.0.1", "--xds-port=" + strconv.Itoa(xdsPort), "--xds-resource-version=v3",
		},
	})
	if err != nil {
		return "", err
	}
	<-p.Done()
	if _, err := os.Stat(bootstrap); err != nil {
		return "", fmt.Errorf("gateway: %w", errors.Join(p.Err(), err))
	}
	return bootstrap, nil
}

func (g *Gateway) path(name string) string { return filepath.Join(g.cfg.Dir, name) }

func (g *Gateway) contour() proc.Spec {
	return proc.Spec{
		Name: ContourProgram, Path: g.cfg.Contour, LogDir: g.cfg.LogDir, Dir: g.cfg.Dir,
		Args: []string{
			"serve", "--config-path=" + g.path("contour.yaml"), "--kubeconfig=" + g.cfg.Kubeconfig,
			"--disable-leader-election", "--kubernetes-client-qps=100", "--kubernetes-client-burst=200",
			"--insecure", "--xds-address=127.0.0.1", "--xds-port=" + strconv.Itoa(xdsPort),
			"--http-address=127.0.0.1", "--http-port=" + strconv.Itoa(contourPort),
			"--health-address=127.0.0.1", "--health-port=" + strconv.Itoa(contourPort),
			"--debug-http-address=127.0.0.1", "--debug-http-port=" + strconv.Itoa(debugPort),
			"--envoy-service-http-address=" + g.cfg.NodeIP, "--envoy-service-http-port=" + strconv.Itoa(HTTPPort),
			"--stats-address=" + g.cfg.NodeIP, "--stats-port=" + strconv.Itoa(StatsPort),
			"--ingress-status-address=" + g.cfg.NodeIP,
		},
	}
}

// drain is how long Envoy may take to end.
const drain = 2 * time.Second

func (g *Gateway) envoy(bootstrap string) proc.Spec {
	return proc.Spec{
		Name: EnvoyProgram, Path: g.cfg.Envoy, LogDir: g.cfg.LogDir, Dir: g.cfg.Dir, Grace: drain,
		Args: []string{
			"--config-path", bootstrap, "--service-cluster", "testbed", "--service-node", "gateway",
			// Hot restart needs shared memory that testbeds side by side would share.
			"--disable-hot-restart", "--log-level", "warning",
		},
	}
}

// Limits of the wait for Envoy's first configuration.
const (
	readyTimeout = time.Minute
	readyPoll    = 25 * time.Millisecond
)

func (g *Gateway) waitReady(ctx context.Context) error {
	url := "http://" + net.JoinHostPort(g.cfg.NodeIP, strconv.Itoa(StatsPort)) + "/ready"
	var last error
	poll := func(ctx context.Context) (bool, error) {
		select {
		case err := <-g.failed:
			return false, err
		default:
		}
		last = probe(ctx, url)
		return last == nil, nil
	}
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("gateway: not ready after %s: %w; logs are in %s", readyTimeout, last, g.cfg.LogDir)
	}
	return err
}

// probe returns nil if the URL answers 200.
func probe(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, response.Status)
	}
	return nil
}
