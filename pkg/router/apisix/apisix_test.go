package apisix_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apisixv2 "github.com/apache/apisix-ingress-controller/pkg/kube/apisix/apis/config/v2"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/apisix"
	"flagger.app/flagger/pkg/router/conformance"
)

// users is a route with rules for several applications. Only the second is ours.
const users = `
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata:
  name: edge
  namespace: test
  labels: {team: edge}
  annotations: {example.com/note: x, kubectl.kubernetes.io/last-applied-configuration: "{}"}
spec:
  ingressClassName: apisix
  http:
  - name: login
    match: {hosts: [app.example.com], paths: [/login]}
    backends: [{serviceName: login, servicePort: 80}]
  - name: app
    priority: 7
    timeout: {connect: 5s, read: 30s, send: 30s}
    websocket: true
    match:
      hosts: [app.example.com, www.example.com]
      paths: [/*]
      methods: [GET, POST]
      remoteAddrs: [10.0.0.0/8]
      exprs:
      - {subject: {scope: Header, name: X-Tenant}, op: Equal, value: a}
    authentication: {enable: true, type: keyAuth, keyAuth: {header: X-Key}}
    plugin_config_name: shared
    plugins:
    - {name: limit-count, enable: true, config: {count: 10, time_window: 60, deep: {list: [1, {a: b}]}}, secretRef: limits}
    - {name: prometheus, enable: true, config: {prefer_name: true}}
    backends: [{serviceName: APEX, servicePort: http, resolveGranularity: service, subset: blue}]
  - name: files
    match: {paths: [/files]}
    upstreams: [{name: bucket}]
  stream:
  - {name: tcp, protocol: TCP, match: {ingressPort: 9100}, backend: {serviceName: APEX, servicePort: 9100}}
`

func source(t testing.TB, c *v1beta1.Canary) *unstructured.Unstructured {
	t.Helper()
	return conformance.UsersObject(t, c, users)
}

func shape(c *v1beta1.Canary) {
	c.Spec.RouteRef = &v1beta1.LocalObjectReference{APIVersion: "apisix.apache.org/v2", Kind: "ApisixRoute", Name: "edge"}
}

func canary(change ...func(*v1beta1.Canary)) *v1beta1.Canary {
	return conformance.Podinfo(append([]func(*v1beta1.Canary){shape}, change...)...)
}

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case {
		return conformance.Case{
			Provider: apisix.New(apisix.Options{Unowned: unowned}),
			Shape:    shape,
			Sources:  conformance.Users(t, users),
			CRDs: &conformance.CRDs{
				Module: "github.com/apache/apisix-ingress-controller", Version: "v1.8.4", File: "samples/deploy/crd/v1/ApisixRoute.yaml",
			},
			Foreign: map[string][]conformance.Field{"ApisixRoute": {{
				Path: []string{"spec", "stream"},
				Value: []any{map[string]any{
					"name": "x", "protocol": "TCP", "match": map[string]any{"ingressPort": int64(9000)},
					"backend": map[string]any{"serviceName": "x", "servicePort": int64(80)},
				}},
			}}},
		}
	})
}

func storeWith(t *testing.T, c *v1beta1.Canary, of *unstructured.Unstructured) *conformance.Store {
	t.Helper()
	store := conformance.NewStore(nil)
	if err := store.Put(apisix.New(apisix.Options{}).Sources(c)[0], of); err != nil {
		t.Fatal(err)
	}
	return store
}

// What is rendered for any use is a route of the type that the controller reads, with no field that it does not know. Plugins are any.
func TestRoutesAreOfTheControllersType(t *testing.T) {
	for name, traffic := range map[string]router.Traffic{
		"at rest": {Primary: 100}, "weights": {Primary: 70, Canary: 30}, "A/B": {Canary: 100, Matched: true},
	} {
		c := canary(func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = conformance.HeaderMatches()
		})
		objects, err := apisix.New(apisix.Options{}).Render(c, traffic, storeWith(t, c, source(t, c)))
		if err != nil {
			t.Fatal(err)
		}
		typed := &apisixv2.ApisixRoute{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[0].Wanted.Object, typed, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, rule := range typed.Spec.HTTP {
			if len(rule.Backends) != 2 || *rule.Backends[0].Weight != int(traffic.Primary) || *rule.Backends[1].Weight != int(traffic.Canary) {
				t.Errorf("%s: rule %s has the backends %+v", name, rule.Name, rule.Backends)
			}
		}
	}
}

// rules renders the http rules of a Canary, by name.
func rules(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, of *unstructured.Unstructured) map[string]map[string]any {
	t.Helper()
	objects, err := apisix.New(apisix.Options{}).Render(c, traffic, storeWith(t, c, of))
	if err != nil {
		t.Fatal(err)
	}
	http, _, err := unstructured.NestedSlice(objects[0].Wanted.Object, "spec", "http")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for _, item := range http {
		rule := item.(map[string]any)
		all[rule["name"].(string)] = rule
	}
	return all
}

// Rules of other applications that were there twice competed with each other.
func TestOnlyOurRuleIsThere(t *testing.T) {
	c := canary()
	of := source(t, c)
	got := rules(t, c, router.Traffic{Primary: 70, Canary: 30}, of)
	want := of.DeepCopy().Object["spec"].(map[string]any)["http"].([]any)[1].(map[string]any)
	want["priority"] = int64(10000)
	backend := func(name string, weight int64) map[string]any {
		return map[string]any{
			"serviceName": name, "servicePort": "http", "resolveGranularity": "service", "subset": "blue", "weight": weight,
		}
	}
	want["backends"] = []any{backend("podinfo-primary", 70), backend("podinfo-canary", 30)}
	if diff := cmp.Diff(map[string]map[string]any{"app": want}, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// Two rules of the same Service are both ours: no part of the application is left without a test.
func TestAllRulesOfTheService(t *testing.T) {
	c := canary()
	of := source(t, c)
	http := of.Object["spec"].(map[string]any)["http"].([]any)
	http[0].(map[string]any)["backends"] = []any{map[string]any{"serviceName": "podinfo", "servicePort": int64(80)}}
	if got := rules(t, c, router.Traffic{Primary: 100}, of); len(got) != 2 || got["login"] == nil || got["app"] == nil {
		t.Errorf("rules %v, want login and app", got)
	}
}

// Every match has a rule above the one of the user, in a fixed order of conditions. Flagger ignored a match, and sent everybody
// to the canary.
func TestMatchesOfAnABTest(t *testing.T) {
	c := canary(func(c *v1beta1.Canary) {
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{
			{
				Headers:     map[string]v1beta1.StringMatch{"x-b": {Regex: "y+"}, "x-a": {Exact: "1"}, "x-c": {Prefix: "a."}, "x-d": {Suffix: ".z"}},
				QueryParams: map[string]v1beta1.StringMatch{"v": {Exact: "2"}},
			},
			{Headers: map[string]v1beta1.StringMatch{"x-e": {}}},
		}
	})
	describe := func(rule map[string]any) []string {
		exprs, _, _ := unstructured.NestedSlice(rule, "match", "exprs")
		var all []string
		for _, e := range exprs {
			expr := e.(map[string]any)
			subject := expr["subject"].(map[string]any)
			all = append(all, fmt.Sprintf("%v %v %v %v", subject["scope"], subject["name"], expr["op"], expr["value"]))
		}
		return all
	}
	users := "Header X-Tenant Equal a"
	want := map[string][]string{
		"app": {
			users, "Header x-a Equal 1", "Header x-b RegexMatch y+", `Header x-c RegexMatch ^a\.`, `Header x-d RegexMatch \.z$`, "Query v Equal 2",
		},
		"app-1": {users, "Header x-e RegexMatch .*"},
	}
	for range 20 {
		got := map[string][]string{}
		for name, rule := range rules(t, c, router.Traffic{Canary: 100, Matched: true}, source(t, c)) {
			got[name] = describe(rule)
			if rule["priority"] != int64(10001) {
				t.Errorf("%s: priority %v", name, rule["priority"])
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("conditions (-want +got):\n%s", diff)
		}
	}
}

func TestFaults(t *testing.T) {
	edit := func(change func(rule map[string]any)) func(*unstructured.Unstructured) {
		return func(o *unstructured.Unstructured) {
			change(o.Object["spec"].(map[string]any)["http"].([]any)[1].(map[string]any))
		}
	}
	for name, test := range map[string]struct {
		shape  func(*v1beta1.Canary)
		source func(*unstructured.Unstructured)
		field  string
	}{
		"no reference":  {func(c *v1beta1.Canary) { c.Spec.RouteRef = nil }, nil, "spec.routeRef.name"},
		"no such route": {func(c *v1beta1.Canary) { c.Spec.RouteRef.Name = "other" }, nil, "spec.routeRef.name"},
		"no rules":      {nil, func(o *unstructured.Unstructured) { delete(o.Object["spec"].(map[string]any), "http") }, "spec.routeRef.name"},
		"other backend": {func(c *v1beta1.Canary) { c.Spec.Service.Name = "other" }, nil, "spec.routeRef.name"},
		"two backends": {nil, edit(func(rule map[string]any) {
			rule["backends"] = append(rule["backends"].([]any), map[string]any{"serviceName": "second", "servicePort": int64(80)})
		}), "spec.routeRef.name"},
		"no condition": {func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}} }, nil, "spec.analysis.match[0]"},
		"source labels": {func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{SourceLabels: map[string]string{"a": "b"}}}
		}, nil, "spec.analysis.match[0].sourceLabels"},
	} {
		t.Run(name, func(t *testing.T) {
			of := source(t, canary())
			if test.source != nil {
				test.source(of)
			}
			store, c := storeWith(t, canary(), of), canary()
			if test.shape != nil {
				test.shape(c)
			}
			_, err := apisix.New(apisix.Options{}).Render(c, router.Traffic{Primary: 100}, store)
			var fault *router.FieldError
			if !errors.As(err, &fault) || fault.Field != test.field {
				t.Errorf("Render(): %v, want a fault of %s", err, test.field)
			}
		})
	}
}

// Weights are found by the names of the Services, in whatever order they stand.
func TestWeightsAreFoundByName(t *testing.T) {
	c, p := canary(), apisix.New(apisix.Options{})
	backend := func(name string, weight int64) any { return map[string]any{"serviceName": name, "weight": weight} }
	for name, test := range map[string]struct {
		http []any
		want int32
	}{
		"other order": {[]any{
			map[string]any{"backends": []any{backend("login", 5)}},
			map[string]any{"backends": []any{backend("podinfo-canary", 30), backend("podinfo-primary", 70)}},
		}, 30},
		"no rule":    {nil, -1},
		"other rule": {[]any{map[string]any{"backends": []any{backend("login", 100)}}}, -1},
		"both zero":  {[]any{map[string]any{"backends": []any{backend("podinfo-canary", 0), backend("podinfo-primary", 0)}}}, -1},
	} {
		store := storeWith(t, c, source(t, c))
		ref := p.Outline(c)[0].Ref
		if err := store.Put(ref, router.NewObject(ref, nil, nil, map[string]any{"http": test.http})); err != nil {
			t.Fatal(err)
		}
		observed, err := p.Read(c, store)
		if test.want < 0 {
			if !errors.Is(err, router.ErrUnreadable) {
				t.Errorf("%s: Read() = %+v, %v; want ErrUnreadable", name, observed, err)
			}
		} else if err != nil || observed.Traffic.Canary != test.want {
			t.Errorf("%s: Read() = %+v, %v; want %d", name, observed, err, test.want)
		}
	}
}

// Built-in queries look for the name of the route, which APISIX exports only if it is told to.
func TestMissingNamesInMetricsAreTold(t *testing.T) {
	builtIn := []v1beta1.CanaryMetric{{Name: "request-success-rate"}}
	plugins := func(value any) func(*unstructured.Unstructured) {
		return func(o *unstructured.Unstructured) {
			o.Object["spec"].(map[string]any)["http"].([]any)[1].(map[string]any)["plugins"] = value
		}
	}
	prometheus := func(enable, prefer bool) any {
		return []any{map[string]any{"name": "prometheus", "enable": enable, "config": map[string]any{"prefer_name": prefer}}}
	}
	for name, test := range map[string]struct {
		metrics []v1beta1.CanaryMetric
		plugins any
		told    bool
	}{
		"in place":       {builtIn, prometheus(true, true), false},
		"no plugin":      {builtIn, nil, true},
		"not enabled":    {builtIn, prometheus(false, true), true},
		"no names":       {builtIn, prometheus(true, false), true},
		"own query":      {[]v1beta1.CanaryMetric{{Name: "request-success-rate", Query: "1"}}, nil, false},
		"without metric": {nil, nil, false},
	} {
		c := canary(func(c *v1beta1.Canary) { c.Spec.Analysis.Metrics = test.metrics })
		of := source(t, c)
		plugins(test.plugins)(of)
		advice := router.Advice(apisix.New(apisix.Options{}), c, storeWith(t, c, of))
		if told := len(advice) == 1 && strings.Contains(advice[0], "prefer_name"); told != test.told {
			t.Errorf("%s: advice %q", name, advice)
		}
	}
}
