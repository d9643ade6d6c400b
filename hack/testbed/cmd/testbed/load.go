package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"flagger.app/flagger/hack/testbed/internal/load"
)

// loadCommand sends requests; call it inside a testbed by exec or run.
func loadCommand(ctx context.Context, args []string) error {
	err := load.Command(ctx, args, os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitError{code: 0}
	}
	return err
}
