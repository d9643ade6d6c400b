package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/demo"
	"flagger.app/flagger/hack/testbed/internal/gateway"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/prometheus"
)

// insideFlag makes the demo command show the demo in the testbed it runs in.
const insideFlag = "inside"

// demoCommand starts a testbed with all that the demo needs, and itself in it.
func demoCommand(ctx context.Context, args []string) error {
	var at where
	flags := newFlags("demo")
	at.register(flags)
	rate := flags.Float64("rate", demo.DefaultRate, "requests per second")
	through := flags.String("gateway", "", "contour or traefik (default contour, or traefik where Envoy cannot be had)")
	cache := flags.String("cache", "", "folder of built programs (default flagger-testbed in the user's cache folder)")
	keep := flags.Bool("keep", false, "keep the state folder with all logs at the end")
	inside := flags.Bool(insideFlag, false, "show the demo in the testbed that this command runs in")
	if err := parse(flags, "", args); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if *inside {
		return demoInside(ctx, root, gateway.Kind(*through), *rate)
	}
	kind, err := chooseGateway(ctx, *through, *cache)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	image, err := demo.OperatorImage(mainModule(root))
	if err != nil {
		return err
	}
	return runCommand(ctx, []string{
		"--name", at.name, "--state", at.state, "--cache", *cache, "--keep=" + strconv.FormatBool(*keep),
		"--with", strings.Join([]string{prometheus.Program, string(kind), demoFeature}, ","),
		"--images", filepath.Join(root, "demo", "images.yaml"),
		"--image", image + "=@" + demo.OperatorProgram,
		"--", self, "demo", "--" + insideFlag, "--gateway", string(kind), "--rate", fmt.Sprint(*rate),
	})
}

// mainModule is the folder of the operator's module, root that of this one.
func mainModule(root string) string { return filepath.Dir(filepath.Dir(root)) }

// chooseGateway returns the named data plane, or the one that can be had.
func chooseGateway(ctx context.Context, name, cache string) (gateway.Kind, error) {
	switch kind := gateway.Kind(name); kind {
	case gateway.Contour, gateway.Traefik:
		return kind, nil
	case "":
	default:
		return "", fmt.Errorf("--gateway %s: there are %s and %s", name, gateway.Contour, gateway.Traefik)
	}
	err := haveEnvoy(ctx, cache)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "Envoy cannot be had (%v); Traefik takes its place. "+
			"It is built from source, which takes 10 minutes the first time.\n", err)
		return gateway.Traefik, nil
	}
	return gateway.Contour, nil
}

// haveEnvoy gets Envoy and tries whether this machine can run it: the builds
// need a C library of a certain age.
func haveEnvoy(ctx context.Context, cache string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reporter := newReporter()
	go reporter.Run(ctx)
	builder, err := newBuilder(cache, reporter)
	if err != nil {
		return err
	}
	handles, err := builder.Start(ctx, gateway.EnvoyProgram)
	if err != nil {
		return err
	}
	result, err := handles[gateway.EnvoyProgram].Wait(ctx)
	if err != nil {
		return err
	}
	output, err := exec.CommandContext(ctx, result.Programs[gateway.EnvoyProgram], "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("envoy --version: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}

// demoInside shows the demo in the cluster of the KUBECONFIG.
func demoInside(ctx context.Context, root string, kind gateway.Kind, rate float64) error {
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" || os.Getenv("TESTBED_NAME") == "" {
		return errors.New("demo --" + insideFlag + " works inside a testbed only; leave the flag out")
	}
	admin, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	// No limit: calls that wait for their turn would look like a slow operator.
	admin.QPS = -1
	return demo.Run(ctx, demo.Config{
		Admin:     admin,
		Root:      mainModule(root),
		Manifests: filepath.Join(root, "demo"),
		Gateway:   string(kind),
		URL:       kind.URL(netns.NodeIP),
		MetricsServer: fmt.Sprintf("http://%s.%s:%d",
			prometheus.ServiceName, prometheus.Namespace, prometheus.Port),
		Rate:  rate,
		Out:   os.Stdout,
		Clock: clock.RealClock{},
	})
}
