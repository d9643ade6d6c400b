package gateway

import (
	"context"

	"flagger.app/flagger/hack/testbed/internal/proc"
)

// traefikSpecs returns the one program.
func (g *Gateway) traefikSpecs(context.Context) ([]proc.Spec, error) {
	return []proc.Spec{{
		Name: traefikProgram, Path: g.cfg.Programs[traefikProgram], LogDir: g.cfg.LogDir, Dir: g.cfg.Dir, Grace: drain,
		// An empty host keeps a Traefik that runs in a pod from taking that pod's cluster.
		Env: []string{"KUBECONFIG=" + g.cfg.Kubeconfig, "KUBERNETES_SERVICE_HOST="},
		Args: []string{
			"--entrypoints.web.address=" + Traefik.Address(g.cfg.NodeIP),
			"--entrypoints.stats.address=" + Traefik.statsAddress(g.cfg.NodeIP),
			"--providers.kubernetescrd=true", "--providers.kubernetesgateway=true",
			// The default of 2 s would keep traffic on pods that are about to end.
			"--providers.providersthrottleduration=100ms",
			"--metrics.prometheus=true", "--metrics.prometheus.entrypoint=stats",
			"--metrics.prometheus.addserviceslabels=true",
			"--metrics.prometheus.buckets=0.001,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10",
			"--ping=true", "--ping.entrypoint=stats",
			"--global.checknewversion=false", "--global.sendanonymoususage=false",
			"--log.level=WARN",
		},
	}}, nil
}
