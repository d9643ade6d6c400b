// Package demo shows a whole release on a testbed, under traffic that never
// stops: podinfo is put behind a Canary, a good version is promoted step by
// step, a bad one is taken back. It says at each step what was wanted and what
// the requests really met, and fails if a promise was not kept.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/load"
)

// DefaultRate is in requests per second. With it a step of 10 s has enough
// requests to measure its weight within 2 points (two standard deviations).
const DefaultRate = 250

// Names in the manifests of the demo.
const (
	namespace = "test"
	appName   = "podinfo"
	host      = "podinfo.example.com"

	previewHeader = "X-Preview"
)

// Config says where to show the demo. All fields are required.
type Config struct {
	// Admin may do everything in the cluster.
	Admin *rest.Config
	// Root is the folder of the main module, with the operator's manifests;
	// Manifests is the folder hack/testbed/demo.
	Root, Manifests string
	// Gateway is the name of the gateway, of the operator's provider for it and
	// of the folder with its routes; URL is where it takes requests.
	Gateway, URL string
	// MetricsServer is the URL of Prometheus, as pods reach it.
	MetricsServer string
	// Rate is in requests per second.
	Rate  float64
	Out   io.Writer
	Clock clock.WithTicker
}

// ErrPromiseBroken is returned by [Run] if the demo went through to its end,
// but something was not as it should be; the output says what.
var ErrPromiseBroken = errors.New("the demo failed")

// demo is a demo that goes on.
type demo struct {
	cfg     Config
	out     *printer
	cluster *clusterClient
	load    *load.Generator
	tracker *tracker
	results results
}

// Run shows the demo. Its error is ErrPromiseBroken, or what kept it from
// going on.
func Run(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	generator, err := load.New(load.Config{
		URL: cfg.URL, Host: host, Rate: cfg.Rate, Faulty: []string{FaultyVersion}, Clock: cfg.Clock,
	})
	if err != nil {
		return err
	}
	client, err := newClusterClient(cfg)
	if err != nil {
		return err
	}
	out := newPrinter(cfg.Out, cfg.Clock)
	d := &demo{cfg: cfg, out: out, cluster: client, load: generator, tracker: newTracker(cfg.Clock, out, generator)}
	if err := d.readAnalysis(); err != nil {
		return err
	}
	stopLoad, err := d.prepare(ctx)
	if err != nil {
		return d.explain(ctx, err)
	}
	err = d.story(ctx)
	stopLoad()
	if err != nil {
		return d.explain(ctx, err)
	}
	return d.conclude()
}

// explain adds the end of the operator's log to an error of the story, since
// the testbed is gone afterwards.
func (d *demo) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	log, logErr := d.cluster.operatorLog(ctx)
	if logErr != nil || log == "" {
		return err
	}
	return fmt.Errorf("%w\n\nThe operator's last words:\n%s", err, log)
}

// manifest is the path of a manifest.
func (d *demo) manifest(name string) string { return filepath.Join(d.cfg.Manifests, name) }

// apply does what kubectl apply does, and says so if told.
func (d *demo) apply(ctx context.Context, name string, say bool) error {
	if say {
		d.out.step("$ kubectl -n %s apply -f %s", namespace, name)
	}
	return d.cluster.applyFile(ctx, d.manifest(name), namespace)
}

// route is the name of a manifest of the gateway: before.yaml, preview.yaml or
// after.yaml.
func (d *demo) route(name string) string { return filepath.Join(d.cfg.Gateway, name) }

// prepare installs the operator and podinfo and lets the traffic begin; the
// returned function ends it and waits for the last answers.
func (d *demo) prepare(ctx context.Context) (stop func(), err error) {
	d.out.chapter("podinfo %s is live, without a Canary", FirstVersion)
	if err := d.cluster.installOperator(ctx); err != nil {
		return nil, err
	}
	d.out.step("The operator runs in namespace %s", d.cluster.operatorNamespace)
	if err := d.cluster.createNamespace(ctx, namespace); err != nil {
		return nil, err
	}
	for _, name := range []string{"podinfo.yaml", d.route("before.yaml")} {
		if err := d.apply(ctx, name, false); err != nil {
			return nil, err
		}
	}
	isFirst := func(o load.Origin) bool { return o.Version == FirstVersion }
	if err := d.waitServed(ctx, "", isFirst); err != nil {
		return nil, err
	}
	if err := d.tracker.start(ctx, d.cluster); err != nil {
		return nil, err
	}
	loadCtx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.load.Run(loadCtx)
	}()
	d.out.step("Traffic begins: %g requests/s through the gateway, a quarter of them on new connections", d.cfg.Rate)
	return func() { cancel(); <-ended }, nil
}

// calm is how long a state that should not change is watched.
const calm = 3 * time.Second

// story goes through the chapters.
func (d *demo) story(ctx context.Context) error {
	if err := d.pause(ctx, calm); err != nil {
		return err
	}
	for _, chapter := range []func(context.Context) error{d.onboard, d.releaseGood, d.releaseFaulty} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pause lets the traffic go on for a while.
func (d *demo) pause(ctx context.Context, duration time.Duration) error {
	timer := d.cfg.Clock.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
