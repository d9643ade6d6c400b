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
	// Authorize adds the credentials. Its error is that of the request.
	Authorize func(*http.Request) error
	// Secrets never appear in an error.
	Secrets []string
	// SkipVerify accepts any certificate.
	SkipVerify bool
	// TLS is nil for the authorities of the system and no certificate of our own.
	TLS *outbound.TLS
}

// Build makes the Client for the address of a template.
func Build(t *outbound.Transports, cfg provider.Config, o Options) (*Client, error) {
	address, err := outbound.ParseAddress(cmp.Or(cfg.Spec.Address, o.Default), cmp.Or(o.Example, o.Default))
	if err != nil {
		return nil, err
	}
	return &Client{
		Server:  outbound.Server{Name: o.Name, Host: address.Host, Secrets: o.Secrets},
		Address: address,
		Transport: t.To(outbound.Destination{
			Host: address.Host, Headers: o.Headers, Authorize: o.Authorize, SkipVerify: o.SkipVerify, TLS: o.TLS,
		}),
	}, nil
}

// Header returns what adds headers, given as names and values in turn, to a request.
func Header(pairs ...string) func(*http.Request) error {
	return func(r *http.Request) error {
		for i := 0; i+1 < len(pairs); i += 2 {
			r.Header.Set(pairs[i], pairs[i+1])
		}
		return nil
	}
}

// Basic returns what adds a name and a password to a request.
func Basic(username, password string) func(*http.Request) error {
	return func(r *http.Request) error {
		r.SetBasicAuth(username, password)
		return nil
	}
}
