package appmeshv1beta2_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/appmeshv1beta2"
	"flagger.app/flagger/pkg/router/conformance"
)

// adapt takes what App Mesh has no word for out of the scenarios.
func adapt(c *v1beta1.Canary) {
	if c.Spec.Service.Retries != nil {
		c.Spec.Service.Retries.RetryOn = "gateway-error,connection-error"
	}
}

func shape(c *v1beta1.Canary) {
	c.Spec.Service.TargetPort = intstr.FromInt32(9797)
	c.Spec.Service.Backends = []string{"backend", "database.infra", "arn:aws:appmesh:eu-west-1:1:mesh/m/virtualService/x", "a.b.c"}
}

func sources(c *v1beta1.Canary) []*unstructured.Unstructured {
	var sides []*unstructured.Unstructured
	for _, name := range []string{router.NamesOf(c).Primary, router.NamesOf(c).Canary} {
		sides = append(sides, conformance.Selecting(name, map[string]any{"app.kubernetes.io/name": "label-" + name}))
	}
	return sides
}

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case {
		return conformance.Case{
			Provider: appmeshv1beta2.New(appmeshv1beta2.Options{Unowned: unowned}),
			Shape:    shape, Adapt: adapt, Sources: sources,
			CRDs: &conformance.CRDs{Origin: "aws/aws-app-mesh-controller-for-k8s v1.13.3", File: "appmesh.yaml"},
			Match: []v1beta1.AnalysisMatch{
				{Headers: map[string]v1beta1.StringMatch{"x-b": {Regex: "y+"}, "x-a": {Exact: "1"}}},
				{Headers: map[string]v1beta1.StringMatch{"y": {}}},
			},
			Foreign: map[string][]conformance.Field{
				"VirtualNode":   {{Path: []string{"spec", "meshRef"}, Value: map[string]any{"name": "m", "uid": "1"}}},
				"VirtualRouter": {{Path: []string{"spec", "awsName"}, Value: "x"}},
			},
		}
	})
}

// newBench has the Services of both sides.
func newBench(t *testing.T, change ...func(*v1beta1.Canary)) *conformance.Bench {
	t.Helper()
	b := conformance.NewBench(t, appmeshv1beta2.New(appmeshv1beta2.Options{}), conformance.Podinfo(append(
		[]func(*v1beta1.Canary){shape}, change...)...))
	b.Put(sources(b.Canary)...)
	return b
}

// Flagger selected pods by the name of the target instead of the value of its label.
func Test16_PodSelectorIsThatOfTheService(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		node := b.Apply(router.Traffic{Primary: 100})["VirtualNode "+name]
		want := map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "label-" + name}}
		if diff := cmp.Diff(any(want), conformance.At(t, node, "spec", "podSelector")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A route of gRPC stands beside a listener of gRPC. In Flagger it was one of HTTP.
func Test16_RoutesOfGRPC(t *testing.T) {
	b := newBench(t, func(c *v1beta1.Canary) {
		c.Spec.Service.PortName, c.Spec.Service.Timeout = "grpc", "15s"
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x": {Exact: "1"}}}}
	})
	stored := b.Apply(router.Traffic{Primary: 60, Canary: 40, Matched: true})
	route := conformance.At(t, stored["VirtualRouter podinfo"], "spec", "routes").([]any)[0].(map[string]any)
	match, _, _ := unstructured.NestedMap(route, "grpcRoute", "match")
	want := map[string]any{"metadata": []any{map[string]any{"name": "x", "match": map[string]any{"exact": "1"}}}}
	if diff := cmp.Diff(want, match); diff != "" || route["httpRoute"] != nil {
		t.Errorf("route %v (-want +got):\n%s", route, diff)
	}
	timeout := conformance.At(t, stored["VirtualNode podinfo-canary"], "spec", "listeners").([]any)[0].(map[string]any)["timeout"]
	wantTimeout := map[string]any{"grpc": map[string]any{"perRequest": map[string]any{"unit": "ms", "value": int64(15000)}}}
	if diff := cmp.Diff(any(wantTimeout), timeout); diff != "" {
		t.Errorf("timeout (-want +got):\n%s", diff)
	}
	got, err := appmeshv1beta2.New(appmeshv1beta2.Options{}).Read(b.Canary, b.Store)
	if err != nil || got.Traffic != (router.Traffic{Primary: 60, Canary: 40, Matched: true}) {
		t.Errorf("Read() = %+v, %v", got, err)
	}
}

// In Flagger a VirtualService whose creation was refused once was never made.
func Test16_RefusedServiceIsMadeLater(t *testing.T) {
	b := newBench(t)
	b.Store.AllowWrites(4)
	if _, err := b.TryApply(router.Traffic{Primary: 100}); !errors.Is(err, conformance.ErrCrashed) {
		t.Fatalf("Apply(): %v", err)
	}
	b.Store.AllowWrites(-1)
	for name, o := range b.Apply(router.Traffic{Primary: 100}) {
		if o == nil {
			t.Errorf("%s does not exist", name)
		}
	}
}

// Backends are named by ARN, by name, or by name and namespace; a name with a dot that exists is meant as it is.
func TestBackends(t *testing.T) {
	b := newBench(t)
	named := func(reference map[string]any) any {
		return map[string]any{"virtualService": map[string]any{"virtualServiceRef": reference}}
	}
	arn := map[string]any{"virtualService": map[string]any{"virtualServiceARN": "arn:aws:appmesh:eu-west-1:1:mesh/m/virtualService/x"}}
	whole, split := named(map[string]any{"name": "database.infra"}), named(map[string]any{"name": "database", "namespace": "infra"})
	for _, exists := range []bool{false, true} {
		want := []any{named(map[string]any{"name": "backend"}), split, arn, named(map[string]any{"name": "a.b.c"})}
		if exists {
			ref := appmeshv1beta2.New(appmeshv1beta2.Options{}).Resources()[2]
			ref.Namespace, ref.Name = "test", "database.infra"
			if err := b.Store.Put(ref, router.NewObject(ref, nil, nil, map[string]any{})); err != nil {
				t.Fatal(err)
			}
			want[1] = whole
		}
		node := b.Apply(router.Traffic{Primary: 100})["VirtualNode podinfo-primary"]
		if diff := cmp.Diff(any(want), conformance.At(t, node, "spec", "backends")); diff != "" {
			t.Errorf("exists %t (-want +got):\n%s", exists, diff)
		}
	}
}

// Connection pools and whatever else a user sets on a listener stay.
func TestListenerOfTheUserStays(t *testing.T) {
	b := newBench(t)
	b.Apply(router.Traffic{Primary: 100})
	ref := appmeshv1beta2.New(appmeshv1beta2.Options{}).Resources()[0]
	ref.Namespace, ref.Name = "test", "podinfo-canary"
	pool := map[string]any{"http": map[string]any{"maxConnections": int64(7)}}
	if err := b.Store.Edit(ref, func(o *unstructured.Unstructured) {
		o.Object["spec"].(map[string]any)["listeners"].([]any)[0].(map[string]any)["connectionPool"] = pool
	}); err != nil {
		t.Fatal(err)
	}
	b.Canary.Spec.Service.Timeout = "1s"
	listener := conformance.At(t, b.Apply(router.Traffic{Primary: 60, Canary: 40})["VirtualNode podinfo-canary"], "spec", "listeners").([]any)[0].(map[string]any)
	if diff := cmp.Diff(any(pool), listener["connectionPool"]); diff != "" || listener["timeout"] == nil {
		t.Errorf("listener %v (-want +got):\n%s", listener, diff)
	}
}

// The log that the annotation turns on goes with it; one that a user has set stays.
func TestAccessLog(t *testing.T) {
	b := newBench(t)
	path := []string{"spec", "logging", "accessLog", "file", "path"}
	expect := func(want any) {
		t.Helper()
		for name, o := range b.Apply(router.Traffic{Primary: 100}) {
			if got := conformance.At(t, o, path...); o.GetKind() == "VirtualNode" && got != want {
				t.Errorf("%s: log %v, want %v", name, got, want)
			}
		}
	}
	expect(nil)
	b.Canary.Annotations = map[string]string{"appmesh.flagger.app/accesslog": "enabled"}
	expect("/dev/stdout")
	b.Canary.Annotations = nil
	expect(nil)
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		ref := appmeshv1beta2.New(appmeshv1beta2.Options{}).Resources()[0]
		ref.Namespace, ref.Name = "test", name
		if err := b.Store.Edit(ref, func(o *unstructured.Unstructured) {
			if err := unstructured.SetNestedField(o.Object, "/var/log/x", path...); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	expect("/var/log/x")
}

// Virtual nodes and routers without a listener are refused by App Mesh. Pods find their nodes when they start.
func TestListeners(t *testing.T) {
	for portName, protocol := range map[string]string{"": "http", "grpc": "grpc", "grpc-web": "grpc", "web": "http"} {
		b := newBench(t, func(c *v1beta1.Canary) { c.Spec.Service.PortName = portName })
		want := []any{map[string]any{"portMapping": map[string]any{"port": int64(9797), "protocol": protocol}}}
		seen := 0
		for name, o := range b.Apply(router.Traffic{Primary: 100}) {
			if o.GetKind() == "VirtualService" {
				continue
			}
			seen++
			if diff := cmp.Diff(any(want), conformance.At(t, o, "spec", "listeners")); diff != "" {
				t.Errorf("port %q: %s (-want +got):\n%s", portName, name, diff)
			}
		}
		if seen != 4 {
			t.Errorf("port %q: %d nodes and routers", portName, seen)
		}
		objects, err := b.TryApply(router.Traffic{Primary: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if o.Early != (o.Ref.Kind == "VirtualNode") {
				t.Errorf("%s: early %t", o.Ref, o.Early)
			}
		}
	}
}

// Changes of the hosts reach the annotations of the gateway, and so does their removal.
func TestHostsAreFollowed(t *testing.T) {
	b := newBench(t)
	for _, hosts := range [][]string{{"a.example.com", "b.example.com"}, {"b.example.com"}, nil} {
		b.Canary.Spec.Service.Hosts = hosts
		annotations := b.Apply(router.Traffic{Primary: 100})["VirtualService podinfo"].GetAnnotations()
		domain, exposed := annotations["gateway.appmesh.k8s.aws/domain"]
		if exposed != (len(hosts) > 0) || domain != strings.Join(hosts, ",") {
			t.Errorf("hosts %v: annotations %v", hosts, annotations)
		}
	}
}
