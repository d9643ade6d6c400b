package traefik_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/traefik"
)

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case {
		return conformance.Case{
			Provider: traefik.New(traefik.Options{Unowned: unowned}),
			CRDs:     crds(),
			Shape: func(c *v1beta1.Canary) {
				c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "traefik.io/v1alpha1", Kind: "IngressRoute", Name: "edge"}
			},
			Sources: conformance.Users(t, ticked(users)),
			Foreign: map[string][]conformance.Field{"TraefikService": {
				{Path: []string{"spec", "weighted", "sticky"}, Value: map[string]any{"cookie": map[string]any{"name": "lb"}}},
			}},
		}
	})
}

func crds() *conformance.CRDs {
	return &conformance.CRDs{
		Module: "github.com/traefik/traefik/v3", Version: "v3.6.0",
		File: "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml",
	}
}

// ticked puts backquotes, which rules of Traefik have and raw strings can't, in the place of others.
func ticked(text string) string { return strings.ReplaceAll(text, "'", "`") }

// users is an IngressRoute with everything that a route can have, and routes to others beside ours.
const users = `
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata:
  name: edge
  namespace: test
  labels: {team: edge}
  annotations: {kubernetes.io/ingress.class: traefik}
spec:
  entryPoints: [websecure]
  tls: {secretName: edge, domains: [{main: app.example.com}]}
  routes:
  - kind: Rule
    match: Host('app.example.com') || Host('www.example.com')
    middlewares: [{name: compress}]
    services: [{kind: TraefikService, name: APEX}]
  - kind: Rule
    match: Host('app.example.com') && PathPrefix('/api/of/somebody/else')
    services: [{name: other, port: 80}]
  - kind: Rule
    match: Host('app.example.com') && PathPrefix('/v2')
    priority: 7
    services: [{kind: TraefikService, name: APEX, namespace: test}]
  - kind: Rule
    match: Path('/ping')
    services: [{name: ping, port: 80}]
`

// inTest is a Canary of an A/B test.
func inTest(match ...v1beta1.AnalysisMatch) *v1beta1.Canary {
	c := conformance.Podinfo()
	c.Spec.IngressRef = &v1beta1.LocalObjectReference{Kind: "IngressRoute", Name: "edge"}
	c.Spec.Analysis = &v1beta1.CanaryAnalysis{Interval: "1m", Threshold: 5, Iterations: 10, Match: match}
	return c
}

func render(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, source string) ([]router.Object, error) {
	t.Helper()
	store := conformance.NewStore(nil)
	if source != "" {
		ref := router.Ref{Resource: traefik.New(traefik.Options{}).Resources()[1].Resource, Kind: "IngressRoute", Namespace: "test", Name: "edge"}
		if err := store.Put(ref, conformance.UsersObject(t, c, ticked(source))); err != nil {
			t.Fatal(err)
		}
	}
	return traefik.New(traefik.Options{}).Render(c, traffic, store)
}

// rule is what a route of ours says of the requests that it is for.
type rule struct {
	Match    string
	Priority int64
}

func rulesOf(t *testing.T, o router.Object) (rules []rule) {
	t.Helper()
	routes, _, err := unstructured.NestedSlice(o.Wanted.Object, "spec", "routes")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		fields := r.(map[string]any)
		rules = append(rules, rule{fields["match"].(string), fields["priority"].(int64)})
	}
	return rules
}

// Each copy is for requests of the match alone, comes before the route that it was copied from, and takes nothing from routes to
// others that come before that one.
func TestCopiesTakePrecedenceOverNothingElse(t *testing.T) {
	c := inTest(
		v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"x-b": {Regex: "a|b"}, "x-a": {Exact: "1"}}},
		v1beta1.AnalysisMatch{QueryParams: map[string]v1beta1.StringMatch{"v": {Prefix: "2."}}},
	)
	objects, err := render(t, c, router.Traffic{Canary: 100, Matched: true}, users)
	if err != nil {
		t.Fatal(err)
	}
	const match = `((Header('x-a', '1') && HeaderRegexp('x-b', '^(?:a|b)$')) || (QueryRegexp('v', '^2\.')))`
	want := []rule{
		{ticked("(Host('app.example.com') || Host('www.example.com')) && " + match +
			" && !(Host('app.example.com') && PathPrefix('/api/of/somebody/else'))"), 51},
		{ticked("(Host('app.example.com') && PathPrefix('/v2')) && " + match +
			" && !(Host('app.example.com') && PathPrefix('/api/of/somebody/else')) && !(Path('/ping'))"), 8},
	}
	if diff := cmp.Diff(want, rulesOf(t, objects[1])); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestMatchers(t *testing.T) {
	for want, m := range map[string]v1beta1.StringMatch{
		"Header('a', '1')":                 {Exact: "1"},
		"Header('a', \"`1\\\"\")":          {Exact: "`1\""},
		`HeaderRegexp('a', '^1\+')`:        {Prefix: "1+"},
		`HeaderRegexp('a', '1\.$')`:        {Suffix: "1."},
		"HeaderRegexp('a', '^(?:.*b.*)$')": {Regex: ".*b.*"},
		"HeaderRegexp('a', '.*')":          {},
	} {
		objects, err := render(t, inTest(v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"a": m}}),
			router.Traffic{Canary: 100, Matched: true}, simple)
		if err != nil {
			t.Fatal(err)
		}
		if got := rulesOf(t, objects[1])[0].Match; got != ticked("(Host('a')) && ("+want+")") {
			t.Errorf("%+v: %s, want %s", m, got, want)
		}
	}
}

const simple = `
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: edge, namespace: test}
spec: {routes: [{kind: Rule, match: Host('a'), services: [{kind: TraefikService, name: APEX}]}]}
`

func TestUnservedTests(t *testing.T) {
	one := v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"a": {Exact: "b"}}}
	route := func(text string) string {
		return "{apiVersion: traefik.io/v1alpha1, kind: IngressRoute, metadata: {name: edge, namespace: test}, spec: {routes: [" + text + "]}}"
	}
	for name, c := range map[string]struct {
		match         v1beta1.AnalysisMatch
		source, field string
	}{
		"no route":          {one, "", "spec.ingressRef.name"},
		"to nobody":         {one, route("{match: a, services: [{name: APEX, port: 80}]}"), "spec.ingressRef.name"},
		"to another's":      {one, route("{match: a, services: [{kind: TraefikService, name: APEX, namespace: else}]}"), "spec.ingressRef.name"},
		"to several":        {one, route("{match: a, services: [{kind: TraefikService, name: APEX}, {name: b, port: 80}]}"), "spec.ingressRef.name"},
		"of another syntax": {one, route("{match: a, syntax: v2, services: [{kind: TraefikService, name: APEX}]}"), "spec.ingressRef.name"},
		"no condition":      {v1beta1.AnalysisMatch{}, simple, "spec.analysis.match[0]"},
		"labels": {v1beta1.AnalysisMatch{SourceLabels: map[string]string{"app": "x"}}, simple,
			"spec.analysis.match[0].sourceLabels"},
	} {
		_, err := render(t, inTest(c.match), router.Traffic{Canary: 100, Matched: true}, c.source)
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != c.field {
			t.Errorf("%s: %v, want a fault of %s", name, err, c.field)
		}
	}
	c := inTest(one)
	objects, err := render(t, c, router.Traffic{Primary: 100, Matched: true}, "")
	if err != nil || len(objects) != 1 {
		t.Errorf("before a route leads to the TraefikService there is %v (%v), want it alone", objects, err)
	}
	if advice := router.Advice(traefik.New(traefik.Options{}), c, conformance.NewStore(nil)); len(advice) != 1 {
		t.Errorf("advice %q, want one of a route that is missing", advice)
	}
	c.Spec.IngressRef = nil
	var fault *router.FieldError
	if _, err := render(t, c, router.Traffic{Primary: 100}, ""); !errors.As(err, &fault) || fault.Field != "spec.ingressRef" {
		t.Errorf("without a name: %v", err)
	}
}
