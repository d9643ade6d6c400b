package istio_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/istio"
)

// render returns the spec of the VirtualService.
func render(c *v1beta1.Canary, t router.Traffic) (map[string]any, error) {
	objects, err := istio.New(istio.Options{}).Render(c, t, conformance.NewStore(nil))
	if err != nil {
		return nil, err
	}
	spec, _, err := unstructured.NestedMap(objects[2].Wanted.Object, "spec")
	return spec, err
}

func mustRender(t *testing.T, c *v1beta1.Canary, traffic router.Traffic) map[string]any {
	t.Helper()
	spec, err := render(c, traffic)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func route(spec map[string]any, i int) map[string]any {
	return spec["http"].([]any)[i].(map[string]any)
}

func TestHostsAndGateways(t *testing.T) {
	tests := map[string]struct {
		service         v1beta1.CanaryService
		hosts, gateways []any
	}{
		"default":   {v1beta1.CanaryService{}, []any{"podinfo"}, []any{"mesh"}},
		"own name":  {v1beta1.CanaryService{Hosts: []string{"podinfo", "a"}}, []any{"podinfo", "a"}, []any{"mesh"}},
		"all hosts": {v1beta1.CanaryService{Hosts: []string{"*"}, Gateways: []string{"gw"}}, []any{"*"}, []any{"gw"}},
		"hosts":     {v1beta1.CanaryService{Hosts: []string{"a"}}, []any{"a", "podinfo"}, []any{"mesh"}},
		"delegate":  {v1beta1.CanaryService{Delegation: true}, []any{}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := conformance.Podinfo()
			c.Spec.Service = test.service
			spec := mustRender(t, c, router.Traffic{Primary: 100})
			if diff := cmp.Diff(any(test.hosts), spec["hosts"]); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			gateways, _ := spec["gateways"].([]any)
			if diff := cmp.Diff(test.gateways, gateways); diff != "" {
				t.Errorf("gateways (-want +got):\n%s", diff)
			}
		})
	}
}

func Test05_DelegationClearsHostsAndGateways(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Service.Hosts = []string{"a"}
	store := conformance.NewStore(nil)
	applier, provider := router.NewApplier(store, store), istio.New(istio.Options{})
	for range 2 {
		objects, err := provider.Render(c, router.Traffic{Primary: 100}, store)
		if err != nil {
			t.Fatal(err)
		}
		if err := applier.Apply(t.Context(), c, objects); err != nil {
			t.Fatal(err)
		}
		c.Spec.Service.Hosts, c.Spec.Service.Delegation = nil, true
	}
	live, err := store.Get(router.Ref{Resource: provider.Resources()[1].Resource, Namespace: "test", Name: "podinfo"})
	if err != nil {
		t.Fatal(err)
	}
	spec := live.Object["spec"].(map[string]any)
	if diff := cmp.Diff(any([]any{}), spec["hosts"]); diff != "" || spec["gateways"] != nil {
		t.Errorf("spec %v, want neither hosts nor gateways", spec)
	}
}

func Test07_OnlyTheFirstRouteDropsTheCookie(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Service.Headers = &v1beta1.Headers{Response: &v1beta1.HeaderOperations{Add: map[string]string{"x": "y"}}}
	c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a"}
	before := c.DeepCopy()
	spec := mustRender(t, c, router.Traffic{Primary: 100, Cookies: router.Cookies{Previous: "a=b"}})
	want := []any{
		map[string]any{"x": "y", "Set-Cookie": "a=b; Max-Age=-1"},
		map[string]any{"x": "y"},
	}
	for i := range want {
		got, _, err := unstructured.NestedMap(route(spec, i), "headers", "response", "add")
		if diff := cmp.Diff(want[i], any(got)); diff != "" || err != nil {
			t.Errorf("headers of route %d: %v (-want +got):\n%s", i, err, diff)
		}
	}
	if diff := cmp.Diff(before, c); diff != "" {
		t.Errorf("Render changed the Canary:\n%s", diff)
	}
}

func Test09_MirrorIsOnTheRouteThatSplits(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a"}
	spec := mustRender(t, c, router.Traffic{Primary: 90, Canary: 10, Mirror: true, Cookies: router.Cookies{Canary: "a=b"}})
	if route(spec, 0)["mirror"] != nil || route(spec, 1)["mirror"] == nil {
		t.Errorf("http %v, want the mirror on the last route", spec["http"])
	}
}

func Test20_OtherRequestsOfAnABTestGoToThePrimary(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x": {Exact: "y"}}}}
	spec := mustRender(t, c, router.Traffic{Canary: 100, Matched: true})
	want := []any{map[string]any{"destination": map[string]any{"host": "podinfo-primary"}, "weight": int64(100)}}
	if diff := cmp.Diff(any(want), route(spec, 1)["route"]); diff != "" {
		t.Errorf("second route (-want +got):\n%s", diff)
	}
}

func TestMatchesAreMerged(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Service.Match = []v1beta1.HTTPMatchRequest{
		{URI: &v1beta1.StringMatch{Prefix: "/a"}, Headers: map[string]v1beta1.StringMatch{"h": {Exact: "1"}}},
		{Port: 80, SourceLabels: map[string]string{"l": "1"}},
	}
	c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{
		{Headers: map[string]v1beta1.StringMatch{"x": {Suffix: ".net"}}},
		{SourceLabels: map[string]string{"l": "2"}},
	}
	header := map[string]any{"x": map[string]any{"regex": `.*\.net`}}
	uri := map[string]any{"prefix": "/a"}
	want := []any{
		map[string]any{"uri": uri, "headers": header},
		map[string]any{"port": int64(80), "sourceLabels": map[string]any{"l": "1"}, "headers": header},
		map[string]any{"uri": uri, "headers": map[string]any{"h": map[string]any{"exact": "1"}}, "sourceLabels": map[string]any{"l": "2"}},
		map[string]any{"port": int64(80), "sourceLabels": map[string]any{"l": "2"}},
	}
	got := route(mustRender(t, c, router.Traffic{Canary: 100, Matched: true}), 0)["match"]
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("match (-want +got):\n%s", diff)
	}
}

func TestDestinationPort(t *testing.T) {
	tests := map[string]struct {
		service v1beta1.CanaryService
		want    bool
	}{
		"mesh":                   {v1beta1.CanaryService{PortDiscovery: true}, false},
		"gateway":                {v1beta1.CanaryService{PortDiscovery: true, Gateways: []string{"gw", "mesh"}}, true},
		"mesh first":             {v1beta1.CanaryService{PortDiscovery: true, Gateways: []string{"mesh", "gw"}}, false},
		"delegate":               {v1beta1.CanaryService{PortDiscovery: true, Delegation: true}, true},
		"gateway, one port only": {v1beta1.CanaryService{Gateways: []string{"gw"}}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := conformance.Podinfo()
			c.Spec.Service = test.service
			c.Spec.Service.Port = 9898
			first := route(mustRender(t, c, router.Traffic{Primary: 100}), 0)["route"].([]any)[0].(map[string]any)
			port, found, err := unstructured.NestedInt64(first, "destination", "port", "number")
			if err != nil || found != test.want || (found && port != 9898) {
				t.Errorf("port %d, %t (%v), want %t", port, found, err, test.want)
			}
		})
	}
}

// Durations stay as the user wrote them, so that objects of Flagger need no write.
func TestDurationsAreVerbatim(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Service.Timeout = "1m30s"
	if got := route(mustRender(t, c, router.Traffic{Primary: 100}), 0)["timeout"]; got != "1m30s" {
		t.Errorf("timeout %v, want 1m30s", got)
	}
}

func TestFaults(t *testing.T) {
	tests := map[string]func(*v1beta1.Canary){
		"spec.service": func(c *v1beta1.Canary) { c.Spec.Service.Timeout = "fast" },
		"spec.service.trafficPolicy": func(c *v1beta1.Canary) {
			c.Spec.Service.TrafficPolicy = &v1beta1.TrafficPolicy{TLS: &v1beta1.TLSSettings{Mode: "NO_SUCH_MODE"}}
		},
		"spec.service.delegation": func(c *v1beta1.Canary) {
			c.Spec.Service.Delegation, c.Spec.Service.Hosts = true, []string{"a"}
		},
		"spec.analysis.match[0]": func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
	}
	for field, shape := range tests {
		t.Run(field, func(t *testing.T) {
			c := conformance.Podinfo()
			shape(c)
			_, err := render(c, router.Traffic{Primary: 100})
			var fault *router.FieldError
			if !errors.As(err, &fault) || fault.Field != field {
				t.Errorf("Render(): %v, want a fault of %s", err, field)
			}
		})
	}
}
