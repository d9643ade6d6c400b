package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	main := filepath.Dir(filepath.Dir(root))
	if *inside {
		return demoInside(ctx, main, *rate)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	image, err := demo.OperatorImage(main)
	if err != nil {
		return err
	}
	run := []string{
		"--name", at.name, "--state", at.state, "--cache", *cache, "--keep=" + strconv.FormatBool(*keep),
		"--with", strings.Join([]string{prometheus.Program, gatewayFeature, demoFeature}, ","),
		"--images", filepath.Join(root, "demo", "images.yaml"),
		"--image", image + "=@" + demo.OperatorProgram,
		"--", self, "demo", "--" + insideFlag, "--rate", fmt.Sprint(*rate),
	}
	return runCommand(ctx, run)
}

// demoInside shows the demo in the cluster of the KUBECONFIG.
func demoInside(ctx context.Context, root string, rate float64) error {
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
		Admin:   admin,
		Root:    root,
		Gateway: gateway.URL(netns.NodeIP),
		MetricsServer: fmt.Sprintf("http://%s.%s:%d",
			prometheus.ServiceName, prometheus.Namespace, prometheus.Port),
		Rate:  rate,
		Out:   os.Stdout,
		Clock: clock.RealClock{},
	})
}
