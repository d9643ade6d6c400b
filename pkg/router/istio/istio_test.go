package istio_test

import (
	"fmt"
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

func TestAdoptedRoute(t *testing.T) {
	for _, host := range []string{"%s", "%s.test", "%s.test.svc.cluster.local"} {
		t.Run(fmt.Sprintf(host, "web"), func(t *testing.T) {
			conformance.RunAdopted(t, conformance.Adopted{
				Provider: istio.New(istio.Options{}), Kind: "VirtualService", Rules: "http", Backends: "route", CRDs: crds(),
				Backend: func(service string, weight int64) map[string]any {
					return map[string]any{
						"destination": map[string]any{"host": fmt.Sprintf(host, service), "port": map[string]any{"number": int64(80)}}, "weight": weight,
						"headers": map[string]any{"response": map[string]any{"set": map[string]any{"x-served-by": service}}},
					}
				},
				Spec:   map[string]any{"hosts": []any{"example.com"}, "gateways": []any{"mesh"}},
				Filter: map[string]any{"timeout": "5s", "retries": map[string]any{"attempts": int64(2)}},
			})
		})
	}
}
