package istio_test

import (
	"testing"

	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/istio"
)

func crds() *conformance.CRDs {
	return &conformance.CRDs{Module: "istio.io/api", File: "kubernetes/customresourcedefinitions.gen.yaml"}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: istio.New(istio.Options{}),
		CRDs:     crds(),
		Foreign: map[string][]conformance.Field{
			"VirtualService": {
				{Path: []string{"spec", "exportTo"}, Value: []any{"."}},
				{Path: []string{"spec", "tls"}, Value: []any{map[string]any{
					"match": []any{map[string]any{"sniHosts": []any{"a.example.com"}}},
					"route": []any{map[string]any{"destination": map[string]any{"host": "a"}}},
				}}},
			},
			"DestinationRule": {
				{Path: []string{"spec", "subsets"}, Value: []any{map[string]any{"name": "v1"}}},
			},
		},
		Golden: true,
	})
}
