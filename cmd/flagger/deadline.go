package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/utils/clock"
)

// patient ends calls that the API server, or something between it and us, never answers. Without a limit one of them would
// hold up its Canary for ever.
type patient struct {
	next  http.RoundTripper
	limit time.Duration
	clock clock.WithDelayedExecution
}

// errNoAnswer is a call that took longer than -kubeconfig-timeout. Nobody knows whether it had its effect.
type errNoAnswer struct{ limit time.Duration }

func (e errNoAnswer) Error() string {
	return fmt.Sprintf("the API server gave no answer within %s (-kubeconfig-timeout)", e.limit)
}

// Timeout makes it a net.Error.
func (errNoAnswer) Timeout() bool { return true }

// RoundTrip implements http.RoundTripper. The limit is for the whole answer, and of a watch, whose answer goes on for as long
// as it lives, for its beginning.
func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	timer := p.clock.AfterFunc(p.limit, func() { cancel(errNoAnswer{p.limit}) })
	response, err := p.next.RoundTrip(request.WithContext(ctx))
	if err != nil {
		timer.Stop()
		err = late(ctx, err)
		cancel(nil)
		return nil, err
	}
	if request.URL.Query().Get("watch") != "" {
		timer.Stop()
	}
	response.Body = &timedBody{ReadCloser: response.Body, ctx: ctx, end: func() {
		timer.Stop()
		cancel(nil)
	}}
	return response, nil
}

// WrappedRoundTripper lets the client library find what is below.
func (p patient) WrappedRoundTripper() http.RoundTripper { return p.next }

// late names the cause of an error where that is the limit.
func late(ctx context.Context, err error) error {
	var limit errNoAnswer
	if err != nil && errors.As(context.Cause(ctx), &limit) {
		return limit
	}
	return err
}

// timedBody is an answer that has to be complete before its context ends.
type timedBody struct {
	io.ReadCloser
	ctx context.Context
	end func()
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, late(b.ctx, err)
}

func (b *timedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}
