package contour_test

import (
	"testing"

	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/contour"
)

func crds() *conformance.CRDs {
	return &conformance.CRDs{
		Module: "github.com/projectcontour/contour", Version: "v1.33.8", File: "examples/contour/01-crds.yaml",
	}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: contour.New(contour.Options{IngressClass: "contour"}),
		CRDs:     crds(),
		Foreign: map[string][]conformance.Field{"HTTPProxy": {
			{Path: []string{"spec", "includes"}, Value: []any{map[string]any{"name": "x", "namespace": "y"}}},
		}},
		Golden: true,
	})
}
