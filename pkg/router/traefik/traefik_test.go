package traefik_test

import (
	"testing"

	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/traefik"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: traefik.New(traefik.Options{}),
		CRDs:     crds(),
		Foreign: map[string][]conformance.Field{"TraefikService": {
			{Path: []string{"spec", "weighted", "sticky"}, Value: map[string]any{"cookie": map[string]any{"name": "lb"}}},
		}},
		Golden: true,
	})
}

func TestConformanceUnowned(t *testing.T) {
	conformance.Run(t, conformance.Case{Provider: traefik.New(traefik.Options{Unowned: true}), Unowned: true})
}

func crds() *conformance.CRDs {
	return &conformance.CRDs{
		Module: "github.com/traefik/traefik/v3", Version: "v3.6.0",
		File: "docs/content/reference/dynamic-configuration/traefik.io_traefikservices.yaml",
	}
}
