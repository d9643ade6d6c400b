package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"

	"flagger.app/flagger/hack/testbed/internal/addon"
	"flagger.app/flagger/hack/testbed/internal/control"
	"flagger.app/flagger/hack/testbed/internal/demo"
	"flagger.app/flagger/hack/testbed/internal/gateway"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/prometheus"
)

// feature is something a testbed has on request, by --with.
type feature struct {
	name, about string
	// components are built for it; images are added to those of the node.
	components []string
	images     map[string]control.Image
	// start runs the feature until ctx ends; it returns when it is ready.
	start func(ctx context.Context, w *worker) error
}

// features lists all features. Those asked for start side by side, once the
// cluster is ready and the node takes pods.
func features() []feature {
	return []feature{
		{
			name:       prometheus.Program,
			about:      "Prometheus at http://prometheus.monitoring:9090, scraping annotated pods each second",
			components: []string{prometheus.Program},
			start:      startPrometheus,
		},
		gatewayFeature(gateway.Contour, "Contour and Envoy at %s, routing by HTTPProxy objects"),
		gatewayFeature(gateway.GatewayAPI, "Contour and Envoy at %s, routing by HTTPRoutes to the Gateway gatewayapi"),
		gatewayFeature(gateway.Traefik, "Traefik at %s, routing by IngressRoutes, and by HTTPRoutes to the Gateway traefik; its build takes 10 minutes"),
		gatewayFeature(gateway.Skipper, "Skipper at %s, routing by Ingress objects"),
		istioFeature(),
		addonFeature(addon.Keda, "KEDA's operator, without its metrics server; its build takes 8 minutes"),
		addonFeature(addon.Knative, "Knative Serving, without anything that implements its ingresses; its build takes 4 minutes"),
		{
			name:       demoFeature,
			about:      "the operator and the versions of podinfo that the demo shows, built before it begins",
			components: demo.ComponentNames(),
			start:      awaitDemo,
		},
	}
}

func gatewayFeature(kind gateway.Kind, about string) feature {
	return feature{
		name:       string(kind),
		about:      fmt.Sprintf(about, kind.URL(netns.NodeIP)),
		components: kind.ComponentNames(),
		start:      func(ctx context.Context, w *worker) error { return startGateway(ctx, w, kind) },
	}
}

// istioFeature adds the image of Istio's proxies, which are pods.
func istioFeature() feature {
	f := gatewayFeature(gateway.Istio, "istiod, and Envoy as ingress gateway at %s and as sidecar; its build takes 8 minutes")
	f.images = map[string]control.Image{gateway.IstioImage: {
		Component: gateway.IstioProxyProgram, Program: gateway.IstioProxyProgram,
		Mounts: map[string]string{"/usr/local/bin/envoy": gateway.EnvoyProgram},
	}}
	return f
}

func addonFeature(kind addon.Kind, about string) feature {
	images := map[string]control.Image{}
	for image, component := range kind.Images() {
		images[image] = control.Image{Component: component, Program: component}
	}
	return feature{
		name: string(kind), about: about, components: kind.ComponentNames(), images: images,
		start: func(ctx context.Context, w *worker) error { return startAddon(ctx, w, kind) },
	}
}

// demoFeature is the name of what the demo needs beside the others.
const demoFeature = "demo"

// findFeatures returns the named features; an unknown name is an error.
func findFeatures(names []string) ([]feature, error) {
	all := features()
	var found []feature
	for _, name := range names {
		i := slices.IndexFunc(all, func(f feature) bool { return f.name == name })
		if i < 0 {
			var known []string
			for _, f := range all {
				known = append(known, f.name)
			}
			return nil, fmt.Errorf("--with %s: no such feature; there are: %s", name, strings.Join(known, ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}

func startPrometheus(ctx context.Context, w *worker) error {
	built, err := w.component(ctx, prometheus.Program)
	if err != nil {
		return err
	}
	const user = "testbed-prometheus"
	kubeconfig, err := w.cluster.Kubeconfig(user)
	if err != nil {
		return err
	}
	client, _, err := w.cluster.Client("testbed")
	if err != nil {
		return err
	}
	process, err := prometheus.Start(ctx, prometheus.Config{
		Path:       built[prometheus.Program],
		Dir:        w.dir.Sub(prometheus.Program),
		LogDir:     w.dir.Logs(),
		Kubeconfig: kubeconfig,
		NodeIP:     netns.NodeIP,
		Static:     w.scrapeTargets(),
		Client:     client,
	})
	if err != nil {
		return err
	}
	w.watch(process)
	return w.expose(ctx, prometheus.Program, net.JoinHostPort(netns.NodeIP, strconv.Itoa(prometheus.Port)))
}

// scrapeTargets are the targets beside pods, by job.
func (w *worker) scrapeTargets() map[string][]string {
	targets := map[string][]string{}
	for _, kind := range []gateway.Kind{gateway.Contour, gateway.GatewayAPI, gateway.Traefik, gateway.Skipper} {
		if slices.Contains(w.plan.Features, string(kind)) {
			targets[string(kind)] = []string{kind.StatsTarget(netns.NodeIP)}
		}
	}
	return targets
}

func startGateway(ctx context.Context, w *worker, kind gateway.Kind) error {
	programs, err := w.programs(ctx, kind.ComponentNames())
	if err != nil {
		return err
	}
	kubeconfig, admin, err := w.clientsOf(string(kind))
	if err != nil {
		return err
	}
	g, err := gateway.Start(ctx, kind, gateway.Config{
		Programs:   programs,
		Dir:        w.dir.Sub(string(kind)),
		LogDir:     w.dir.Logs(),
		NodeIP:     netns.NodeIP,
		Kubeconfig: kubeconfig,
		Admin:      admin,
	})
	if err != nil {
		return err
	}
	w.keep(func() error {
		select {
		case err := <-g.Failed():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	return w.expose(ctx, string(kind), kind.Address(netns.NodeIP))
}

func startAddon(ctx context.Context, w *worker, kind addon.Kind) error {
	programs, err := w.programs(ctx, kind.ComponentNames())
	if err != nil {
		return err
	}
	kubeconfig, admin, err := w.clientsOf(string(kind))
	if err != nil {
		return err
	}
	processes, err := addon.Start(ctx, kind, addon.Config{
		Programs: programs, Dir: w.dir.Sub(string(kind)), LogDir: w.dir.Logs(), PKI: w.dir.Sub("pki"), Kubeconfig: kubeconfig, Admin: admin,
	})
	for _, p := range processes {
		w.watch(p)
	}
	return err
}

// programs waits for components and returns the one program or file of each.
func (w *worker) programs(ctx context.Context, components []string) (map[string]string, error) {
	programs := map[string]string{}
	for _, name := range components {
		built, err := w.component(ctx, name)
		if err != nil {
			return nil, err
		}
		programs[name] = built[name]
	}
	return programs, nil
}

// clientsOf returns what a feature acts with, and what it is set up with.
func (w *worker) clientsOf(feature string) (kubeconfig string, admin *rest.Config, err error) {
	user := "testbed-" + feature
	if kubeconfig, err = w.cluster.Kubeconfig(user); err != nil {
		return "", nil, err
	}
	_, admin, err = w.cluster.Client(user + "-setup")
	return kubeconfig, admin, err
}

// awaitDemo returns when all programs of the demo are built. Pods would wait
// for theirs too, but the story is told without breaks.
func awaitDemo(ctx context.Context, w *worker) error {
	for _, name := range demo.ComponentNames() {
		if _, err := w.component(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
