package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/control"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// list is a flag that may be given several times and separates by commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

// repeated is a flag that may be given several times.
type repeated []string

func (r *repeated) String() string { return strings.Join(*r, " ") }

func (r *repeated) Set(value string) error {
	*r = append(*r, value)
	return nil
}

// where are the flags that choose a testbed.
type where struct{ name, state string }

func (w *where) register(flags *flag.FlagSet) {
	flags.StringVar(&w.name, "name", "", "name of the testbed (default \"default\")")
	flags.StringVar(&w.state, "state", "", "state folder (default a folder of that name in the temporary folder)")
}

func (w *where) find() (state.Dir, error) { return state.Find(w.name, w.state) }

// what are the flags that say what a testbed has.
type what struct {
	with       list
	images     repeated
	imageFiles repeated
	cache      string
	keep       bool
	served     string
}

func (w *what) register(flags *flag.FlagSet) {
	flags.Var(&w.with, "with", "features, separated by commas; see testbed list")
	flags.Var(&w.images, "image", "program of an image: name=path[,argument…] or name=@component[/program][,argument…]; may be repeated")
	flags.Var(&w.imageFiles, "images", "YAML file that maps image names to path (or component, program), args and env; may be repeated")
	flags.StringVar(&w.cache, "cache", "", "folder of built programs (default flagger-testbed in the user's cache folder)")
	flags.StringVar(&w.served, "served", "", "the only namespace whose Services lead anywhere; tens of thousands of them are more than a process can listen on (default all)")
	flags.BoolVar(&w.keep, "keep", false, "keep the state folder with all logs at the end")
}

// plan makes a plan of the flags.
func (w *what) plan(name string) (control.Plan, error) {
	plan := control.Plan{Name: name, Features: w.with, Images: map[string]control.Image{}, Served: w.served}
	for _, mapping := range defaultImages() {
		if err := addImage(plan.Images, mapping); err != nil {
			return plan, err
		}
	}
	for _, file := range w.imageFiles {
		if err := addImageFile(plan.Images, file); err != nil {
			return plan, err
		}
	}
	for _, mapping := range w.images {
		if err := addImage(plan.Images, mapping); err != nil {
			return plan, err
		}
	}
	return plan, nil
}

// launch starts the testbed of the flags in the folder, showing progress.
func (w *what) launch(ctx context.Context, dir state.Dir, name string) (*supervisor, error) {
	plan, err := w.plan(name)
	if err != nil {
		return nil, err
	}
	reporter := newReporter()
	builder, err := newBuilder(w.cache, reporter)
	if err != nil {
		return nil, err
	}
	go reporter.Run(ctx)
	s := &supervisor{
		dir: dir, plan: plan, reporter: reporter, builder: builder, keep: w.keep,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	return s, s.start(ctx)
}

func newBuilder(cache string, reporter *build.Reporter) (*build.Builder, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	return build.New(build.Options{CacheDir: cache, Components: components(root), Reporter: reporter})
}

// parse parses the flags of a command. Arguments that are left over are an
// error unless rest, how the usage calls them, is not empty.
func parse(flags *flag.FlagSet, rest string, args []string) error {
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: testbed %s [flags] %s\n", flags.Name(), rest)
		flags.PrintDefaults()
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitError{code: 0}
	case err != nil:
		return errUsage
	case rest == "" && flags.NArg() > 0:
		return fmt.Errorf("%s: unexpected argument %q", flags.Name(), flags.Arg(0))
	}
	return nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }
