package gatewayapi_test

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
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

// B-31: who goes to another version of the API keeps the route, which is one object in both.
func TestB31_RouteIsNoPreviousOneInAnotherVersion(t *testing.T) {
	canary, store, all := conformance.Podinfo(), conformance.NewStore(nil), func(router.Ref) bool { return true }
	withGateway(canary)
	before, after := gatewayapi.NewV1Beta1(gatewayapi.Options{}), gatewayapi.New(gatewayapi.Options{})
	render := func(p *gatewayapi.Provider) []router.Object {
		t.Helper()
		objects, err := p.Render(canary, router.Traffic{Primary: 100}, store)
		if err != nil {
			t.Fatal(err)
		}
		return objects
	}
	if err := router.NewApplier(store, store).Apply(t.Context(), canary, render(before)); err != nil {
		t.Fatal(err)
	}
	for previous, present := range map[int][]router.Object{0: render(after), 1: nil} {
		f, err := router.PreviousOf(canary, before, "podinfo", present, all, store)
		if err != nil || len(f.Ours) != previous {
			t.Errorf("former routes %v (%v), want %d", f.Ours, err, previous)
		}
	}
}
