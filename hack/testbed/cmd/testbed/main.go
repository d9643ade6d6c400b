// Command testbed runs a real Kubernetes control plane, a node whose pods are
// processes, Services and cluster DNS on this machine, without containers and
// without root. See the README of this module.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/node"
)

const usage = `usage: testbed <command> [flags]

  up       start a testbed; Ctrl-C ends it
  run      start a testbed, run a command inside, end the testbed
  exec     run a command inside a testbed that is up
  forward  make an address inside reachable on a local port
  down     end a testbed
  build    build the programs that testbeds run, in advance
  demo     show the promotion of a good and the rollback of a bad release
  load     send requests at a fixed rate and report what became of each
  list     show components, features and images

testbed <command> -h shows the flags of a command.
`

func main() {
	// Containers and the inside of a testbed are this program too.
	node.MaybeRunContainerInit()
	netns.MaybeRun(work)
	os.Exit(run(os.Args[1:]))
}

// exitError carries the exit code of a command that was run inside.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// errUsage says that the usage was shown already.
var errUsage = errors.New("wrong usage")

// run executes a command line and returns the exit code: 2 for wrong usage, 1
// for failures of the testbed, else that of the command run inside.
func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	command, ok := commands()[args[0]]
	if !ok {
		if isHelp(args[0]) {
			_, _ = io.WriteString(os.Stdout, usage)
			return 0
		}
		fmt.Fprintf(os.Stderr, "testbed: unknown command %q\n\n%s", args[0], usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := command(ctx, args[1:])
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintf(os.Stderr, "testbed: %v\n", err)
		return 1
	}
}

func isHelp(arg string) bool {
	switch arg {
	case "help", "-h", "-help", "--help":
		return true
	}
	return false
}

// commands are the subcommands by name.
func commands() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"up":      upCommand,
		"run":     runCommand,
		"exec":    execCommand,
		"forward": forwardCommand,
		"down":    downCommand,
		"build":   buildCommand,
		"list":    listCommand,
		"load":    loadCommand,
		"demo":    demoCommand,
	}
}
