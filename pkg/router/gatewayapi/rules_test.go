package gatewayapi_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/gatewayapi"
)

func render(t router.Traffic, shape func(*v1beta1.Canary)) (*gatewayv1.HTTPRoute, router.Object, error) {
	c := conformance.Podinfo()
	withGateway(c)
	shape(c)
	route := &gatewayv1.HTTPRoute{}
	objects, err := gatewayapi.New(gatewayapi.Options{}).Render(c, t, conformance.NewStore(nil))
	if err != nil {
		return nil, router.Object{}, err
	}
	return route, objects[0], runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Wanted.Object, route)
}

func mustRender(t *testing.T, traffic router.Traffic, shape func(*v1beta1.Canary)) *gatewayv1.HTTPRoute {
	t.Helper()
	route, _, err := render(traffic, shape)
	if err != nil {
		t.Fatal(err)
	}
	return route
}

func Test02_OrderOfConditionsIsStable(t *testing.T) {
	many := map[string]v1beta1.StringMatch{}
	for _, name := range strings.Split("a b c d e f g h i j k", " ") {
		many["x-"+name] = v1beta1.StringMatch{Exact: name}
	}
	text := func() string {
		_, object, err := render(router.Traffic{Primary: 50, Canary: 50, Matched: true}, func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: many, QueryParams: many}}
			c.Spec.Service.Headers = &v1beta1.Headers{Request: &v1beta1.HeaderOperations{
				Set: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"},
			}}
		})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(object.Wanted)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	first := text()
	for range 20 {
		if text() != first {
			t.Fatal("two renderings differ")
		}
	}
}

func Test03_CORSMaxAge(t *testing.T) {
	for text, want := range map[string]int32{"": 5, "1d": 5, "24h": 86400, "10s": 10, "0s": 5} {
		route := mustRender(t, router.Traffic{Primary: 100}, func(c *v1beta1.Canary) {
			c.Spec.Service.CorsPolicy = &v1beta1.CorsPolicy{MaxAge: text}
		})
		if got := route.Spec.Rules[0].Filters[0].CORS.MaxAge; got != want {
			t.Errorf("maxAge %q: %d, want %d", text, got, want)
		}
	}
}

func Test04_A11_MirrorOfAProgressiveCanary(t *testing.T) {
	traffic := router.Traffic{Primary: 100, Mirror: true}
	route := mustRender(t, traffic, func(c *v1beta1.Canary) {
		c.Spec.Analysis.Mirror, c.Spec.Analysis.MirrorWeight = true, 30
	})
	filters := route.Spec.Rules[0].Filters
	if len(filters) != 1 || filters[0].RequestMirror == nil || *filters[0].RequestMirror.Percent != 30 ||
		filters[0].RequestMirror.BackendRef.Name != "podinfo-canary" {
		t.Errorf("filters %+v, want a mirror of 30 %% to podinfo-canary", filters)
	}
}

func Test09_MirrorIsOnTheRuleThatSplits(t *testing.T) {
	route := mustRender(t, router.Traffic{Primary: 90, Canary: 10, Mirror: true, Cookies: router.Cookies{Canary: "a=b"}},
		func(c *v1beta1.Canary) {
			c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a"}
		})
	if len(route.Spec.Rules) != 2 || len(route.Spec.Rules[0].Filters) != 0 || len(route.Spec.Rules[1].Filters) != 1 {
		t.Errorf("rules %+v, want the mirror on the last of two", route.Spec.Rules)
	}
}

func Test23_UsersMirrorToTheCanaryIsNotOurs(t *testing.T) {
	port := int32(9898)
	c := conformance.Podinfo()
	withGateway(c)
	c.Spec.Service.Mirror = []v1beta1.HTTPRequestMirrorFilter{{
		BackendRef: v1beta1.BackendObjectReference{Name: "podinfo-canary", Port: &port},
	}}
	store := conformance.NewStore(nil)
	provider := gatewayapi.New(gatewayapi.Options{})
	for _, want := range []router.Traffic{{Primary: 100}, {Primary: 100, Mirror: true}} {
		objects, err := provider.Render(c, want, store)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(objects[0].Ref, objects[0].Wanted); err != nil {
			t.Fatal(err)
		}
		if observed, err := provider.Read(c, store); err != nil || observed.Traffic != want {
			t.Errorf("Read() = %+v, %v; want %s", observed, err, want)
		}
	}
}

func TestB20_NoSecondRuleWithoutACookie(t *testing.T) {
	affine := func(c *v1beta1.Canary) {
		c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a"}
	}
	if rules := mustRender(t, router.Traffic{Primary: 100}, affine).Spec.Rules; len(rules) != 1 {
		t.Errorf("%d rules, want one", len(rules))
	}
}

func TestRewrite(t *testing.T) {
	for kind, want := range map[string]gatewayv1.HTTPPathModifierType{
		"": gatewayv1.FullPathHTTPPathModifier, "ReplacePrefixMatch": gatewayv1.PrefixMatchHTTPPathModifier,
		"replaceprefixmatch": gatewayv1.FullPathHTTPPathModifier,
	} {
		route := mustRender(t, router.Traffic{Primary: 100}, func(c *v1beta1.Canary) {
			c.Spec.Service.Rewrite = &v1beta1.HTTPRewrite{URI: "/v2", Type: kind}
		})
		if got := route.Spec.Rules[0].Filters[0].URLRewrite.Path.Type; got != want {
			t.Errorf("type %q: %s, want %s", kind, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	service := func(m v1beta1.HTTPMatchRequest) func(*v1beta1.Canary) {
		return func(c *v1beta1.Canary) { c.Spec.Service.Match = []v1beta1.HTTPMatchRequest{{}, m} }
	}
	analysis := func(m v1beta1.AnalysisMatch) func(*v1beta1.Canary) {
		return func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{m} }
	}
	prefixed := map[string]v1beta1.StringMatch{"x": {Prefix: "y"}}
	tests := map[string]func(*v1beta1.Canary){
		"spec.service.gatewayRefs":             func(c *v1beta1.Canary) { c.Spec.Service.GatewayRefs = nil },
		"spec.service.match[1].uri":            service(v1beta1.HTTPMatchRequest{URI: &v1beta1.StringMatch{Suffix: "x"}}),
		"spec.service.match[1].method":         service(v1beta1.HTTPMatchRequest{Method: &v1beta1.StringMatch{Prefix: "P"}}),
		"spec.service.match[1].headers[x]":     service(v1beta1.HTTPMatchRequest{Headers: prefixed}),
		"spec.service.match[1].queryParams[x]": service(v1beta1.HTTPMatchRequest{QueryParams: prefixed}),
		"spec.analysis.match[0]":               analysis(v1beta1.AnalysisMatch{}),
		"spec.analysis.match[0].headers[x]":    analysis(v1beta1.AnalysisMatch{Headers: prefixed}),
		"spec.analysis.match[0].sourceLabels":  analysis(v1beta1.AnalysisMatch{SourceLabels: map[string]string{"a": "b"}}),
		"spec.service.corsPolicy.allowOrigins[0]": func(c *v1beta1.Canary) {
			c.Spec.Service.CorsPolicy = &v1beta1.CorsPolicy{AllowOrigins: []v1beta1.StringMatch{{Regex: ".*"}}}
		},
	}
	for field, shape := range tests {
		t.Run(field, func(t *testing.T) {
			_, _, err := render(router.Traffic{Primary: 100}, shape)
			var fault *router.FieldError
			if !errors.As(err, &fault) || fault.Field != field {
				t.Errorf("Render(): %v, want a fault of %s", err, field)
			}
		})
	}
}

func TestSettled(t *testing.T) {
	report := func(name string, generation int64, accepted metav1.ConditionStatus) gatewayv1.RouteParentStatus {
		namespace, section := gatewayv1.Namespace("infra"), gatewayv1.SectionName("https")
		parent := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name), Namespace: &namespace}
		if name == "second" {
			parent.SectionName = &section
		}
		return gatewayv1.RouteParentStatus{
			ParentRef: parent,
			Conditions: []metav1.Condition{{
				Type: "Accepted", Status: accepted, ObservedGeneration: generation, Reason: "Reason", Message: "why",
			}},
		}
	}
	const unreported = "HTTPRoute podinfo.test: no controller has reported on it for "
	tests := map[string]struct {
		reports []gatewayv1.RouteParentStatus
		silent  bool
		reason  string
	}{
		"accepted":               {[]gatewayv1.RouteParentStatus{report("gateway", 2, "True"), report("second", 2, "True")}, false, ""},
		"nothing":                {nil, true, unreported + "Gateway gateway, Gateway second/https"},
		"another gateway":        {[]gatewayv1.RouteParentStatus{report("other", 2, "False")}, true, unreported + "Gateway gateway, Gateway second/https"},
		"one of two":             {[]gatewayv1.RouteParentStatus{report("gateway", 2, "True")}, true, unreported + "Gateway second/https"},
		"no generation":          {[]gatewayv1.RouteParentStatus{report("gateway", 0, "True"), report("second", 2, "True")}, true, unreported + "Gateway gateway"},
		"refused, no generation": {[]gatewayv1.RouteParentStatus{report("gateway", 0, "False")}, false, "HTTPRoute podinfo.test: Gateway gateway does not accept the route: Reason: why"},
		"old generation":         {[]gatewayv1.RouteParentStatus{report("gateway", 1, "True")}, false, "HTTPRoute podinfo.test: Gateway gateway has seen generation 1 of 2 of the route"},
		"refused":                {[]gatewayv1.RouteParentStatus{report("gateway", 2, "False")}, false, "HTTPRoute podinfo.test: Gateway gateway does not accept the route: Reason: why"},
		"refused by the second":  {[]gatewayv1.RouteParentStatus{report("second", 2, "False")}, false, "HTTPRoute podinfo.test: Gateway second/https does not accept the route: Reason: why"},
		"stale report of a controller that is gone": {
			[]gatewayv1.RouteParentStatus{report("gateway", 1, "False"), report("gateway", 2, "True"), report("second", 2, "True")}, false, "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := conformance.Podinfo()
			withGateway(c)
			second := c.Spec.Service.GatewayRefs[0]
			second.Name, second.SectionName = "second", new("https")
			c.Spec.Service.GatewayRefs = append(c.Spec.Service.GatewayRefs, second)
			provider := gatewayapi.New(gatewayapi.Options{})
			store := conformance.NewStore(nil)
			objects, err := provider.Render(c, router.Traffic{Primary: 100}, store)
			if err != nil {
				t.Fatal(err)
			}
			live := objects[0].Wanted.DeepCopy()
			live.SetGeneration(2)
			status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&gatewayv1.RouteStatus{Parents: test.reports})
			if err != nil {
				t.Fatal(err)
			}
			live.Object["status"] = status
			observed, err := provider.Read(c, one{live})
			if err != nil {
				t.Fatal(err)
			}
			want := router.Observed{
				Traffic: router.Traffic{Primary: 100}, Settled: test.reason == "", Silent: test.silent, Reason: test.reason,
			}
			if diff := cmp.Diff(want, observed); diff != "" {
				t.Errorf("Read() (-want +got):\n%s", diff)
			}
		})
	}
}

// one is a Live with a single object.
type one struct{ o *unstructured.Unstructured }

func (l one) Get(router.Ref) (*unstructured.Unstructured, error) { return l.o, nil }
