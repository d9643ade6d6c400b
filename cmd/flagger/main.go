// Command flagger is the operator: it rolls out new revisions of workloads step by step, judges them, and promotes them or
// takes them back. As "flagger convert" it prints what older manifests are equivalent to.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"go.uber.org/zap"
	"k8s.io/klog/v2"

	"github.com/go-logr/zapr"

	"flagger.app/flagger/pkg/process"
	"flagger.app/flagger/pkg/version"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "convert" {
		os.Exit(convertCommand(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	o, err := parse(os.Args[1:], os.LookupEnv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case o.version:
		fmt.Printf("Flagger version %s revision  %s\n", version.Version, version.Revision)
		return
	}
	log, err := process.NewLogger(o.logLevel, o.zapEncoding)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if o.zapReplaceGlobals {
		zap.ReplaceGlobals(log)
	}
	klog.SetLogger(zapr.NewLogger(log))
	if limit, ok := memoryLimit(os.DirFS("/"), os.LookupEnv); ok {
		debug.SetMemoryLimit(limit)
		log.Info("memory is limited by the container", zap.Int64("runtimeBytes", limit))
	}
	err = run(process.UntilSignal(), o, log)
	if err != nil {
		log.Error("stopped", zap.Error(err))
	}
	// Stderr may be a pipe that nobody reads anymore; there is nowhere left to report that.
	_ = log.Sync()
	if err != nil {
		os.Exit(1)
	}
}
