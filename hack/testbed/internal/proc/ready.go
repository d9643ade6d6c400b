package proc

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Limits of the wait for a program.
const (
	readyTimeout = 5 * time.Minute
	readyPoll    = 25 * time.Millisecond
)

// WaitReady returns when the program answers 200 at the URL, or has ended.
func (p *Process) WaitReady(ctx context.Context, url string) error {
	return WaitReady(ctx, url, "the log of "+p.spec.Name+" is "+p.spec.logPath(), func() error {
		select {
		case <-p.Done():
			return p.Err()
		default:
			return nil
		}
	})
}

// WaitReady returns when the URL answers 200, or with the first error of failed. That of a wait that takes too long ends with where to
// look.
func WaitReady(ctx context.Context, url, look string, failed func() error) error {
	var last error
	poll := func(ctx context.Context) (bool, error) {
		if err := failed(); err != nil {
			return false, err
		}
		last = probe(ctx, url)
		return last == nil, nil
	}
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("not ready after %s: %w; %s", readyTimeout, last, look)
	}
	return err
}

// probe returns nil if the URL answers 200.
func probe(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, response.Status)
	}
	return nil
}
