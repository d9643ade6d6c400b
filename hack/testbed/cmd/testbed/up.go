package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/state"
)

// upCommand starts a testbed and stays until it ends.
func upCommand(ctx context.Context, args []string) error {
	var at where
	var has what
	flags := newFlags("up")
	at.register(flags)
	has.register(flags)
	detach := flags.Bool("detach", false, "return when the testbed is ready and leave it running")
	if err := parse(flags, "", args); err != nil {
		return err
	}
	dir, err := at.find()
	if err != nil {
		return err
	}
	if *detach {
		return upDetached(ctx, args)
	}
	background, err := openBackground()
	if err != nil {
		return err
	}
	clk := clock.RealClock{}
	began := clk.Now()
	s, err := has.launch(ctx, dir, filepath.Base(string(dir)))
	if err != nil {
		return err
	}
	select {
	case <-s.ready:
		s.reporter.Println(welcome(dir, clk.Since(began)))
		if err := background.ready(dir); err != nil {
			return err
		}
	case <-s.done:
	}
	<-s.done
	return s.err
}

// welcome says how to use the testbed.
func welcome(dir state.Dir, took time.Duration) string {
	return fmt.Sprintf("testbed is ready after %s; try: testbed exec --state %s -- kubectl get nodes",
		took.Round(100*time.Millisecond), dir)
}
