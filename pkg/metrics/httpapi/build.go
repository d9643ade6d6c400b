package httpapi

import (
	"cmp"
	"net/http"

	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Options is what back-ends differ in when they build a Client.
type Options struct {
	// Name is what users call the back-end.
	Name string
	// Example is an address for errors. Default is one for templates without an address, if there is one.
	Example, Default string
	// Headers replace those of each request.
	Headers map[string][]string
	// Authorize adds the credentials.
	Authorize func(*http.Request)
	// Secrets never appear in an error.
	Secrets []string
	// SkipVerify accepts any certificate.
	SkipVerify bool
}

// Build makes the Client for the address of a template.
func Build(t *outbound.Transports, cfg provider.Config, o Options) (*Client, error) {
	address, err := outbound.ParseAddress(cmp.Or(cfg.Spec.Address, o.Default), cmp.Or(o.Example, o.Default))
	if err != nil {
		return nil, err
	}
	return &Client{
		Server:    outbound.Server{Name: o.Name, Host: address.Host, Secrets: o.Secrets},
		Address:   address,
		Transport: t.To(outbound.Destination{Host: address.Host, Headers: o.Headers, Authorize: o.Authorize, SkipVerify: o.SkipVerify}),
	}, nil
}

// Header returns what adds headers, given as names and values in turn, to a request.
func Header(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i+1 < len(pairs); i += 2 {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
}
