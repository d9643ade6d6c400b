package contour_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
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

func render(t *testing.T, shape func(*v1beta1.Canary)) []any {
	t.Helper()
	c := conformance.Podinfo()
	shape(c)
	traffic := router.Traffic{Primary: 60, Canary: 40, Matched: len(c.Spec.Analysis.Match) > 0}
	objects, err := contour.New(contour.Options{}).Render(c, traffic, conformance.NewStore(nil))
	if err != nil {
		t.Fatal(err)
	}
	routes, _, err := unstructured.NestedSlice(objects[0].Wanted.Object, "spec", "routes")
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

func Test17_RetryConditions(t *testing.T) {
	for text, want := range map[string][]any{"": nil, "5xx": {"5xx"}, "5xx, reset,": {"5xx", "reset"}} {
		routes := render(t, func(c *v1beta1.Canary) {
			c.Spec.Service.Retries = &v1beta1.HTTPRetry{Attempts: 3, RetryOn: text}
		})
		got, _, err := unstructured.NestedSlice(routes[0].(map[string]any), "retryPolicy", "retryOn")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("retryOn %q: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

func Test17_HeaderConditions(t *testing.T) {
	routes := render(t, func(c *v1beta1.Canary) {
		c.Spec.Service.Match = []v1beta1.HTTPMatchRequest{{URI: &v1beta1.StringMatch{Prefix: "/api"}}}
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{
			"a-exact": {Exact: "1"}, "b-prefix": {Prefix: "2"}, "c-suffix": {Suffix: "3"}, "d-regex": {Regex: "4+"}, "e-any": {},
		}}}
	})
	want := []any{
		map[string]any{"prefix": "/api", "header": map[string]any{"name": "a-exact", "exact": "1"}},
		map[string]any{"header": map[string]any{"name": "b-prefix", "contains": "2"}},
		map[string]any{"header": map[string]any{"name": "c-suffix", "contains": "3"}},
		map[string]any{"header": map[string]any{"name": "d-regex", "regex": "4+"}},
		map[string]any{"header": map[string]any{"name": "e-any", "present": true}},
	}
	if diff := cmp.Diff(want, routes[0].(map[string]any)["conditions"]); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

func TestUnservedMatches(t *testing.T) {
	tests := map[string]v1beta1.AnalysisMatch{
		"spec.analysis.match[0]":              {},
		"spec.analysis.match[0].sourceLabels": {SourceLabels: map[string]string{"app": "x"}},
	}
	for field, match := range tests {
		c := conformance.Podinfo()
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{match}
		_, err := contour.New(contour.Options{}).Render(c, router.Traffic{Primary: 100}, conformance.NewStore(nil))
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
		c.Spec.Analysis.CanaryMatch, c.Spec.Analysis.Match = c.Spec.Analysis.Match, nil
		field = strings.Replace(field, "match", "canaryMatch", 1)
		_, err = contour.New(contour.Options{}).Render(c, router.Traffic{Primary: 100}, conformance.NewStore(nil))
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
	}
}

// Without the flag -ingress-class, the class that a user set stays.
func TestIngressClassIsOursOnlyIfSet(t *testing.T) {
	for class, owned := range map[string]int{"": 1, "edge": 2} {
		objects, err := contour.New(contour.Options{IngressClass: class}).Render(
			conformance.Podinfo(), router.Traffic{Primary: 100}, conformance.NewStore(nil))
		if err != nil || len(objects[0].Owned) != owned {
			t.Errorf("class %q: %v, %v; want %d owned paths", class, objects, err, owned)
		}
	}
}
