// Command loadtester runs what the webhooks of Canaries ask for: load, tests, and gates that people open and close. Called as hey
// or ghz, or with that as its first argument, it is that tool.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/loadtester"
	"flagger.app/flagger/pkg/process"
	"flagger.app/flagger/pkg/server"
	"flagger.app/flagger/pkg/version"
)

// grace is how long tests that somebody waits for may take to end after a stop.
const grace = time.Minute

func main() {
	if run, args := toolOf(os.Args); run != nil {
		os.Exit(run(process.UntilSignal(), args, os.Stdout, os.Stderr))
	}
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case o.version:
		fmt.Printf("Load tester version %s revision %s\n", version.Version, version.Revision)
		return
	}
	logging := process.Logging{Level: o.logLevel, Encoding: o.zapEncoding, ReplaceGlobals: o.zapReplaceGlobals}
	os.Exit(process.Serve(logging, func(ctx context.Context, log *zap.Logger) error { return run(ctx, o, log) }))
}

// run serves until ctx ends.
func run(ctx context.Context, o *options, log *zap.Logger) error {
	log.Info("starting load tester", zap.String("version", version.Version), zap.String("revision", version.Revision), zap.String("port", o.port))
	builtIn, remove, err := provideTools()
	if err != nil {
		return err
	}
	defer remove()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gates, err := o.openGates()
	if err != nil {
		return err
	}
	tester, err := loadtester.New(loadtester.Options{
		Timeout: o.timeout, MaxCommands: o.maxCommands, Namespaces: o.namespaces, Shell: o.shell, ShellNamespaces: o.shellNamespaces,
		BuiltIn: builtIn, Gates: gates, Clock: clock.RealClock{}, Log: log, Metrics: registry,
	})
	if err != nil {
		return err
	}
	defer tester.Stop()
	return server.ListenAndServe(ctx, ":"+o.port, server.Options{
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}),
		Others:  tester.Handler(),
		Grace:   grace,
	})
}
