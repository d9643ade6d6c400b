// Command flagger is the operator: it rolls out new revisions of workloads step by step, judges them, and promotes them or
// takes them back. As "flagger convert" it prints what older manifests are equivalent to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"go.uber.org/zap"

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
	if o.pprofAddress == "" {
		// Nobody can ask for a profile of the heap, for which the runtime keeps a table of more than a megabyte.
		runtime.MemProfileRate = 0
	}
	logging := process.Logging{Level: o.logLevel, Encoding: o.zapEncoding, ReplaceGlobals: o.zapReplaceGlobals}
	os.Exit(process.Serve(logging, func(ctx context.Context, log *zap.Logger) error {
		if limit, ok := memoryLimit(os.DirFS("/"), os.LookupEnv); ok {
			debug.SetMemoryLimit(limit)
			log.Info("memory is limited by the container", zap.Int64("runtimeBytes", limit))
		}
		return run(ctx, o, log)
	}))
}
