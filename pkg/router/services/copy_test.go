package services_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/services"
)

func serviceCanary() *v1beta1.Canary {
	c := conformance.Podinfo()
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "v1", Kind: "Service", Name: "podinfo"}
	return c
}

// stored is a Service of type LoadBalancer as the API server has it.
func stored(name, clusterIP string, nodePort int64) *unstructured.Unstructured {
	return router.NewObject(services.Ref("test", name),
		map[string]string{"team": "a", "kustomize.toolkit.fluxcd.io/name": "apps"},
		map[string]string{"example.com/owner": "a", router.KubectlAnnotation: "{}"},
		map[string]any{
			"type": "LoadBalancer", "clusterIP": clusterIP, "clusterIPs": []any{clusterIP},
			"ipFamilies": []any{"IPv4"}, "ipFamilyPolicy": "SingleStack",
			"loadBalancerIP": "192.0.2.1", "externalIPs": []any{"192.0.2.2"},
			"externalTrafficPolicy": "Local", "healthCheckNodePort": nodePort + 1,
			"selector": map[string]any{"app": "blue"},
			"ports": []any{map[string]any{
				"name": "http", "protocol": "TCP", "port": int64(80), "targetPort": "http", "nodePort": nodePort,
			}},
		})
}

func backends(t *testing.T, s *conformance.Store) []router.Object {
	t.Helper()
	objects, err := services.Backends(serviceCanary(), services.Input{}, s)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func follow(t *testing.T, s *conformance.Store) []conformance.Write {
	t.Helper()
	if err := router.NewApplier(s, s).Apply(t.Context(), serviceCanary(), backends(t, s)); err != nil {
		t.Fatal(err)
	}
	return s.Writes()
}

func put(t *testing.T, s *conformance.Store, o *unstructured.Unstructured) {
	t.Helper()
	if err := s.Put(services.Ref("test", o.GetName()), o); err != nil {
		t.Fatal(err)
	}
	s.Writes()
}

func TestA17_CopyLeavesOutWhatCantBeShared(t *testing.T) {
	s := conformance.NewStore(nil)
	put(t, s, stored("podinfo", "10.0.0.1", 30001))
	follow(t, s)
	got, _ := s.Get(services.Ref("test", "podinfo-canary"))
	want := map[string]any{
		"type": "LoadBalancer", "ipFamilies": []any{"IPv4"}, "ipFamilyPolicy": "SingleStack",
		"externalTrafficPolicy": "Local", "selector": map[string]any{"app": "blue"},
		"ports": []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(80), "targetPort": "http"}},
	}
	if diff := cmp.Diff(want, got.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	annotations := router.ToolkitAnnotations()
	annotations["example.com/owner"] = "a"
	if diff := cmp.Diff([]map[string]string{{"team": "a"}, annotations},
		[]map[string]string{got.GetLabels(), got.GetAnnotations()}); diff != "" {
		t.Errorf("labels and annotations (-want +got):\n%s", diff)
	}
	if len(got.GetOwnerReferences()) != 1 {
		t.Errorf("owners %v, want the Canary", got.GetOwnerReferences())
	}
}

func TestA17_CopyFollowsItsTargetAndNothingElse(t *testing.T) {
	s := conformance.NewStore(nil)
	target := stored("podinfo", "10.0.0.1", 30001)
	put(t, s, target)
	follow(t, s)
	// The server assigns what the copy has for itself.
	copied := stored("podinfo-canary", "10.0.0.2", 30011)
	created, _ := s.Get(services.Ref("test", "podinfo-canary"))
	copied.SetOwnerReferences(created.GetOwnerReferences())
	put(t, s, copied)
	if writes := follow(t, s); len(writes) > 0 {
		t.Errorf("writes %v although nothing has changed", writes)
	}

	spec := target.Object["spec"].(map[string]any)
	spec["selector"] = map[string]any{"app": "green"}
	delete(spec, "externalTrafficPolicy")
	spec["ports"] = append(spec["ports"].([]any), map[string]any{"name": "grpc", "protocol": "TCP", "port": int64(90), "nodePort": int64(30002)})
	put(t, s, target)
	follow(t, s)
	got, _ := s.Get(services.Ref("test", "podinfo-canary"))
	want := copied.DeepCopy().Object["spec"].(map[string]any)
	want["selector"] = map[string]any{"app": "green"}
	delete(want, "externalTrafficPolicy")
	want["ports"] = append(want["ports"].([]any), map[string]any{"name": "grpc", "protocol": "TCP", "port": int64(90)})
	if diff := cmp.Diff(want, got.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestHeadlessCopies(t *testing.T) {
	s := conformance.NewStore(nil)
	target := stored("podinfo", "None", 0)
	target.Object["spec"].(map[string]any)["type"] = "ClusterIP"
	put(t, s, target)
	follow(t, s)
	got, _ := s.Get(services.Ref("test", "podinfo-canary"))
	if ip, _, _ := unstructured.NestedString(got.Object, "spec", "clusterIP"); ip != "None" {
		t.Errorf("cluster IP %q, want None", ip)
	}
	put(t, s, stored("podinfo", "10.0.0.1", 30001))
	_, err := services.Backends(serviceCanary(), services.Input{}, s)
	var fault *router.FieldError
	if !errors.As(err, &fault) || fault.Field != "spec.targetRef" {
		t.Errorf("error %v, want a fault of spec.targetRef", err)
	}
}
