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
// hold up its Canary for ever. A write is not given up earlier than that, also when its caller stops: the API server may carry
// it out nevertheless, after this process has released the lease and another one acts. Were it a write of the lease itself, the
// release would meet a conflict, and the next leader would have to wait until the lease runs out.
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
	within, end := span(request)
	ctx, cancel := context.WithCancelCause(within)
	timer := p.clock.AfterFunc(p.limit, func() { cancel(errNoAnswer{p.limit}) })
	response, err := p.next.RoundTrip(request.WithContext(ctx))
	if err != nil {
		timer.Stop()
		err = late(ctx, err)
		cancel(nil)
		end()
		return nil, err
	}
	if request.URL.Query().Get("watch") != "" {
		timer.Stop()
	}
	response.Body = &timedBody{ReadCloser: response.Body, ctx: ctx, end: func() {
		timer.Stop()
		cancel(nil)
		end()
	}}
	return response, nil
}

// span returns how long a call may go on: one that changes nothing for as long as somebody wants the answer, any other until
// its deadline, unless its caller stopped before the call began.
func span(request *http.Request) (context.Context, context.CancelFunc) {
	ctx := request.Context()
	if request.Method == http.MethodGet || ctx.Err() != nil {
		return ctx, func() {}
	}
	written := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(written, deadline)
	}
	return written, func() {}
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
