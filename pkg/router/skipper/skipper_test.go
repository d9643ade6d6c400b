package skipper_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/ingress"
	"flagger.app/flagger/pkg/router/skipper"
)

// users is an Ingress with filters, predicates, and paths of other applications that have weights of their own.
const users = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: edge
  namespace: test
  labels: {team: edge}
  annotations:
    zalando.org/skipper-filter: ratelimit(20, "1m") -> setRequestHeader("X-Edge", "1")
    zalando.org/skipper-predicate: Host("^a && b$") && Weight(100) && Method("GET")
    zalando.org/backend-weights: '{"assets-a": 80, "assets-b": 20}'
spec:
  ingressClassName: skipper
  tls: [{hosts: [app.example.com], secretName: app-tls}]
  rules:
  - host: app.example.com
    http:
      paths:
      - {path: /api, pathType: Prefix, backend: {service: {name: APEX, port: {number: 9898}}}}
      - {path: /static, pathType: Prefix, backend: {service: {name: assets-a, port: {number: 80}}}}
      - {path: /static, pathType: Prefix, backend: {service: {name: assets-b, port: {number: 80}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: APEX, port: {name: http}}}}
  - host: empty.example.com
`

func source(t testing.TB, c *v1beta1.Canary) *unstructured.Unstructured {
	t.Helper()
	return conformance.UsersObject(t, c, users)
}

func shape(c *v1beta1.Canary) {
	c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Name: "edge"}
}

func canary(change ...func(*v1beta1.Canary)) *v1beta1.Canary {
	return conformance.Podinfo(append([]func(*v1beta1.Canary){shape}, change...)...)
}

func matching(match ...v1beta1.AnalysisMatch) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) { c.Spec.Analysis.Match = match }
}

// insiders is a match of every form.
func insiders() v1beta1.AnalysisMatch {
	return v1beta1.AnalysisMatch{
		Headers: map[string]v1beta1.StringMatch{
			"X-Canary": {Exact: `in"side`}, "Cookie": {Regex: "beta=[0-9]+"}, "Accept": {Prefix: "text/"}, "From": {Suffix: ".org"}, "X-Any": {},
		},
		QueryParams: map[string]v1beta1.StringMatch{"v": {Exact: "2.0"}},
	}
}

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case {
		return conformance.Case{
			Provider: skipper.New(skipper.Options{Unowned: unowned}),
			Shape:    shape,
			Sources:  conformance.Users(t, users),
			Match:    []v1beta1.AnalysisMatch{insiders(), {QueryParams: map[string]v1beta1.StringMatch{"beta": {Exact: "1"}}}},
			NamedBy:  "spec.ingressRef.name",
		}
	})
}

func rendered(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, of *unstructured.Unstructured) (*networkingv1.Ingress, error) {
	t.Helper()
	all, err := renderedAll(t, c, traffic, of)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// renderedAll are the Ingresses that a provider makes beside that of a user and those that are there.
func renderedAll(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, of *unstructured.Unstructured, there ...string) ([]*networkingv1.Ingress, error) {
	t.Helper()
	store := conformance.NewStore(nil)
	if err := store.Put(ingress.Source(c), of); err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		ref := ingress.Ref(c.Namespace, name)
		if err := store.Put(ref, router.NewObject(ref, nil, nil, nil)); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := skipper.New(skipper.Options{}).Render(c, traffic, store)
	if err != nil {
		return nil, err
	}
	var all []*networkingv1.Ingress
	for _, o := range objects {
		typed := &networkingv1.Ingress{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Wanted.Object, typed, true); err != nil {
			t.Fatal(err)
		}
		all = append(all, typed)
	}
	return all, nil
}

// A request that meets one of several matches is led to the canary: each has an Ingress. One whose match is gone leads nobody.
func TestSeveralMatches(t *testing.T) {
	one := v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"a": {Exact: "b"}}}
	two := v1beta1.AnalysisMatch{QueryParams: map[string]v1beta1.StringMatch{"v": {Exact: "2"}}}
	const (
		byOne, byTwo = `Weight(100) && Header("a", "b")`, `Weight(100) && QueryParam("v", "^2$")`
		rest         = ` && Host("^a && b$") && Method("GET")`
	)
	for name, tt := range map[string]struct {
		match   []v1beta1.AnalysisMatch
		traffic router.Traffic
		there   []string
		want    map[string]string
	}{
		"at rest": {[]v1beta1.AnalysisMatch{one, two}, router.Traffic{Primary: 100}, nil,
			map[string]string{"edge-canary": "False()", "edge-canary-2": "False()"}},
		"test": {[]v1beta1.AnalysisMatch{one, two}, router.Traffic{Canary: 100, Matched: true}, nil,
			map[string]string{"edge-canary": byOne, "edge-canary-2": byTwo}},
		"share of those requests": {[]v1beta1.AnalysisMatch{one, two}, router.Traffic{Primary: 70, Canary: 30, Matched: true}, nil,
			map[string]string{"edge-canary": byOne, "edge-canary-2": byTwo}},
		"everybody": {[]v1beta1.AnalysisMatch{one, two}, router.Traffic{Canary: 100}, nil,
			map[string]string{"edge-canary": "Weight(100)", "edge-canary-2": "False()"}},
		"a match is removed": {[]v1beta1.AnalysisMatch{one}, router.Traffic{Canary: 100, Matched: true}, []string{"edge-canary-2", "edge-canary-8", "edge-canary-9"},
			map[string]string{"edge-canary": byOne, "edge-canary-2": "False()", "edge-canary-8": "False()"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := canary(matching(tt.match...))
			all, err := renderedAll(t, c, tt.traffic, source(t, c), tt.there...)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, o := range all {
				got[o.Name] = strings.TrimSuffix(o.Annotations["zalando.org/skipper-predicate"], rest)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("predicates (-want +got):\n%s", diff)
			}
		})
	}
}

// A rule without http made Flagger panic, and so did an Ingress without annotations. Other applications' paths keep the backends
// that they have, and ours have two.
func Test13_PathsOfBothSides(t *testing.T) {
	c := canary()
	of := source(t, c)
	of.SetAnnotations(nil)
	o, err := rendered(t, c, router.Traffic{Primary: 70, Canary: 30}, of)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range o.Spec.Rules[0].HTTP.Paths {
		got = append(got, fmt.Sprintf("%s %s", path.Path, path.Backend.Service.Name))
	}
	want := []string{
		"/api podinfo-primary", "/static assets-a", "/static assets-b", "/ podinfo-primary", "/api podinfo-canary", "/ podinfo-canary",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	if got := o.Annotations["zalando.org/skipper-predicate"]; got != "Weight(100)" {
		t.Errorf("predicate %q", got)
	}
}

// In Flagger a missing backend made an Ingress without any effect.
func Test13_NoBackendIsAnError(t *testing.T) {
	c := canary()
	of := source(t, c)
	c.Spec.Service.Name = "other"
	_, err := rendered(t, c, router.Traffic{Primary: 100}, of)
	var fault *router.FieldError
	if !errors.As(err, &fault) || fault.Field != "spec.ingressRef.name" || !strings.Contains(err.Error(), "Service other") {
		t.Errorf("Render(): %v, want a fault of the reference", err)
	}
}

func TestAnnotations(t *testing.T) {
	rest := `Host("^a && b$") && Method("GET")`
	for weight, predicate := range map[int32]string{0: "False() && " + rest, 30: "Weight(100) && " + rest, 100: "Weight(100) && " + rest} {
		c := canary()
		o, err := rendered(t, c, router.Traffic{Primary: 100 - weight, Canary: weight}, source(t, c))
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Annotations["zalando.org/skipper-predicate"]; got != predicate {
			t.Errorf("weight %d: predicate %q, want %q", weight, got, predicate)
		}
		weights := map[string]int32{}
		if err := json.Unmarshal([]byte(o.Annotations["zalando.org/backend-weights"]), &weights); err != nil {
			t.Fatal(err)
		}
		want := map[string]int32{"assets-a": 80, "assets-b": 20, "podinfo-primary": 100 - weight, "podinfo-canary": weight}
		if diff := cmp.Diff(want, weights); diff != "" {
			t.Errorf("weights (-want +got):\n%s", diff)
		}
	}
}

// A user may split a path between this application and others. Both sides together keep the share of the application.
func TestShareBesideOtherServices(t *testing.T) {
	for weight := int32(1); weight <= 100; weight++ {
		c := canary()
		of, traffic := source(t, c), router.Traffic{Primary: 100 - weight, Canary: weight}
		of.SetAnnotations(map[string]string{"zalando.org/backend-weights": `{"podinfo": 0.8, "other": 0.2}`})
		o, err := rendered(t, c, traffic, of)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		if err := json.Unmarshal([]byte(o.Annotations["zalando.org/backend-weights"]), &got); err != nil {
			t.Fatal(err)
		}
		sides := got["podinfo-primary"] + got["podinfo-canary"]
		if share := got["podinfo-canary"] / sides; math.Abs(sides-0.8) > 1e-9 || got["other"] != 0.2 || math.Abs(share-float64(weight)/100) > 1e-9 {
			t.Errorf("%s: weights %v", traffic, got)
		}
		store := conformance.NewStore(nil)
		if err := store.Put(ingress.Canary(c), router.NewObject(ingress.Canary(c), nil, o.Annotations, nil)); err != nil {
			t.Fatal(err)
		}
		if observed, err := skipper.New(skipper.Options{}).Read(c, store); err != nil || observed.Traffic != traffic {
			t.Errorf("%s: Read() = %s, %v", traffic, observed.Traffic, err)
		}
	}
}

// A match was marked as to do in Flagger, and sent everybody to the canary.
func Test13_MatchOfAnABTest(t *testing.T) {
	c := canary(matching(insiders()))
	want := `Weight(100) && HeaderRegexp("Accept", "^text/") && HeaderRegexp("Cookie", "beta=[0-9]+") && HeaderRegexp("From", "\\.org$") && ` +
		`Header("X-Canary", "in\"side") && HeaderRegexp("X-Any", ".*") && QueryParam("v", "^2\\.0$") && Host("^a && b$") && Method("GET")`
	want = strings.Replace(want, `Header("X-Canary", "in\"side") && HeaderRegexp("X-Any", ".*")`, `HeaderRegexp("X-Any", ".*") && Header("X-Canary", "in\"side")`, 1)
	for range 20 {
		o, err := rendered(t, c, router.Traffic{Canary: 100, Matched: true}, source(t, c))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, o.Annotations["zalando.org/skipper-predicate"]); diff != "" {
			t.Fatalf("predicate (-want +got):\n%s", diff)
		}
	}
}

func TestUnservedMatches(t *testing.T) {
	one := v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"a": {Exact: "b"}}}
	for field, match := range map[string][]v1beta1.AnalysisMatch{
		"spec.analysis.match[0]":              {{}},
		"spec.analysis.match[8]":              {one, one, one, one, one, one, one, one, one},
		"spec.analysis.match[0].sourceLabels": {{SourceLabels: map[string]string{"app": "x"}}},
	} {
		c := canary(matching(match...))
		_, err := rendered(t, c, router.Traffic{Primary: 100}, source(t, c))
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
	}
}

func TestUnreadableWeights(t *testing.T) {
	c := canary()
	of := source(t, c)
	of.SetAnnotations(map[string]string{"zalando.org/backend-weights": "80/20"})
	if _, err := rendered(t, c, router.Traffic{Primary: 100}, of); err == nil || !strings.Contains(err.Error(), "backend-weights") {
		t.Errorf("Render(): %v, want a fault that names the annotation", err)
	}
	for _, weights := range []string{"", "x", "{}", `{"podinfo-primary": 70}`, `{"podinfo-primary": 70, "podinfo-canary": 70}`} {
		store := conformance.NewStore(nil)
		o := router.NewObject(ingress.Canary(c), nil, map[string]string{"zalando.org/backend-weights": weights}, nil)
		if err := store.Put(ingress.Canary(c), o); err != nil {
			t.Fatal(err)
		}
		if observed, err := skipper.New(skipper.Options{}).Read(c, store); !errors.Is(err, router.ErrUnreadable) {
			t.Errorf("weights %q: Read() = %+v, %v; want ErrUnreadable", weights, observed, err)
		}
	}
}

// Two applications behind one Ingress have a rollout each: no path of one is in the copies of the other, whose routes would compete.
func TestCanariesShareAnIngress(t *testing.T) {
	sharing := func(c *v1beta1.Canary) { c.Annotations = map[string]string{v1beta1.OwnPathsAnnotation: "true"} }
	for name, service := range map[string]string{"edge-podinfo-canary": "podinfo", "edge-assets-a-canary": "assets-a"} {
		c := canary(sharing, func(c *v1beta1.Canary) { c.Spec.TargetRef.Name = service })
		o, err := rendered(t, c, router.Traffic{Primary: 70, Canary: 30}, source(t, canary()))
		if err != nil {
			t.Fatal(err)
		}
		if o.Name != name {
			t.Errorf("%s has the Ingress %s", service, o.Name)
		}
		for _, rule := range o.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				if got := path.Backend.Service.Name; got != service+"-primary" && got != service+"-canary" {
					t.Errorf("%s: path %s leads to %s", name, path.Path, got)
				}
			}
		}
	}
}
