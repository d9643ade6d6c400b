package conformance

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Routable gives a Canary the fields that any provider of this repository needs: a Gateway, a mesh, and the names of an Ingress and
// of an ApisixRoute.
func Routable(c *v1beta1.Canary) {
	c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Name: "gateway"}}
	c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Name: "podinfo"}
	c.Spec.Service.MeshName = "global"
	c.Spec.RouteRef = &v1beta1.LocalObjectReference{APIVersion: "apisix.apache.org/v2", Kind: "ApisixRoute", Name: "podinfo"}
}

// exposing are objects, by kind, with which a user leads one path of a host to the Service APEX.
func exposing(kind string) string {
	switch kind {
	case "Ingress":
		return `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: podinfo, namespace: test, annotations: {kubernetes.io/ingress.class: nginx}}
spec:
  rules:
  - host: app.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: APEX, port: {number: 9898}}}}]}
`
	case "ApisixRoute":
		return `
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata: {name: podinfo, namespace: test, labels: {team: a}}
spec:
  http:
  - name: method
    match: {hosts: [app.example.com], paths: [/*]}
    backends: [{serviceName: APEX, servicePort: 9898}]
    plugins: [{name: prometheus, enable: true, config: {prefer_name: true}}]
`
	case "IngressRoute":
		return "apiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: podinfo, namespace: test}\nspec:\n  routes:\n" +
			"  - {kind: Rule, match: Host(`app.example.com`), services: [{kind: TraefikService, name: APEX}]}\n"
	default:
		return ""
	}
}

// Exposing returns what a user has made of what a provider of this repository reads for a Canary that is Routable. What the operator
// makes itself, such as Services, is not among it.
func Exposing(t testing.TB, p router.Provider, c *v1beta1.Canary) map[router.Ref]*unstructured.Unstructured {
	t.Helper()
	objects := map[router.Ref]*unstructured.Unstructured{}
	for _, ref := range p.Sources(c) {
		if text := exposing(ref.Kind); text != "" {
			objects[ref] = UsersObject(t, c, text)
		}
	}
	return objects
}

// UsersObject decodes an object of a user's from YAML in which APEX stands for the name of the Service of a Canary.
func UsersObject(t testing.TB, c *v1beta1.Canary, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	raw, err := yaml.YAMLToJSON([]byte(strings.ReplaceAll(text, "APEX", router.NamesOf(c).Apex)))
	if err == nil {
		err = o.UnmarshalJSON(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Users returns sources for Case that decode one object of a user's, as UsersObject does.
func Users(t testing.TB, text string) func(*v1beta1.Canary) []*unstructured.Unstructured {
	return func(c *v1beta1.Canary) []*unstructured.Unstructured {
		t.Helper()
		return []*unstructured.Unstructured{UsersObject(t, c, text)}
	}
}
