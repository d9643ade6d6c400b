package gloo_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/gloo"
	"flagger.app/flagger/pkg/router/services"
)

func crds() *conformance.CRDs {
	const dir = "install/helm/gloo/crds/"
	return &conformance.CRDs{
		Module: "github.com/solo-io/gloo", Version: "v1.22.1",
		File: dir + "gateway.solo.io_v1_RouteTable.yaml", More: []string{dir + "gloo.solo.io_v1_Upstream.yaml"},
	}
}

// shape refers to an Upstream with health checks, TLS and whatever else Gloo knows.
func shape(c *v1beta1.Canary) {
	c.Spec.UpstreamRef = &v1beta1.CrossNamespaceObjectReference{APIVersion: "gloo.solo.io/v1", Kind: "Upstream", Name: "model", Namespace: "gloo"}
}

// model is that Upstream.
func model() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gloo.solo.io/v1", "kind": "Upstream",
		"metadata": map[string]any{"name": "model", "namespace": "gloo", "labels": map[string]any{"team.example.com/name": "a", "other": "b"}},
		"spec": map[string]any{
			"static":           map[string]any{"hosts": []any{map[string]any{"addr": "example.com", "port": int64(443)}}},
			"sslConfig":        map[string]any{"secretRef": map[string]any{"name": "tls", "namespace": "gloo"}},
			"circuitBreakers":  map[string]any{"maxConnections": int64(10)},
			"connectionConfig": map[string]any{"connectTimeout": "1.5s"},
			"healthChecks": []any{map[string]any{
				"timeout": "5s", "interval": "30s", "healthyThreshold": int64(1), "unhealthyThreshold": int64(2),
				"httpHealthCheck": map[string]any{"path": "/healthz"},
			}},
			"loadBalancerConfig": map[string]any{"ringHash": map[string]any{"ringHashConfig": map[string]any{"minimumRingSize": "200"}}},
			"useHttp2":           true,
		},
	}}
}

// sources are the Services of both sides, and an Upstream.
func sources(c *v1beta1.Canary, model *unstructured.Unstructured) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, name := range []string{router.NamesOf(c).Primary, router.NamesOf(c).Canary} {
		all = append(all, conformance.Selecting(name, map[string]any{"app": name}))
	}
	return append(all, model)
}

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case {
		return conformance.Case{
			Provider: gloo.New(gloo.Options{Unowned: unowned}),
			CRDs:     crds(),
			Shape:    shape,
			Sources: func(c *v1beta1.Canary) []*unstructured.Unstructured {
				return sources(c, model())
			},
			Foreign: map[string][]conformance.Field{
				"RouteTable": {{Path: []string{"spec", "weight"}, Value: int64(7)}},
				"Upstream":   {{Path: []string{"spec", "ignoreHealthOnHostRemoval"}, Value: true}},
			},
		}
	})
}

// newBench has what a user made.
func newBench(t *testing.T, options gloo.Options) *conformance.Bench {
	t.Helper()
	b := conformance.NewBench(t, gloo.New(options), conformance.Podinfo(shape))
	b.Put(sources(b.Canary, model())...)
	return b
}

func put(b *conformance.Bench, ref router.Ref, o *unstructured.Unstructured) {
	b.Helper()
	if err := b.Store.Put(ref, o); err != nil {
		b.Fatal(err)
	}
}

const (
	primaryUpstream = "test-podinfo-primaryupstream-9898"
	canaryUpstream  = "test-podinfo-canaryupstream-9898"
)

// All settings of the Upstream that is referred to follow it, also those that it loses. In Flagger that was one of them, and only
// as long as it had a value.
func Test18_SettingsFollowTheModel(t *testing.T) {
	b := newBench(t, gloo.Options{})
	changed := model()
	spec := changed.Object["spec"].(map[string]any)
	delete(spec, "loadBalancerConfig")
	delete(spec, "healthChecks")
	spec["connectionConfig"] = map[string]any{"connectTimeout": "30s"}
	for _, of := range []*unstructured.Unstructured{model(), changed, model()} {
		b.Put(sources(b.Canary, of)...)
		stored := b.Apply(router.Traffic{Primary: 70, Canary: 30})
		want := of.DeepCopy().Object["spec"].(map[string]any)
		delete(want, "static")
		for name, service := range map[string]string{primaryUpstream: "podinfo-primary", canaryUpstream: "podinfo-canary"} {
			want["kube"] = map[string]any{
				"serviceName": service, "serviceNamespace": "test", "servicePort": int64(9898), "selector": map[string]any{"app": service},
			}
			if diff := cmp.Diff(want, stored["Upstream "+name].Object["spec"]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// The prefixes of labels that copies take over hold for Upstreams as well.
func Test18_LabelsOfTheModel(t *testing.T) {
	for prefix, want := range map[string]map[string]string{
		"": nil, "team.example.com/": {"team.example.com/name": "a"}, "*": {"team.example.com/name": "a", "other": "b"},
	} {
		stored := newBench(t, gloo.Options{IncludeLabelPrefix: []string{prefix}}).Apply(router.Traffic{Primary: 100})
		if diff := cmp.Diff(want, stored["Upstream "+canaryUpstream].GetLabels()); diff != "" {
			t.Errorf("prefix %q: labels (-want +got):\n%s", prefix, diff)
		}
	}
}

// Upstreams are there before the table leads to them, and before their Services: no discovery is needed.
func TestUpstreamsComeFirst(t *testing.T) {
	b := newBench(t, gloo.Options{})
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		b.Store.Remove(services.Ref("test", name))
	}
	objects, err := b.Provider.Render(b.Canary, router.Traffic{Primary: 100}, b.Store)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range objects {
		names = append(names, o.Ref.Kind+" "+o.Ref.Namespace+"/"+o.Ref.Name)
	}
	want := []string{"Upstream test/" + primaryUpstream, "Upstream test/" + canaryUpstream, "RouteTable test/podinfo"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

// Options that a user has set on the route stay at each step, in a match as well.
func TestOptionsOfTheUserStay(t *testing.T) {
	b := newBench(t, gloo.Options{})
	b.Canary.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x": {Exact: "1"}}}}
	stored := b.Apply(router.Traffic{Primary: 100})
	options := map[string]any{"prefixRewrite": "/", "extauth": map[string]any{"disable": true}}
	table := stored["RouteTable podinfo"]
	table.Object["spec"].(map[string]any)["routes"].([]any)[0].(map[string]any)["options"] = options
	ref := b.Provider.Resources()[0]
	ref.Namespace, ref.Name = "test", "podinfo"
	put(b, ref, table)
	for _, traffic := range []router.Traffic{
		{Primary: 70, Canary: 30}, {Canary: 100, Matched: true}, {Canary: 100}, {Primary: 100, Matched: true}, {Primary: 100},
	} {
		for i, route := range b.Apply(traffic)["RouteTable podinfo"].Object["spec"].(map[string]any)["routes"].([]any) {
			if diff := cmp.Diff(any(options), route.(map[string]any)["options"]); diff != "" {
				t.Errorf("%s: options of route %d (-want +got):\n%s", traffic, i, diff)
			}
		}
	}
}

// The order of the conditions was that of a map, so that the object differed from itself. Requests that don't match go to the
// primary whatever the user's VirtualService does with them.
func Test02_MatchesOfAnABTest(t *testing.T) {
	b := newBench(t, gloo.Options{})
	b.Canary.Spec.Analysis.Match = []v1beta1.AnalysisMatch{
		{
			Headers: map[string]v1beta1.StringMatch{
				"x-d": {Suffix: ".z"}, "x-a": {Exact: "1"}, "x-c": {Prefix: "a."}, "x-b": {Regex: "y+"}, "x-e": {},
			},
			QueryParams: map[string]v1beta1.StringMatch{"v": {Exact: "2"}},
		},
		{Headers: map[string]v1beta1.StringMatch{"y": {Exact: "3"}}},
	}
	condition := func(name, value string) any { return map[string]any{"name": name, "value": value} }
	regex := func(name, value string) any { return map[string]any{"name": name, "value": value, "regex": true} }
	want := []any{
		map[string]any{
			"headers": []any{
				condition("x-a", "1"), regex("x-b", "y+"), regex("x-c", `a\..*`), regex("x-d", `.*\.z`), map[string]any{"name": "x-e"},
			},
			"queryParameters": []any{condition("v", "2")},
		},
		map[string]any{"headers": []any{condition("y", "3")}},
	}
	for range 20 {
		routes := b.Apply(router.Traffic{Canary: 100, Matched: true})["RouteTable podinfo"].Object["spec"].(map[string]any)["routes"].([]any)
		if diff := cmp.Diff(any(want), routes[0].(map[string]any)["matchers"]); diff != "" {
			t.Fatalf("matchers (-want +got):\n%s", diff)
		}
		rest := fmt.Sprint(routes[1])
		if !strings.Contains(rest, primaryUpstream) || !strings.Contains(rest, "weight:100") || strings.Count(rest, "weight") != 1 {
			t.Fatalf("other requests go by %s, want the primary", rest)
		}
	}
}

func TestFaults(t *testing.T) {
	b := newBench(t, gloo.Options{})
	for field, change := range map[string]func(*v1beta1.Canary){
		"spec.upstreamRef":       func(c *v1beta1.Canary) { c.Spec.UpstreamRef.Name = "other" },
		"spec.analysis.match[0]": func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
		"spec.analysis.match[0].sourceLabels": func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{SourceLabels: map[string]string{"a": "b"}}}
		},
	} {
		c := b.Canary.DeepCopy()
		change(c)
		_, err := b.Provider.Render(c, router.Traffic{Primary: 100}, b.Store)
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
	}
}

func TestDiscoveredPortsAreTold(t *testing.T) {
	b := newBench(t, gloo.Options{})
	for _, discovery := range []bool{false, true} {
		b.Canary.Spec.Service.PortDiscovery = discovery
		if advice := router.Advice(b.Provider, b.Canary, b.Store); (len(advice) > 0) != discovery {
			t.Errorf("portDiscovery %t: advice %q", discovery, advice)
		}
	}
}

func TestUnreadable(t *testing.T) {
	b := newBench(t, gloo.Options{})
	ref := b.Provider.Resources()[0]
	ref.Namespace, ref.Name = "test", "podinfo"
	for name, routes := range map[string][]any{
		"no routes": nil, "no object": {"x"}, "no split": {map[string]any{"routeAction": map[string]any{}}},
	} {
		put(b, ref, router.NewObject(ref, nil, nil, map[string]any{"routes": routes}))
		if observed, err := b.Provider.Read(b.Canary, b.Store); !errors.Is(err, router.ErrUnreadable) {
			t.Errorf("%s: Read() = %+v, %v; want ErrUnreadable", name, observed, err)
		}
	}
}
