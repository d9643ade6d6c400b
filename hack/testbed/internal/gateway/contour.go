package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"flagger.app/flagger/hack/testbed/internal/proc"
)

// Ports on loopback, between Contour and Envoy and for health checks. Those of
// the Contour that reads the Gateway API are higher by apart.
const (
	xdsPort     = 8001
	contourPort = 8000
	debugPort   = 6060
	apart       = 10
)

// local is a port on loopback.
func (g *Gateway) local(port int) string {
	if g.kind == GatewayAPI {
		port += apart
	}
	return strconv.Itoa(port)
}

// process names one of the two programs in logs.
func (g *Gateway) process(program string) string {
	if g.kind == GatewayAPI {
		return string(g.kind) + "-" + program
	}
	return program
}

// adminDir gets Envoy's admin socket. Paths of sockets are limited to 108
// bytes, which state folders may exceed; /run is private to the testbed.
const adminDir = "/run/testbed-gateway"

// contourSettings logs requests only if they failed: at some hundred requests
// a second a full log would cost more than it tells.
const contourSettings = "accesslog-level: error\naccesslog-format: envoy\n"

// contourSpecs writes the configuration of Contour, has it write that of
// Envoy, and returns the two programs.
func (g *Gateway) contourSpecs(ctx context.Context) ([]proc.Spec, error) {
	if err := os.MkdirAll(adminDir, 0o700); err != nil {
		return nil, err
	}
	settings, bootstrap := filepath.Join(g.cfg.Dir, "contour.yaml"), filepath.Join(g.cfg.Dir, "envoy.json")
	content := contourSettings
	if g.kind == GatewayAPI {
		content += fmt.Sprintf("gateway: {gatewayRef: {namespace: %s, name: %s}}\n", gatewayNamespace, g.kind)
	}
	if err := os.WriteFile(settings, []byte(content), 0o600); err != nil {
		return nil, err
	}
	if err := g.writeBootstrap(ctx, bootstrap); err != nil {
		return nil, err
	}
	return []proc.Spec{g.contour(settings), g.envoy(bootstrap)}, nil
}

// writeBootstrap has Contour write Envoy's configuration. Without certificates
// the stream between the two is plain text, which stays on the loopback of a
// network namespace of its own.
func (g *Gateway) writeBootstrap(ctx context.Context, path string) error {
	p, err := proc.Start(ctx, proc.Spec{
		Name: g.process("contour-bootstrap"), Path: g.cfg.Programs[contourProgram], LogDir: g.cfg.LogDir,
		Args: []string{
			"bootstrap", path, "--admin-address=" + filepath.Join(adminDir, string(g.kind)+".sock"),
			"--xds-address=127.0.0.1", "--xds-port=" + g.local(xdsPort), "--xds-resource-version=v3",
		},
	})
	if err != nil {
		return err
	}
	// An end is what proc takes for a failure; here it is one without the file.
	<-p.Done()
	if _, err := os.Stat(path); err != nil {
		return errors.Join(p.Err(), err)
	}
	return nil
}

func (g *Gateway) contour(settings string) proc.Spec {
	at := g.kind.ports()
	var class []string
	if g.kind == GatewayAPI {
		// HTTPProxies and Ingresses are for the other one.
		class = append(class, "--ingress-class-name="+string(g.kind))
	}
	return proc.Spec{
		Name: g.process(contourProgram), Path: g.cfg.Programs[contourProgram], LogDir: g.cfg.LogDir, Dir: g.cfg.Dir,
		Args: append([]string{
			"serve", "--config-path=" + settings, "--kubeconfig=" + g.cfg.Kubeconfig,
			"--disable-leader-election", "--kubernetes-client-qps=100", "--kubernetes-client-burst=200",
			"--insecure", "--xds-address=127.0.0.1", "--xds-port=" + g.local(xdsPort),
			"--http-address=127.0.0.1", "--http-port=" + g.local(contourPort),
			"--health-address=127.0.0.1", "--health-port=" + g.local(contourPort),
			"--debug-http-address=127.0.0.1", "--debug-http-port=" + g.local(debugPort),
			"--envoy-service-http-address=" + g.cfg.NodeIP, "--envoy-service-http-port=" + strconv.Itoa(at.http),
			"--stats-address=" + g.cfg.NodeIP, "--stats-port=" + strconv.Itoa(at.stats),
			"--ingress-status-address=" + g.cfg.NodeIP,
		}, class...),
	}
}

func (g *Gateway) envoy(bootstrap string) proc.Spec {
	return proc.Spec{
		Name: g.process(EnvoyProgram), Path: g.cfg.Programs[EnvoyProgram], LogDir: g.cfg.LogDir, Dir: g.cfg.Dir, Grace: drain,
		Args: []string{
			"--config-path", bootstrap, "--service-cluster", "testbed", "--service-node", "gateway",
			// Hot restart needs shared memory that testbeds side by side would share.
			"--disable-hot-restart", "--log-level", "warning",
		},
	}
}
