package gatewayapi_test

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/gatewayapi"
)

func crds() *conformance.CRDs {
	return &conformance.CRDs{
		Module: "sigs.k8s.io/gateway-api", File: "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
	}
}

func withGateway(c *v1beta1.Canary) {
	namespace := "infra"
	c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Name: "gateway", Namespace: &namespace}}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: gatewayapi.New(gatewayapi.Options{}), Shape: withGateway, CRDs: crds(), Golden: true,
	})
}

func TestConformanceV1Beta1(t *testing.T) {
	conformance.Run(t, conformance.Case{
		Provider: gatewayapi.NewV1Beta1(gatewayapi.Options{}), Shape: withGateway, CRDs: crds(),
	})
}
