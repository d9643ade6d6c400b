package acme

import (
	"testing"

	"flagger.app/flagger/pkg/router/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: Provider{},
		// The schema of the kind, in this module or in another one.
		CRDs: &conformance.CRDs{Module: "example.com/acme", File: "crd.yaml"},
		// What users set on a Route beside our fields.
		Foreign: map[string][]conformance.Field{"Route": {
			{Path: []string{"spec", "timeout"}, Value: "5s"},
		}},
		// Objects as they are rendered, and what passed, stand in testdata.
		Golden: true,
	})
}
