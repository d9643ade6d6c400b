package services_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/services"
)

func input() services.Input {
	return services.Input{Label: "app", Value: "podinfo", Pods: map[string]string{"app": "podinfo", "tier": "web", "version": "1"}, Ports: []services.Port{
		{Name: "http", Number: 9898},
		{Name: "grpc", Number: 9999, Protocol: corev1.ProtocolTCP},
		{Name: "dns", Number: 53, Protocol: corev1.ProtocolUDP},
	}}
}

// world is a Canary with its Services.
type world struct {
	*testing.T
	store   *conformance.Store
	applier *router.Applier
	canary  *v1beta1.Canary
}

func newWorld(t *testing.T, change ...func(*v1beta1.CanaryService)) *world {
	store := conformance.NewStore(nil)
	w := &world{T: t, store: store, applier: router.NewApplier(store, store), canary: conformance.Podinfo()}
	for _, apply := range change {
		apply(&w.canary.Spec.Service)
	}
	return w
}

func (w *world) tryApply() error { return w.tryApplyFor(input()) }

func (w *world) applyFor(in services.Input) {
	w.Helper()
	if err := w.tryApplyFor(in); err != nil {
		w.Fatal(err)
	}
}

func (w *world) tryApplyFor(in services.Input) error {
	w.Helper()
	backends, err := services.Backends(w.canary, in, w.store)
	if err != nil {
		return err
	}
	apex, err := services.Apex(w.canary, in, w.store)
	if err != nil {
		return err
	}
	return w.applier.Apply(w.Context(), w.canary, append(backends, apex...))
}

// apply makes the Services as wanted and checks that nothing remains to be done.
func (w *world) apply() []conformance.Write {
	w.Helper()
	if err := w.tryApply(); err != nil {
		w.Fatal(err)
	}
	writes := w.store.Writes()
	if err := w.tryApply(); err != nil {
		w.Fatal(err)
	}
	if again := w.store.Writes(); len(again) > 0 {
		w.Errorf("second Apply wrote %v, want nothing", again)
	}
	return writes
}

func (w *world) get(name string) *unstructured.Unstructured {
	w.Helper()
	o, err := w.store.Get(services.Ref("test", name))
	if err != nil {
		w.Fatal(err)
	}
	if o == nil {
		w.Fatalf("Service %s does not exist", name)
	}
	return o
}

// put creates a Service as a user would.
func (w *world) put(manifest string) {
	w.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
		w.Fatal(err)
	}
	normal, err := router.Fields(o.Object)
	if err != nil {
		w.Fatal(err)
	}
	o.Object = normal
	if err := w.store.Put(services.Ref("test", o.GetName()), o); err != nil {
		w.Fatal(err)
	}
}

func (w *world) edit(name string, path []string, value any) {
	w.Helper()
	err := w.store.Edit(services.Ref("test", name), func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(o.Object, value, path...); err != nil {
			w.Error(err)
		}
	})
	if err != nil {
		w.Fatal(err)
	}
}

// expect compares a stored Service, without what the server adds, with a manifest.
func (w *world) expect(name, manifest string) {
	w.Helper()
	o := w.get(name)
	for _, field := range []string{"uid", "resourceVersion", "generation", "ownerReferences"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	got, err := yaml.Marshal(o.Object)
	if err != nil {
		w.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimLeft(manifest, "\n"), string(got)); diff != "" {
		w.Errorf("Service %s (-want +got):\n%s", name, diff)
	}
}

func TestServicesOfContract(t *testing.T) {
	w := newWorld(t, func(s *v1beta1.CanaryService) {
		s.PortDiscovery = true
		s.TargetPort = intstr.FromString("http")
		s.AppProtocol = "http"
		s.TrafficDistribution = "PreferClose"
		s.Canary = &v1beta1.CustomMetadata{Labels: map[string]string{"side": "canary"}}
	})
	if writes := w.apply(); len(writes) != 3 || writes[0].Name != "podinfo-canary" || writes[2].Name != "podinfo" {
		t.Errorf("writes %v, want canary, primary, apex", writes)
	}
	w.expect("podinfo-canary", `
apiVersion: v1
kind: Service
metadata:
  annotations:
    helm.toolkit.fluxcd.io/driftDetection: disabled
    kustomize.toolkit.fluxcd.io/reconcile: disabled
  labels:
    app: podinfo-canary
    side: canary
  name: podinfo-canary
  namespace: test
spec:
  ports:
  - appProtocol: http
    name: http
    port: 9898
    protocol: TCP
    targetPort: http
  - name: grpc
    port: 9999
    protocol: TCP
    targetPort: 9999
  - name: dns
    port: 53
    protocol: UDP
    targetPort: 53
  selector:
    app: podinfo
  trafficDistribution: PreferClose
  type: ClusterIP
`)
	for name, selected := range map[string]string{
		"podinfo": "podinfo-primary", "podinfo-primary": "podinfo-primary", "podinfo-canary": "podinfo",
	} {
		o := w.get(name)
		selector, _, err := unstructured.NestedStringMap(o.Object, "spec", "selector")
		if err != nil || selector["app"] != selected || len(selector) != 1 {
			t.Errorf("Service %s selects %v (%v), want app=%s", name, selector, err, selected)
		}
		if owner := metav1.GetControllerOf(o); owner == nil || owner.UID != w.canary.UID {
			t.Errorf("Service %s has the owner %v, want the Canary", name, owner)
		}
	}
	if labels := w.get("podinfo").GetLabels(); labels["team"] != "a" || labels["app"] != "podinfo" {
		t.Errorf("labels of the apex: %v, want those of service.apex and app=podinfo", labels)
	}
}

func TestTargetOfKindServiceHasNoServices(t *testing.T) {
	w := newWorld(t)
	w.canary.Spec.TargetRef.Kind = "Service"
	if writes := w.apply(); len(writes) > 0 {
		t.Errorf("writes %v, want none", writes)
	}
}

const usersService = `
apiVersion: v1
kind: Service
metadata:
  name: podinfo
  namespace: test
  labels: {mine: "1"}
  annotations: {cloud: lb}
spec:
  type: LoadBalancer
  clusterIP: 10.0.0.9
  sessionAffinity: None
  trafficDistribution: PreferSameZone
  selector: {app: podinfo, tier: web}
  ports:
  - {name: admin, port: 9000, protocol: TCP, targetPort: 9000, nodePort: 30001}
  - {port: 9898, protocol: TCP, targetPort: 8080, nodePort: 30002}
`

// A Service that takes traffic is taken over in place: address, type, node ports and metadata stay.
func TestAdoptedServiceKeepsWhatIsNotOurs(t *testing.T) {
	w := newWorld(t)
	w.put(usersService)
	w.apply()
	w.expect("podinfo", `
apiVersion: v1
kind: Service
metadata:
  annotations:
    cloud: lb
    flagger.kubernetes.io/original-configuration: '{"clusterIP":"10.0.0.9","ports":[{"name":"admin","nodePort":30001,"port":9000,"protocol":"TCP","targetPort":9000},{"nodePort":30002,"port":9898,"protocol":"TCP","targetPort":8080}],"selector":{"app":"podinfo","tier":"web"},"sessionAffinity":"None","trafficDistribution":"PreferSameZone","type":"LoadBalancer"}'
    helm.toolkit.fluxcd.io/driftDetection: disabled
    kustomize.toolkit.fluxcd.io/reconcile: disabled
  labels:
    mine: "1"
  name: podinfo
  namespace: test
spec:
  clusterIP: 10.0.0.9
  ports:
  - name: http
    nodePort: 30002
    port: 9898
    protocol: TCP
    targetPort: 9898
  selector:
    app: podinfo-primary
  sessionAffinity: None
  trafficDistribution: PreferSameZone
  type: LoadBalancer
`)
	if owners := w.get("podinfo").GetOwnerReferences(); len(owners) > 0 {
		t.Errorf("owners %v, want none: the Service is the user's", owners)
	}
}

func TestNodePortsFollowTheNameOfAPort(t *testing.T) {
	w := newWorld(t, func(s *v1beta1.CanaryService) { s.PortName = "admin" })
	w.put(usersService)
	w.apply()
	ports, _, err := unstructured.NestedSlice(w.get("podinfo").Object, "spec", "ports")
	if err != nil || len(ports) != 1 || ports[0].(map[string]any)["nodePort"] != int64(30001) {
		t.Errorf("ports %v (%v), want the node port of the port named admin", ports, err)
	}
}

func TestOrderOfPortsDoesNotMatter(t *testing.T) {
	w := newWorld(t, func(s *v1beta1.CanaryService) { s.PortDiscovery = true })
	w.apply()
	ports, _, err := unstructured.NestedSlice(w.get("podinfo").Object, "spec", "ports")
	if err != nil {
		t.Fatal(err)
	}
	w.edit("podinfo", []string{"spec", "ports"}, []any{ports[2], ports[0], ports[1]})
	if writes := w.apply(); len(writes) > 0 {
		t.Errorf("writes %v, want none", writes)
	}
}

func TestMetadataOfOurServicesIsExact(t *testing.T) {
	w := newWorld(t, func(s *v1beta1.CanaryService) {
		s.UnmanagedMetadata = &v1beta1.UnmanagedMetadata{
			Labels: []string{"keep", "absent"}, Annotations: []string{"cloud.example.com/neg"},
		}
	})
	w.apply()
	w.edit("podinfo", []string{"metadata", "labels", "stray"}, "1")
	w.edit("podinfo", []string{"metadata", "labels", "keep"}, "1")
	w.edit("podinfo", []string{"metadata", "annotations", "cloud.example.com/neg"}, "1")
	w.edit("podinfo", []string{"metadata", "annotations", "stray"}, "1")
	if writes := w.apply(); len(writes) != 1 {
		t.Errorf("writes %v, want one", writes)
	}
	o := w.get("podinfo")
	if diff := cmp.Diff(map[string]string{"app": "podinfo", "keep": "1", "team": "a"}, o.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	annotations := o.GetAnnotations()
	if annotations["cloud.example.com/neg"] != "1" || annotations["stray"] != "" || len(annotations) != 4 {
		t.Errorf("annotations %v, want the wanted ones and the unmanaged one", annotations)
	}
}

func TestB17_ChangesReachExistingServices(t *testing.T) {
	w := newWorld(t)
	w.apply()
	w.canary.Spec.Service.TrafficDistribution = "PreferSameZone"
	w.canary.Spec.Service.AppProtocol = "grpc"
	if writes := w.apply(); len(writes) != 3 {
		t.Errorf("writes %v, want all three Services", writes)
	}
	if got, _, err := unstructured.NestedString(w.get("podinfo").Object, "spec", "trafficDistribution"); err != nil || got != "PreferSameZone" {
		t.Errorf("trafficDistribution %q (%v), want PreferSameZone", got, err)
	}
	w.canary.Spec.Service.TrafficDistribution = ""
	w.apply()
	if _, found, err := unstructured.NestedString(w.get("podinfo").Object, "spec", "trafficDistribution"); err != nil || found {
		t.Errorf("trafficDistribution is still there (%v), want it removed", err)
	}
}

func TestB17_HeadlessCannotChange(t *testing.T) {
	tests := map[string]struct {
		live    any
		wanted  bool
		adopted bool
		fault   string
	}{
		"stays headless":                  {live: "None", wanted: true},
		"stays with address":              {live: "10.0.0.9"},
		"becomes headless":                {live: "10.0.0.9", wanted: true, fault: "has a cluster IP"},
		"gets an address":                 {live: "None", fault: "is headless"},
		"user's Service stays headless":   {live: "None", adopted: true},
		"user's Service becomes headless": {live: "10.0.0.9", wanted: true, adopted: true, fault: "has a cluster IP"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if test.adopted {
				w.put(usersService)
			}
			w.apply()
			w.edit("podinfo", []string{"spec", "clusterIP"}, test.live)
			w.canary.Spec.Service.Headless = test.wanted
			_, err := services.Apex(w.canary, input(), w.store)
			var fault *router.FieldError
			switch {
			case test.fault == "" && err != nil:
				t.Errorf("Apex(): %v", err)
			case test.fault != "" && (!errors.As(err, &fault) || fault.Field != "spec.service.headless"):
				t.Errorf("Apex(): %v, want a fault of spec.service.headless", err)
			case test.fault != "" && !strings.Contains(fault.Message, test.fault):
				t.Errorf("message %q, want it to say %q", fault.Message, test.fault)
			}
		})
	}
}

func TestB17_ExternalNameBecomesClusterIP(t *testing.T) {
	w := newWorld(t)
	w.put(`
apiVersion: v1
kind: Service
metadata: {name: podinfo, namespace: test}
spec: {type: ExternalName, externalName: old.example.com}
`)
	w.apply()
	spec := w.get("podinfo").Object["spec"].(map[string]any)
	if spec["type"] != "ClusterIP" || spec["externalName"] != nil {
		t.Errorf("spec %v, want a ClusterIP without external name", spec)
	}
}

func TestB17_PortsOfOtherProtocols(t *testing.T) {
	w := newWorld(t, func(s *v1beta1.CanaryService) { s.Port, s.PortDiscovery = 53, true })
	w.apply()
	ports, _, err := unstructured.NestedSlice(w.get("podinfo").Object, "spec", "ports")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, port := range ports {
		p := port.(map[string]any)
		got = append(got, p["name"].(string)+"/"+p["protocol"].(string))
	}
	// The container port "http" gives way: its name belongs to the port of the Service.
	if diff := cmp.Diff([]string{"http/TCP", "grpc/TCP", "dns/UDP"}, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

func TestErrorTextOfContract(t *testing.T) {
	w := newWorld(t)
	w.store.AllowWrites(0)
	err := w.tryApply()
	const want = "reconcileService failed: service podinfo-canary.test create error: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Apply(): %v, want %q…", err, want)
	}
}
