package addon

import (
	"context"
	"os"
	"path/filepath"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/manifest"
	"flagger.app/flagger/hack/testbed/internal/proc"
)

// Keda scales by events. Its metrics server does not run: without it KEDA takes
// workloads from zero to their minimum and back by its triggers, holds them
// where a pause says, and makes autoscalers for the rest, which keep to their
// minimum.
const Keda Kind = "keda"

// Names of the components of KEDA.
const (
	kedaProgram = "keda"
	kedaCRDs    = "keda-crds"
)

// Ports of KEDA on loopback.
const (
	kedaHealth  = 8101
	kedaMetrics = 8102
	kedaGRPC    = 9666
)

func kedaComponents(dir string) []build.Component {
	const module = "github.com/kedacore/keda/v2"
	at := filepath.Join(dir, "tools", "keda")
	return []build.Component{
		{Name: kedaProgram, Recipe: build.GoModule{Dir: at, Package: module + "/cmd/operator"}},
		{Name: kedaCRDs, Recipe: build.ModuleFile{Dir: at, Module: module, File: "config/crd/bases/*.yaml"}},
	}
}

func (c Config) startKeda(ctx context.Context) (*proc.Process, error) {
	content, err := os.ReadFile(c.Programs[kedaCRDs])
	if err != nil {
		return nil, err
	}
	applier, err := manifest.NewApplier(c.Admin)
	if err != nil {
		return nil, err
	}
	if err := applier.Apply(ctx, content, ""); err != nil {
		return nil, err
	}
	certs := filepath.Join(c.Dir, "certs")
	if err := c.linkCertificates(certs); err != nil {
		return nil, err
	}
	p, err := proc.Start(ctx, proc.Spec{
		Name: kedaProgram, Path: c.Programs[kedaProgram], LogDir: c.LogDir, Dir: c.Dir,
		Args: []string{
			"--kubeconfig=" + c.Kubeconfig, "--cert-dir=" + certs,
			"--health-probe-bind-address=" + local(kedaHealth), "--metrics-bind-address=" + local(kedaMetrics),
			"--metrics-service-bind-address=" + local(kedaGRPC),
			"--kube-api-qps=100", "--kube-api-burst=200", "--zap-log-level=info",
		},
		Env: []string{"WATCH_NAMESPACE=", "POD_NAMESPACE=keda", "KEDA_CLUSTER_OBJECT_NAMESPACE=keda"},
	})
	if err != nil {
		return nil, err
	}
	return p, p.WaitReady(ctx, "http://"+local(kedaHealth)+"/readyz")
}

// linkCertificates makes the folder that KEDA's own certificates would be in.
// It shows them to its metrics server alone.
func (c Config) linkCertificates(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, of := range map[string]string{"ca.crt": "ca.crt", "tls.crt": "apiserver.crt", "tls.key": "apiserver.key"} {
		if err := os.Symlink(filepath.Join(c.PKI, of), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
