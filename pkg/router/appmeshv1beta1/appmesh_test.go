package appmeshv1beta1_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/appmeshv1beta1"
	"flagger.app/flagger/pkg/router/conformance"
)

func shape(c *v1beta1.Canary) {
	c.Spec.Service.MeshName = "global"
	c.Spec.Service.Backends = []string{"backend.test", "database.infra"}
}

// adapt takes what App Mesh has no word for out of the scenarios.
func adapt(c *v1beta1.Canary) {
	if c.Spec.Service.Retries != nil {
		c.Spec.Service.Retries.RetryOn = "gateway-error,connection-error"
	}
}

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case {
		return conformance.Case{
			Provider: appmeshv1beta1.New(appmeshv1beta1.Options{Unowned: unowned}),
			Shape:    shape, Adapt: adapt, Match: conformance.HeaderMatches(),
			Foreign: map[string][]conformance.Field{"VirtualNode": {{Path: []string{"spec", "awsName"}, Value: "x"}}},
		}
	})
}

func canary(change ...func(*v1beta1.Canary)) *v1beta1.Canary {
	return conformance.Podinfo(append([]func(*v1beta1.Canary){shape}, change...)...)
}

// render returns the objects of a Canary by kind and name.
func render(t *testing.T, c *v1beta1.Canary, traffic router.Traffic) map[string]*unstructured.Unstructured {
	t.Helper()
	return conformance.NewBench(t, appmeshv1beta1.New(appmeshv1beta1.Options{}), c).Apply(traffic)
}

// In Flagger labels were compared with annotations, and each pass wrote the nodes again.
func Test15_NodesAreWrittenOnce(t *testing.T) {
	b := conformance.NewBench(t, appmeshv1beta1.New(appmeshv1beta1.Options{}), canary())
	for pass := range 3 {
		b.Apply(router.Traffic{Primary: 100})
		if writes := b.Store.Writes(); (len(writes) > 0) != (pass == 0) {
			t.Errorf("pass %d: %v", pass, writes)
		}
	}
}

func Test16_AnnotationsOfTheGateway(t *testing.T) {
	o := render(t, canary(func(c *v1beta1.Canary) {
		c.Spec.Service.Hosts = []string{"a.example.com", "b.example.com"}
		c.Spec.Service.Timeout = "15s"
		c.Spec.Service.Retries = &v1beta1.HTTPRetry{Attempts: 3}
	}), router.Traffic{Primary: 100})["VirtualService podinfo.test"]
	want := map[string]string{
		"gateway.appmesh.k8s.aws/expose": "true", "gateway.appmesh.k8s.aws/domain": "a.example.com,b.example.com",
		"gateway.appmesh.k8s.aws/timeout": "15s", "gateway.appmesh.k8s.aws/retries": "3",
	}
	got := o.GetAnnotations()
	maps.DeleteFunc(got, func(name, _ string) bool { return !strings.HasPrefix(name, "gateway.") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

// Changes of the hosts reach the annotations, and so does their removal.
func TestHostsAreFollowed(t *testing.T) {
	b := conformance.NewBench(t, appmeshv1beta1.New(appmeshv1beta1.Options{}), canary())
	for _, hosts := range [][]string{{"a.example.com"}, {"b.example.com"}, nil} {
		b.Canary.Spec.Service.Hosts = hosts
		o := b.Apply(router.Traffic{Primary: 100})["VirtualService podinfo.test"]
		domain, exposed := o.GetAnnotations()["gateway.appmesh.k8s.aws/domain"]
		if exposed != (len(hosts) > 0) || exposed && domain != hosts[0] {
			t.Errorf("hosts %v: annotations %v", hosts, o.GetAnnotations())
		}
	}
}

// Every match is a route of its own, in a fixed order of headers. In Flagger all of them had to hold at once.
func Test02_MatchesOfAnABTest(t *testing.T) {
	for range 20 {
		c := canary(func(c *v1beta1.Canary) { c.Spec.Analysis.Match = conformance.HeaderMatches() })
		o := render(t, c, router.Traffic{Canary: 100, Matched: true})["VirtualService podinfo.test"]
		routes := conformance.At(t, o, "spec", "routes").([]any)
		var got []any
		for _, item := range routes {
			route := item.(map[string]any)
			got = append(got, route["name"], route["priority"])
		}
		if diff := cmp.Diff([]any{"podinfo-a", int64(10), "podinfo-a-1", int64(11), "podinfo-b", int64(20)}, got); diff != "" {
			t.Fatalf("routes (-want +got):\n%s", diff)
		}
		header := func(name, form, value string) any {
			return map[string]any{"name": name, "match": map[string]any{form: value}}
		}
		want := []any{
			header("x-a", "exact", "1"), header("x-b", "regex", "y+"), header("x-c", "prefix", "a."), header("x-d", "suffix", ".z"),
			map[string]any{"name": "x-e"},
		}
		match, _, _ := unstructured.NestedSlice(routes[0].(map[string]any), "http", "match", "headers")
		if diff := cmp.Diff(want, match); diff != "" {
			t.Fatalf("headers (-want +got):\n%s", diff)
		}
	}
}

// Events of connections stand in a list of their own, and unknown ones are refused.
func TestRetryEvents(t *testing.T) {
	for retryOn, want := range map[string]map[string]any{
		"":                               {"httpRetryEvents": []any{"gateway-error"}},
		"gateway-error,connection-error": {"httpRetryEvents": []any{"gateway-error"}, "tcpRetryEvents": []any{"connection-error"}},
		"connection-error":               {"tcpRetryEvents": []any{"connection-error"}},
		" server-error, stream-error,":   {"httpRetryEvents": []any{"server-error", "stream-error"}},
	} {
		o := render(t, canary(func(c *v1beta1.Canary) {
			c.Spec.Service.Retries = &v1beta1.HTTPRetry{RetryOn: retryOn}
		}), router.Traffic{Primary: 100})["VirtualService podinfo.test"]
		want["maxRetries"], want["perRetryTimeoutMillis"] = int64(1), int64(250)
		route := conformance.At(t, o, "spec", "routes").([]any)[0].(map[string]any)
		if diff := cmp.Diff(any(want), route["http"].(map[string]any)["retryPolicy"]); diff != "" {
			t.Errorf("%q (-want +got):\n%s", retryOn, diff)
		}
	}
}

func TestFaults(t *testing.T) {
	for field, change := range map[string]func(*v1beta1.Canary){
		"spec.service.meshName":              func(c *v1beta1.Canary) { c.Spec.Service.MeshName = "" },
		"spec.service.retries.retryOn":       func(c *v1beta1.Canary) { c.Spec.Service.Retries = &v1beta1.HTTPRetry{RetryOn: "5xx"} },
		"spec.service.retries.perTryTimeout": func(c *v1beta1.Canary) { c.Spec.Service.Retries = &v1beta1.HTTPRetry{PerTryTimeout: "soon"} },
		"spec.service.backends[0]": func(c *v1beta1.Canary) {
			c.Spec.Service.Backends = []string{"arn:aws:appmesh:eu-west-1:1:mesh/m/virtualService/x"}
		},
		"spec.analysis.match[0]": func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}} },
		"spec.analysis.match":    func(c *v1beta1.Canary) { c.Spec.Analysis.Match = make([]v1beta1.AnalysisMatch, 11) },
		"spec.analysis.match[0].queryParams": func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{QueryParams: map[string]v1beta1.StringMatch{"a": {Exact: "b"}}}}
		},
		"spec.analysis.match[0].sourceLabels": func(c *v1beta1.Canary) {
			c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{SourceLabels: map[string]string{"a": "b"}}}
		},
	} {
		_, err := appmeshv1beta1.New(appmeshv1beta1.Options{}).Render(canary(change), router.Traffic{Primary: 100}, conformance.NewStore(nil))
		var fault *router.FieldError
		if !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("Render(): %v, want a fault of %s", err, field)
		}
	}
}

// Every node and router has a listener with port and protocol, and pods find their nodes when they start.
func TestListeners(t *testing.T) {
	for portName, protocol := range map[string]string{"": "http", "grpc-api": "grpc"} {
		c := canary(func(c *v1beta1.Canary) { c.Spec.Service.PortName = portName })
		want := []any{map[string]any{"portMapping": map[string]any{"port": int64(9898), "protocol": protocol}}}
		for name, o := range render(t, c, router.Traffic{Primary: 100}) {
			path := []string{"spec", "listeners"}
			if o.GetKind() == "VirtualService" {
				path = []string{"spec", "virtualRouter", "listeners"}
			}
			if diff := cmp.Diff(any(want), conformance.At(t, o, path...)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	objects, err := appmeshv1beta1.New(appmeshv1beta1.Options{}).Render(canary(), router.Traffic{Primary: 100}, conformance.NewStore(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.Early != (o.Ref.Kind == "VirtualNode") {
			t.Errorf("%s: early %t", o.Ref, o.Early)
		}
	}
}

// A name with a namespace is the whole name of a VirtualService in this version.
func TestBackends(t *testing.T) {
	want := []any{
		map[string]any{"virtualService": map[string]any{"virtualServiceName": "backend.test"}},
		map[string]any{"virtualService": map[string]any{"virtualServiceName": "database.infra"}},
	}
	for name, o := range render(t, canary(), router.Traffic{Primary: 100}) {
		if o.GetKind() != "VirtualNode" {
			continue
		}
		if diff := cmp.Diff(any(want), conformance.At(t, o, "spec", "backends")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Connection pools and whatever else a user sets on a listener stay.
func TestListenerOfTheUserStays(t *testing.T) {
	b := conformance.NewBench(t, appmeshv1beta1.New(appmeshv1beta1.Options{}), canary())
	b.Apply(router.Traffic{Primary: 100})
	ref := b.Provider.Resources()[0].Of("test", "podinfo-canary")
	pool := map[string]any{"http": map[string]any{"maxConnections": int64(7)}}
	if err := b.Store.Edit(ref, func(o *unstructured.Unstructured) {
		o.Object["spec"].(map[string]any)["listeners"].([]any)[0].(map[string]any)["connectionPool"] = pool
	}); err != nil {
		t.Fatal(err)
	}
	b.Canary.Spec.Service.PortName = "grpc"
	for _, weight := range []int32{0, 40} {
		node := b.Apply(router.Traffic{Primary: 100 - weight, Canary: weight})["VirtualNode podinfo-canary"]
		listener := conformance.At(t, node, "spec", "listeners").([]any)[0].(map[string]any)
		if diff := cmp.Diff(any(pool), listener["connectionPool"]); diff != "" {
			t.Errorf("weight %d: listener %v (-want +got):\n%s", weight, listener, diff)
		}
	}
}
