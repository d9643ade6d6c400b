package workload

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

func serviceCanary() *v1beta1.Canary {
	c := canary()
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "v1", Kind: "Service", Name: "podinfo"}
	return c
}

// service is a Service as the API server has it.
func service(name, color, clusterIP string, nodePort int64) *unstructured.Unstructured {
	s := router.NewObject(services.Ref("test", name),
		map[string]string{"team": "a", "kustomize.toolkit.fluxcd.io/name": "apps"},
		map[string]string{"example.com/owner": "a", lastAppliedAnnotation: "{}"},
		map[string]any{
			"type": "NodePort", "clusterIP": clusterIP, "clusterIPs": []any{clusterIP}, "ipFamilies": []any{"IPv4"},
			"selector": map[string]any{"app": color},
			"ports":    []any{map[string]any{"port": int64(80), "protocol": "TCP", "nodePort": nodePort}},
		})
	s.SetUID("service-uid")
	return s
}

func serviceCluster(objects ...*unstructured.Unstructured) (dynamic.ResourceInterface, *coreService) {
	lists := map[schema.GroupVersionResource]string{
		services.Ref("", "").Resource: "ServiceList", revisionsResource(): "ControllerRevisionList",
	}
	list := make([]runtime.Object, len(objects))
	for i := range objects {
		list[i] = objects[i]
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, list...)
	return client.Resource(services.Ref("", "").Resource).Namespace("test"), &coreService{client: client}
}

func serviceRevision(t *testing.T, s *unstructured.Unstructured) rollout.Revision {
	t.Helper()
	hash, err := serviceFingerprint(s)
	if err != nil {
		t.Fatal(err)
	}
	return rollout.Revision{Fingerprint: hash}
}

func fetch(t *testing.T, client dynamic.ResourceInterface, name string) *unstructured.Unstructured {
	t.Helper()
	s, err := client.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestObserveService(t *testing.T) {
	_, k := serviceCluster()
	blue := service("podinfo", "blue", "10.0.0.1", 30001)
	o, problem := k.Observe(serviceCanary(), live{"podinfo": blue}, now)
	if problem != nil {
		t.Fatal(problem)
	}
	want := rollout.Workload{
		Exists: true, Name: "podinfo", Kind: "Service", Revision: serviceRevision(t, blue), Replicas: 1, Available: 1,
		Unscalable: true, Health: rollout.Health{State: rollout.Ready},
	}
	want.Revision.FlaggerHash = "5dffd79b6b"
	if diff := cmp.Diff(want, o.Target); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
	if o.Primary.Exists || o.Primary.Health.State == rollout.Ready {
		t.Errorf("primary %+v, want none", o.Primary)
	}
	// What the server assigns is no revision: not when the Service is created anew, and not on the copy.
	again := service("podinfo", "blue", "10.0.0.9", 30009)
	if serviceRevision(t, again).Fingerprint != serviceRevision(t, blue).Fingerprint {
		t.Error("a new cluster IP is a new revision")
	}
	flaggers := service("podinfo-primary", "blue", "10.0.0.2", 30002)
	o, problem = k.Observe(serviceCanary(), live{"podinfo": blue, "podinfo-primary": flaggers}, now)
	if problem != nil || o.Primary.Copy != o.Target.Revision.Fingerprint {
		t.Errorf("the primary that Flagger made is a copy of %q, want %q; problem %+v", o.Primary.Copy, o.Target.Revision.Fingerprint, problem)
	}
	o, _ = k.Observe(serviceCanary(), live{"podinfo": service("podinfo", "green", "10.0.0.1", 30001), "podinfo-primary": flaggers}, now)
	if o.Primary.Copy != "" {
		t.Errorf("another primary is a copy of %q", o.Primary.Copy)
	}
}

func TestServiceProblems(t *testing.T) {
	for name, c := range map[string]struct {
		canary func(*v1beta1.Canary)
		live   router.Live
		want   string
	}{
		"not found": {func(*v1beta1.Canary) {}, live{}, `service podinfo.test get query error: services "podinfo" not found`},
		"other name": {func(c *v1beta1.Canary) { c.Spec.Service.Name = "front" },
			live{"podinfo": service("podinfo", "blue", "10.0.0.1", 30001)}, "spec.service.name: front is not the name of the target podinfo"},
		"unknown": {func(*v1beta1.Canary) {}, liveFunc(func(router.Ref) (*unstructured.Unstructured, error) { return nil, errors.New("away") }),
			"service podinfo-primary.test get query error: away"},
	} {
		t.Run(name, func(t *testing.T) {
			_, k := serviceCluster()
			canary := serviceCanary()
			c.canary(canary)
			_, problem := k.Observe(canary, c.live, now)
			if problem == nil || !strings.HasPrefix(problem.Message, c.want) || problem.Unknown != (name == "unknown") {
				t.Errorf("problem %+v, want %q", problem, c.want)
			}
		})
	}
}

func TestA17_PrimaryService(t *testing.T) {
	blue := service("podinfo", "blue", "10.0.0.1", 30001)
	client, k := serviceCluster(blue)
	if err := k.EnsurePrimary(t.Context(), serviceCanary(), serviceRevision(t, blue)); err != nil {
		t.Fatal(err)
	}
	primary := fetch(t, client, "podinfo-primary")
	want := map[string]any{
		"type": "NodePort", "ipFamilies": []any{"IPv4"}, "selector": map[string]any{"app": "blue"},
		"ports": []any{map[string]any{"port": int64(80), "protocol": "TCP"}},
	}
	if diff := cmp.Diff(want, primary.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "a"}, primary.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if annotations := primary.GetAnnotations(); annotations["example.com/owner"] != "a" || annotations[lastAppliedAnnotation] != "" {
		t.Errorf("annotations %v", annotations)
	}

	// A promotion changes neither what the primary was assigned nor who owns it.
	set(t, primary, "10.0.0.2", "spec", "clusterIP")
	listAt(primary.Object, "spec", "ports")[0].(map[string]any)["nodePort"] = int64(30002)
	green := service("podinfo", "green", "10.0.0.1", 30001)
	client, k = serviceCluster(green, primary)
	for range 2 {
		if err := k.EnsurePrimary(t.Context(), serviceCanary(), serviceRevision(t, green)); err != nil {
			t.Fatal(err)
		}
	}
	promoted := fetch(t, client, "podinfo-primary")
	wanted := primary.DeepCopy()
	set(t, wanted, "green", "spec", "selector", "app")
	if diff := cmp.Diff(wanted.Object["spec"], promoted.Object["spec"]); diff != "" {
		t.Errorf("spec after a promotion (-want +got):\n%s", diff)
	}
	if owner := metav1.GetControllerOf(promoted); owner == nil || owner.Name != "podinfo" {
		t.Errorf("owner %v, want the Canary", owner)
	}
	o, problem := k.Observe(serviceCanary(), live{"podinfo": green, "podinfo-primary": promoted}, now)
	if problem != nil || o.Primary.Copy != o.Target.Revision.Fingerprint {
		t.Errorf("copy of %q, want %q; problem %+v", o.Primary.Copy, o.Target.Revision.Fingerprint, problem)
	}
}

func TestA06_ServiceThatMovedIsNotPromoted(t *testing.T) {
	analyzed := service("podinfo", "blue", "10.0.0.1", 30001)
	client, k := serviceCluster(analyzed)
	if err := k.EnsurePrimary(t.Context(), serviceCanary(), serviceRevision(t, analyzed)); err != nil {
		t.Fatal(err)
	}
	later := service("podinfo", "red", "10.0.0.1", 30001)
	if _, err := client.Update(t.Context(), later, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	green := serviceRevision(t, service("podinfo", "green", "10.0.0.1", 30001))
	if err := k.EnsurePrimary(t.Context(), serviceCanary(), green); !errors.Is(err, ErrMoved) {
		t.Errorf("error %v, want ErrMoved", err)
	}
	// a primary that is gone is made from the revision that was promoted.
	if err := client.Delete(t.Context(), "podinfo-primary", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := k.EnsurePrimary(t.Context(), serviceCanary(), serviceRevision(t, analyzed)); err != nil {
		t.Fatal(err)
	}
	if got := stringAt(fetch(t, client, "podinfo-primary").Object, "spec", "selector", "app"); got != "blue" {
		t.Errorf("the primary selects %s, want blue", got)
	}
}
