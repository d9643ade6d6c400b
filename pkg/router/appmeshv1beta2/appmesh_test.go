package appmeshv1beta2_test

import (
	"errors"
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

// side is the Service of primary or canary.
func side(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name, "namespace": "test"},
		"spec": map[string]any{"selector": map[string]any{"app.kubernetes.io/name": "label-" + name}},
	}}
}

func sources(c *v1beta1.Canary) []*unstructured.Unstructured {
	names := router.NamesOf(c)
	return []*unstructured.Unstructured{side(names.Primary), side(names.Canary)}
}

func suite(options appmeshv1beta2.Options) conformance.Case {
	return conformance.Case{
		Provider: appmeshv1beta2.New(options), Shape: shape, Adapt: adapt, Sources: sources, Unowned: options.Unowned,
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
}

func TestConformance(t *testing.T) {
	c := suite(appmeshv1beta2.Options{})
	c.Golden = true
	conformance.Run(t, c)
}

func TestConformanceUnowned(t *testing.T) {
	conformance.Run(t, suite(appmeshv1beta2.Options{Unowned: true}))
}

// world has the Services, and applies what the provider renders.
type world struct {
	*testing.T
	c       *v1beta1.Canary
	store   *conformance.Store
	applier *router.Applier
}

func newWorld(t *testing.T, change ...func(*v1beta1.Canary)) *world {
	w := &world{T: t, c: conformance.Podinfo(), store: conformance.NewStore(nil)}
	for _, f := range append([]func(*v1beta1.Canary){shape}, change...) {
		f(w.c)
	}
	w.applier = router.NewApplier(w.store, w.store)
	for i, ref := range appmeshv1beta2.New(appmeshv1beta2.Options{}).Sources(w.c) {
		if err := w.store.Put(ref, sources(w.c)[i]); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// apply returns the objects as they are stored, by kind and name.
func (w *world) apply(traffic router.Traffic) map[string]*unstructured.Unstructured {
	w.Helper()
	objects, err := appmeshv1beta2.New(appmeshv1beta2.Options{}).Render(w.c, traffic, w.store)
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
		stored[o.Ref.Kind+" "+o.Ref.Name] = live
	}
	return stored
}

func (w *world) at(o *unstructured.Unstructured, path ...string) any {
	w.Helper()
	value, _, err := unstructured.NestedFieldCopy(o.Object, path...)
	if err != nil {
		w.Fatal(err)
	}
	return value
}

// Flagger selected pods by the name of the target instead of the value of its label.
func Test16_PodSelectorIsThatOfTheService(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		node := w.apply(router.Traffic{Primary: 100})["VirtualNode "+name]
		want := map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "label-" + name}}
		if diff := cmp.Diff(any(want), w.at(node, "spec", "podSelector")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A route of gRPC stands beside a listener of gRPC. In Flagger it was one of HTTP.
func Test16_RoutesOfGRPC(t *testing.T) {
	w := newWorld(t, func(c *v1beta1.Canary) {
		c.Spec.Service.PortName, c.Spec.Service.Timeout = "grpc", "15s"
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x": {Exact: "1"}}}}
	})
	stored := w.apply(router.Traffic{Primary: 60, Canary: 40, Matched: true})
	route := w.at(stored["VirtualRouter podinfo"], "spec", "routes").([]any)[0].(map[string]any)
	match, _, _ := unstructured.NestedMap(route, "grpcRoute", "match")
	want := map[string]any{"metadata": []any{map[string]any{"name": "x", "match": map[string]any{"exact": "1"}}}}
	if diff := cmp.Diff(want, match); diff != "" || route["httpRoute"] != nil {
		t.Errorf("route %v (-want +got):\n%s", route, diff)
	}
	timeout := w.at(stored["VirtualNode podinfo-canary"], "spec", "listeners").([]any)[0].(map[string]any)["timeout"]
	wantTimeout := map[string]any{"grpc": map[string]any{"perRequest": map[string]any{"unit": "ms", "value": int64(15000)}}}
	if diff := cmp.Diff(any(wantTimeout), timeout); diff != "" {
		t.Errorf("timeout (-want +got):\n%s", diff)
	}
	got, err := appmeshv1beta2.New(appmeshv1beta2.Options{}).Read(w.c, w.store)
	if err != nil || got.Traffic != (router.Traffic{Primary: 60, Canary: 40, Matched: true}) {
		t.Errorf("Read() = %+v, %v", got, err)
	}
}

// In Flagger a VirtualService whose creation was refused once was never made.
func Test16_RefusedServiceIsMadeLater(t *testing.T) {
	w := newWorld(t)
	w.store.AllowWrites(4)
	objects, err := appmeshv1beta2.New(appmeshv1beta2.Options{}).Render(w.c, router.Traffic{Primary: 100}, w.store)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.applier.Apply(t.Context(), w.c, objects); !errors.Is(err, conformance.ErrCrashed) {
		t.Fatalf("Apply(): %v", err)
	}
	w.store.AllowWrites(-1)
	for name, o := range w.apply(router.Traffic{Primary: 100}) {
		if o == nil {
			t.Errorf("%s does not exist", name)
		}
	}
}

// Backends are named by ARN, by name, or by name and namespace; a name with a dot that exists is meant as it is.
func TestBackends(t *testing.T) {
	w := newWorld(t)
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
			if err := w.store.Put(ref, router.NewObject(ref, nil, nil, map[string]any{})); err != nil {
				t.Fatal(err)
			}
			want[1] = whole
		}
		node := w.apply(router.Traffic{Primary: 100})["VirtualNode podinfo-primary"]
		if diff := cmp.Diff(any(want), w.at(node, "spec", "backends")); diff != "" {
			t.Errorf("exists %t (-want +got):\n%s", exists, diff)
		}
	}
}

// Connection pools and whatever else a user sets on a listener stay.
func TestListenerOfTheUserStays(t *testing.T) {
	w := newWorld(t)
	w.apply(router.Traffic{Primary: 100})
	ref := appmeshv1beta2.New(appmeshv1beta2.Options{}).Resources()[0]
	ref.Namespace, ref.Name = "test", "podinfo-canary"
	pool := map[string]any{"http": map[string]any{"maxConnections": int64(7)}}
	if err := w.store.Edit(ref, func(o *unstructured.Unstructured) {
		o.Object["spec"].(map[string]any)["listeners"].([]any)[0].(map[string]any)["connectionPool"] = pool
	}); err != nil {
		t.Fatal(err)
	}
	w.c.Spec.Service.Timeout = "1s"
	listener := w.at(w.apply(router.Traffic{Primary: 60, Canary: 40})["VirtualNode podinfo-canary"], "spec", "listeners").([]any)[0].(map[string]any)
	if diff := cmp.Diff(any(pool), listener["connectionPool"]); diff != "" || listener["timeout"] == nil {
		t.Errorf("listener %v (-want +got):\n%s", listener, diff)
	}
}

// The log that the annotation turns on goes with it; one that a user has set stays.
func TestAccessLog(t *testing.T) {
	w := newWorld(t)
	path := []string{"spec", "logging", "accessLog", "file", "path"}
	expect := func(want any) {
		t.Helper()
		for name, o := range w.apply(router.Traffic{Primary: 100}) {
			if got := w.at(o, path...); o.GetKind() == "VirtualNode" && got != want {
				t.Errorf("%s: log %v, want %v", name, got, want)
			}
		}
	}
	expect(nil)
	w.c.Annotations = map[string]string{"appmesh.flagger.app/accesslog": "enabled"}
	expect("/dev/stdout")
	w.c.Annotations = nil
	expect(nil)
	for _, name := range []string{"podinfo-primary", "podinfo-canary"} {
		ref := appmeshv1beta2.New(appmeshv1beta2.Options{}).Resources()[0]
		ref.Namespace, ref.Name = "test", name
		if err := w.store.Edit(ref, func(o *unstructured.Unstructured) {
			if err := unstructured.SetNestedField(o.Object, "/var/log/x", path...); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	expect("/var/log/x")
}
