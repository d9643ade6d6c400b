package main

import (
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

type options struct {
	logLevel, zapEncoding string
	zapReplaceGlobals     bool
	port                  string
	timeout               time.Duration
	maxCommands           int
	namespaces            *regexp.Regexp
	shell                 bool
	shellNamespaces       []string
	gates, kubeconfig     string
	version               bool
}

// newFlagSet returns the flags, bound to o.
func newFlagSet(o *options, output io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("loadtester", flag.ContinueOnError)
	fs.SetOutput(output)
	fs.StringVar(&o.logLevel, "log-level", "debug", "Log level can be: debug, info, warn, error, fatal, panic.")
	fs.StringVar(&o.zapEncoding, "zap-encoding", "json", "Zap logger encoding: json or console.")
	fs.BoolVar(&o.zapReplaceGlobals, "zap-replace-globals", false, "Whether to change the logging level of the global zap logger.")
	fs.StringVar(&o.port, "port", "9090", "Port to listen on.")
	fs.DurationVar(&o.timeout, "timeout", time.Hour, "Time after which a task is ended, with all that it started.")
	fs.IntVar(&o.maxCommands, "max-commands", 100, "Number of tasks that run at the same time. More of those that somebody waits for wait for their turn; others are refused with 429.")
	fs.Func("namespace-regexp", "Regular expression that the namespace in a payload has to match. Others are refused with 403. Default: all do.", func(text string) (err error) {
		if o.namespaces = nil; text != "" {
			o.namespaces, err = regexp.Compile(text)
		}
		return err
	})
	fs.BoolVar(&o.shell, "enable-shell", true, "Run commands of type cmd and bash in a shell. Without it cmd runs programs with their arguments, and bash is refused.")
	fs.Func("shell-namespaces", "Comma-separated list of the namespaces whose payloads may use a shell. Default: all, if -enable-shell.", func(text string) error {
		o.shellNamespaces = strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' })
		return nil
	})
	fs.StringVar(&o.gates, "gates-configmap", "", "ConfigMap that the state of gates is kept in, as in gates or test/gates. Default: in memory, where a restart closes all gates.")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "Path to a kubeconfig for -gates-configmap. Only required if out-of-cluster.")
	fs.BoolVar(&o.version, "version", false, "Print the version and exit.")
	return fs
}

// parse reads the flags.
func parse(args []string, output io.Writer) (*options, error) {
	o := &options{}
	fs := newFlagSet(o, output)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: flags begin with a dash", fs.Arg(0))
	}
	if o.timeout <= 0 {
		return nil, fmt.Errorf("-timeout must be more than 0, as in 1h")
	}
	if o.maxCommands < 1 {
		return nil, fmt.Errorf("-max-commands must be at least 1")
	}
	return o, nil
}
