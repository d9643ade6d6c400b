package gateway

import (
	"context"
	_ "embed"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"flagger.app/flagger/hack/testbed/internal/proc"
)

// IstioImage is the image of Istio's proxies, IstioProxyProgram the component
// that stands for it; it starts the component [EnvoyProgram].
const (
	IstioImage        = "istio/proxyv2:*"
	IstioProxyProgram = "istio-proxy"
)

// istioGatewayIP is the address of the Service of the ingress gateway, whose
// proxy is a pod as in any cluster. It lies in the part of the Service range
// that is not given out by itself.
const istioGatewayIP = "10.96.0.80"

// istioObjects are applied before istiod starts, with two addresses filled in.
//
//go:embed istio.yaml
var istioObjects string

// meshSettings make configurations that an Envoy takes which Istio did not
// build: no filter istio.stats, since no provider of metrics is chosen.
// Instead the access log says what the series need; apps/istioproxy reads it.
const meshSettings = `
accessLogFile: /dev/stdout
accessLogEncoding: JSON
accessLogFormat: |
  {"code": "%RESPONSE_CODE%", "duration": "%DURATION%", "flags": "%RESPONSE_FLAGS%", "protocol": "%PROTOCOL%",
   "grpc": "%GRPC_STATUS_NUMBER%", "cluster": "%UPSTREAM_CLUSTER%",
   "services": "%CLUSTER_METADATA(istio:services)%", "workload": "%UPSTREAM_METADATA(istio:workload)%"}
`

// injection is what istiod adds to pods that get a sidecar.
//
//go:embed istio-inject.yaml
var injection string

// injectionValues lead the probes of the kubelet past the proxy, which is the
// default of Istio's charts.
const injectionValues = `{"global": {}, "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": true}}`

// injectionDir is where istiod looks for it, below its working folder.
const injectionDir = "var/lib/istio/inject"

// writeIstioFiles writes all that istiod reads.
func (g *Gateway) writeIstioFiles(mesh string) error {
	if err := os.MkdirAll(filepath.Join(g.cfg.Dir, injectionDir), 0o700); err != nil {
		return err
	}
	for file, content := range map[string]string{
		mesh:                                  meshSettings,
		filepath.Join(injectionDir, "config"): injection,
		filepath.Join(injectionDir, "values"): injectionValues,
	} {
		if err := os.WriteFile(filepath.Join(g.cfg.Dir, file), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// istioSpecs returns istiod. Proxies are pods; that of the ingress gateway
// gets ready when istiod is.
func (g *Gateway) istioSpecs(ctx context.Context) ([]proc.Spec, error) {
	const mesh = "mesh.yaml"
	if err := g.writeIstioFiles(mesh); err != nil {
		return nil, err
	}
	objects := strings.NewReplacer("NODE_IP", g.cfg.NodeIP, "GATEWAY_IP", istioGatewayIP).Replace(istioObjects)
	if err := g.apply(ctx, []byte(objects)); err != nil {
		return nil, err
	}
	at := func(port int) string { return net.JoinHostPort(g.cfg.NodeIP, strconv.Itoa(port)) }
	return []proc.Spec{{
		Name: istiodProgram, Path: g.cfg.Programs[istiodProgram], LogDir: g.cfg.LogDir, Dir: g.cfg.Dir, Grace: drain,
		Env: []string{
			"POD_NAME=istiod-testbed", "POD_NAMESPACE=istio-system", "REVISION=default", "KUBERNETES_SERVICE_HOST=",
			// Filters that are compiled into Istio's own build of Envoy only.
			"PILOT_ENABLE_ALPN_FILTER=false", "PILOT_ENABLE_METADATA_EXCHANGE=false",
		},
		Args: []string{
			"discovery", "--kubeconfig=" + g.cfg.Kubeconfig, "--meshConfig=" + mesh, "--namespace=istio-system",
			"--grpcAddr=" + at(15010), "--httpAddr=" + Istio.statsAddress(g.cfg.NodeIP), "--monitoringAddr=" + at(15014),
			"--secureGRPCAddr=" + at(15012), "--httpsAddr=" + at(15017), "--ctrlz_port=0", "--log_output_level=default:warn",
		},
	}}, nil
}
