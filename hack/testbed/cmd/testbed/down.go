package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// downCommand ends a testbed and removes what is left of one that crashed.
func downCommand(ctx context.Context, args []string) error {
	var at where
	flags := newFlags("down")
	at.register(flags)
	if err := parse(flags, "", args); err != nil {
		return err
	}
	dir, err := at.find()
	if err != nil {
		return err
	}
	pid, err := dir.Supervisor()
	if err != nil {
		return err
	}
	if pid == 0 {
		return dir.Remove()
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end supervisor %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	if err := dir.WaitGone(ctx); err != nil {
		return fmt.Errorf("supervisor %d did not end in %s: %w; kill it by: kill -9 %d", pid, downTimeout, err, pid)
	}
	return nil
}

// buildCommand builds the named components, or all.
func buildCommand(ctx context.Context, args []string) error {
	flags := newFlags("build")
	cache := flags.String("cache", "", "folder of built programs (default flagger-testbed in the user's cache folder)")
	if err := parse(flags, "[component…]", args); err != nil {
		return err
	}
	reporter := newReporter()
	builder, err := newBuilder(*cache, reporter)
	if err != nil {
		return err
	}
	names := flags.Args()
	if len(names) == 0 {
		names = builder.Names()
	}
	show, hide := context.WithCancel(ctx)
	defer hide()
	go reporter.Run(show)
	handles, err := builder.Start(ctx, names...)
	if err != nil {
		return err
	}
	var failed []string
	for _, name := range names {
		// Builds end when ctx does, and clean up; that is worth waiting for.
		result, err := handles[name].Wait(context.WithoutCancel(ctx))
		if err != nil {
			reporter.Println(err.Error())
			failed = append(failed, name)
			continue
		}
		for program, path := range result.Programs {
			reporter.Println(fmt.Sprintf("%s: %s (%s)", program, path, result.Origin))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not built: %s", strings.Join(failed, ", "))
	}
	return nil
}

// listCommand shows what can be asked for.
func listCommand(_ context.Context, args []string) error {
	if err := parse(newFlags("list"), "", args); err != nil {
		return err
	}
	builder, err := newBuilder("", nil)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(os.Stdout, "components: %s\n\nfeatures (--with):\n", strings.Join(builder.Names(), ", "))
	for _, f := range features() {
		_, _ = fmt.Fprintf(os.Stdout, "  %-12s %s\n", f.name, f.about)
	}
	_, _ = fmt.Fprintf(os.Stdout, "\nimages known to every testbed:\n")
	for _, image := range defaultImages() {
		_, _ = fmt.Fprintf(os.Stdout, "  %s\n", image)
	}
	return nil
}
