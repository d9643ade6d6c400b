package gatewayapi_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// withService attaches the route to the Service itself, as Linkerd and the ambient mode of Istio want it.
func withService(group string) func(*v1beta1.Canary) {
	kind, port := "Service", int32(9898)
	return func(c *v1beta1.Canary) {
		c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Group: &group, Kind: &kind, Name: "podinfo", Port: &port}}
	}
}

func TestConformanceOfServiceParents(t *testing.T) {
	for _, group := range []string{"", "core"} {
		t.Run("group="+group, func(t *testing.T) {
			conformance.Run(t, conformance.Case{Provider: gatewayapi.New(gatewayapi.Options{}), Shape: withService(group), CRDs: crds()})
		})
	}
}

// The report about a Service counts as that about a Gateway does, whichever way its group is written.
func TestServiceParentAccepts(t *testing.T) {
	for name, test := range map[string]struct {
		parent          map[string]any
		status          string
		settled, silent bool
	}{
		"accepted":      {map[string]any{"group": "core", "kind": "Service", "name": "podinfo", "port": int64(9898)}, "True", true, false},
		"other group":   {map[string]any{"group": "", "kind": "Service", "name": "podinfo", "port": int64(9898)}, "True", true, false},
		"refused":       {map[string]any{"group": "core", "kind": "Service", "name": "podinfo", "port": int64(9898)}, "False", false, false},
		"other Service": {map[string]any{"group": "core", "kind": "Service", "name": "other", "port": int64(9898)}, "True", false, true},
		"a Gateway":     {map[string]any{"kind": "Gateway", "name": "podinfo"}, "True", false, true},
	} {
		c, store, p := conformance.Podinfo(), conformance.NewStore(nil), gatewayapi.New(gatewayapi.Options{})
		withService("core")(c)
		objects, err := p.Render(c, router.Traffic{Primary: 100}, store)
		if err == nil {
			err = router.NewApplier(store, store).Apply(t.Context(), c, objects)
		}
		if err == nil {
			err = store.Edit(objects[0].Ref, func(o *unstructured.Unstructured) {
				o.Object["status"] = map[string]any{"parents": []any{map[string]any{
					"parentRef": test.parent, "controllerName": "linkerd.io/policy-controller",
					"conditions": []any{map[string]any{"type": "Accepted", "status": test.status, "observedGeneration": o.GetGeneration()}},
				}}}
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Read(c, store); err != nil || got.Settled != test.settled || got.Silent != test.silent {
			t.Errorf("%s: Read() = %+v, %v; want settled %t, silent %t", name, got, err, test.settled, test.silent)
		}
	}
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

func TestAdoptedRoute(t *testing.T) {
	for version, p := range map[string]*gatewayapi.Provider{
		"v1": gatewayapi.New(gatewayapi.Options{}), "v1beta1": gatewayapi.NewV1Beta1(gatewayapi.Options{}),
	} {
		t.Run(version, func(t *testing.T) {
			conformance.RunAdopted(t, conformance.Adopted{
				Provider: p, Kind: "HTTPRoute", Rules: "rules", Backends: "backendRefs", CRDs: crds(),
				Backend: func(service string, weight int64) map[string]any {
					return map[string]any{"group": "", "kind": "Service", "name": service, "port": int64(80), "weight": weight}
				},
				Spec: map[string]any{"hostnames": []any{"example.com"}, "parentRefs": []any{
					map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"},
				}},
				Filter: map[string]any{
					"matches": []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/a"}}},
					"filters": []any{map[string]any{"type": "RequestHeaderModifier", "requestHeaderModifier": map[string]any{"remove": []any{"x-debug"}}}},
				},
			})
		})
	}
}

// A route of the name that serves more than the Canary asks for is left to its user. In Flagger a Canary for the mesh took the route of
// the Gateway away from everybody outside.
func TestRouteOfAUserIsSpared(t *testing.T) {
	const gateway = `parentRefs: [{name: gateway}]`
	for name, test := range map[string]struct{ spec, annotations, lost string }{
		"the same parent":    {gateway + `, rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", ""},
		"written in full":    {`parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: test, name: gateway}], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", ""},
		"one more Gateway":   {`parentRefs: [{name: gateway}, {name: public}], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", "Gateway public"},
		"another section":    {`parentRefs: [{name: gateway, sectionName: https}], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", "Gateway gateway/https"},
		"a mesh":             {`parentRefs: [{group: "", kind: Service, name: podinfo, port: 80}], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", "Service podinfo port 80"},
		"the same host":      {gateway + `, hostnames: [app.example.com], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", ""},
		"one more host":      {gateway + `, hostnames: [app.example.com, www.example.com], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, "", "host www.example.com"},
		"another backend":    {gateway + `, rules: [{backendRefs: [{name: podinfo, port: 9898}]}, {backendRefs: [{name: login, port: 80}]}]`, "", "backend login"},
		"another namespace":  {gateway + `, rules: [{backendRefs: [{name: podinfo, namespace: other, port: 9898}]}]`, "", "backend podinfo"},
		"no Service":         {gateway + `, rules: [{backendRefs: [{name: podinfo, group: example.com, kind: Bucket}]}]`, "", "backend podinfo"},
		"a redirect":         {gateway + `, rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]`, "", "rule 0"},
		"the copy alone":     {gateway + `, rules: [{backendRefs: [{name: podinfo-primary, port: 9898}]}]`, "", ""},
		"Flagger was there":  {`parentRefs: [{name: public}], rules: [{backendRefs: [{name: podinfo-primary, port: 9898, weight: 100}, {name: podinfo-canary, port: 9898, weight: 0}]}]`, "", ""},
		"taken over already": {`parentRefs: [{name: public}], rules: [{backendRefs: [{name: podinfo, port: 9898}]}]`, `{` + router.OriginalAnnotation + `: "{}"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if test.annotations == "" {
				test.annotations = "{}"
			}
			c := conformance.Podinfo(conformance.Routable, func(c *v1beta1.Canary) { c.Spec.Service.Hosts = []string{"app.example.com"} })
			b := conformance.NewBench(t, gatewayapi.New(gatewayapi.Options{}), c)
			ref := b.Provider.Resources()[0].Of("test", "podinfo")
			users := conformance.UsersObject(t, c, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: podinfo, namespace: test, annotations: "+
				test.annotations+"}\nspec: {"+test.spec+"}")
			if err := b.Store.Put(ref, users); err != nil {
				t.Fatal(err)
			}
			_, err := b.TryApply(router.Traffic{Primary: 100})
			if test.lost == "" {
				if err != nil || len(b.Store.Writes()) != 1 {
					t.Errorf("Render(): %v, want the route to be taken over", err)
				}
				return
			}
			var fault *router.FieldError
			if !errors.As(err, &fault) || !strings.Contains(fault.Message, "serves "+test.lost) || !strings.Contains(fault.Message, "spec.routeRef") {
				t.Errorf("Render(): %v, want a fault that names %s", err, test.lost)
			}
			if writes := b.Store.Writes(); len(writes) > 0 {
				t.Errorf("writes %v", writes)
			}
			// It is none of the Canary's when that goes.
			outline, err := router.Outline(c, b.Provider, "podinfo", b.Store)
			if err != nil || len(outline) != 1 {
				t.Errorf("Outline() = %v, %v", outline, err)
			}
		})
	}
}
