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

// side is the Service of primary or canary.
func side(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name, "namespace": "test"},
		"spec": map[string]any{"selector": map[string]any{"app": name}},
	}}
}

func suite(options gloo.Options) conformance.Case {
	return conformance.Case{
		Provider: gloo.New(options),
		CRDs:     crds(),
		Shape:    shape,
		Sources: func(c *v1beta1.Canary) []*unstructured.Unstructured {
			names := router.NamesOf(c)
			return []*unstructured.Unstructured{side(names.Primary), side(names.Canary), model()}
		},
		Foreign: map[string][]conformance.Field{
			"RouteTable": {{Path: []string{"spec", "weight"}, Value: int64(7)}},
			"Upstream":   {{Path: []string{"spec", "ignoreHealthOnHostRemoval"}, Value: true}},
		},
		Unowned: options.Unowned,
	}
}

func TestConformance(t *testing.T) {
	c := suite(gloo.Options{})
	c.Golden = true
	conformance.Run(t, c)
}

func TestConformanceUnowned(t *testing.T) {
	conformance.Run(t, suite(gloo.Options{Unowned: true}))
}

// world has what a user made, and applies what a provider renders.
type world struct {
	*testing.T
	p       *gloo.Provider
	c       *v1beta1.Canary
	store   *conformance.Store
	applier *router.Applier
}

func newWorld(t *testing.T, options gloo.Options) *world {
	w := &world{T: t, p: gloo.New(options), c: conformance.Podinfo(), store: conformance.NewStore(nil)}
	shape(w.c)
	w.applier = router.NewApplier(w.store, w.store)
	w.put(w.p.Sources(w.c)[2], model())
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		w.put(services.Ref("test", name), side(name))
	}
	return w
}

func (w *world) put(ref router.Ref, o *unstructured.Unstructured) {
	w.Helper()
	if err := w.store.Put(ref, o); err != nil {
		w.Fatal(err)
	}
}

// apply leads a share of the requests to the canary, and returns the objects as they are stored.
func (w *world) apply(traffic router.Traffic) map[string]*unstructured.Unstructured {
	w.Helper()
	objects, err := w.p.Render(w.c, traffic, w.store)
	if err == nil {
		err = w.applier.Apply(w.Context(), w.c, objects)
	}
	if err != nil {
		w.Fatal(err)
	}
	stored := map[string]*unstructured.Unstructured{}
	for _, o := range objects {
		live, err := w.store.Get(o.Ref)
		if err != nil {
			w.Fatal(err)
		}
		stored[o.Ref.Name] = live
	}
	return stored
}

const (
	primaryUpstream = "test-podinfo-primaryupstream-9898"
	canaryUpstream  = "test-podinfo-canaryupstream-9898"
)

// All settings of the Upstream that is referred to follow it, also those that it loses. In Flagger that was one of them, and only
// as long as it had a value.
func Test18_SettingsFollowTheModel(t *testing.T) {
	w := newWorld(t, gloo.Options{})
	changed := model()
	spec := changed.Object["spec"].(map[string]any)
	delete(spec, "loadBalancerConfig")
	delete(spec, "healthChecks")
	spec["connectionConfig"] = map[string]any{"connectTimeout": "30s"}
	for _, of := range []*unstructured.Unstructured{model(), changed, model()} {
		w.put(w.p.Sources(w.c)[2], of)
		stored := w.apply(router.Traffic{Primary: 70, Canary: 30})
		want := of.DeepCopy().Object["spec"].(map[string]any)
		delete(want, "static")
		for name, service := range map[string]string{primaryUpstream: "podinfo-primary", canaryUpstream: "podinfo-canary"} {
			want["kube"] = map[string]any{
				"serviceName": service, "serviceNamespace": "test", "servicePort": int64(9898), "selector": map[string]any{"app": service},
			}
			if diff := cmp.Diff(want, stored[name].Object["spec"]); diff != "" {
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
		stored := newWorld(t, gloo.Options{IncludeLabelPrefix: []string{prefix}}).apply(router.Traffic{Primary: 100})
		if diff := cmp.Diff(want, stored[canaryUpstream].GetLabels()); diff != "" {
			t.Errorf("prefix %q: labels (-want +got):\n%s", prefix, diff)
		}
	}
}

// Upstreams are there before the table leads to them, and before their Services: no discovery is needed.
func TestUpstreamsComeFirst(t *testing.T) {
	w := newWorld(t, gloo.Options{})
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		w.store.Remove(services.Ref("test", name))
	}
	objects, err := w.p.Render(w.c, router.Traffic{Primary: 100}, w.store)
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
	w := newWorld(t, gloo.Options{})
	w.c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x": {Exact: "1"}}}}
	stored := w.apply(router.Traffic{Primary: 100})
	options := map[string]any{"prefixRewrite": "/", "extauth": map[string]any{"disable": true}}
	table := stored["podinfo"]
	table.Object["spec"].(map[string]any)["routes"].([]any)[0].(map[string]any)["options"] = options
	ref := w.p.Resources()[0]
	ref.Namespace, ref.Name = "test", "podinfo"
	w.put(ref, table)
	for _, traffic := range []router.Traffic{
		{Primary: 70, Canary: 30}, {Canary: 100, Matched: true}, {Canary: 100}, {Primary: 100, Matched: true}, {Primary: 100},
	} {
		for i, route := range w.apply(traffic)["podinfo"].Object["spec"].(map[string]any)["routes"].([]any) {
			if diff := cmp.Diff(any(options), route.(map[string]any)["options"]); diff != "" {
				t.Errorf("%s: options of route %d (-want +got):\n%s", traffic, i, diff)
			}
		}
	}
}

// The order of the conditions was that of a map, so that the object differed from itself. Requests that don't match go to the
// primary whatever the user's VirtualService does with them.
func Test02_MatchesOfAnABTest(t *testing.T) {
	w := newWorld(t, gloo.Options{})
	w.c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{
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
		routes := w.apply(router.Traffic{Canary: 100, Matched: true})["podinfo"].Object["spec"].(map[string]any)["routes"].([]any)
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
	w := newWorld(t, gloo.Options{})
	for field, change := range map[string]func(*v1beta1.Canary){
		"spec.upstreamRef":       func(c *v1beta1.Canary) { c.Spec.UpstreamRef.Name = "other" },
		"spec.analysis.match[0]": func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
		"spec.analysis.match[0].sourceLabels": func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{SourceLabels: map[string]string{"a": "b"}}}
		},
	} {
		c := w.c.DeepCopy()
		change(c)
		_, err := w.p.Render(c, router.Traffic{Primary: 100}, w.store)
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
	}
}

func TestDiscoveredPortsAreTold(t *testing.T) {
	w := newWorld(t, gloo.Options{})
	for _, discovery := range []bool{false, true} {
		w.c.Spec.Service.PortDiscovery = discovery
		if advice := router.Advice(w.p, w.c, w.store); (len(advice) > 0) != discovery {
			t.Errorf("portDiscovery %t: advice %q", discovery, advice)
		}
	}
}

func TestUnreadable(t *testing.T) {
	w := newWorld(t, gloo.Options{})
	ref := w.p.Resources()[0]
	ref.Namespace, ref.Name = "test", "podinfo"
	for name, routes := range map[string][]any{
		"no routes": nil, "no object": {"x"}, "no split": {map[string]any{"routeAction": map[string]any{}}},
	} {
		w.put(ref, router.NewObject(ref, nil, nil, map[string]any{"routes": routes}))
		if observed, err := w.p.Read(w.c, w.store); !errors.Is(err, router.ErrUnreadable) {
			t.Errorf("%s: Read() = %+v, %v; want ErrUnreadable", name, observed, err)
		}
	}
}
