package registry_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// metadata as Flagger leaves it. Its Service router adds the label of the selector to the apex metadata in passing, so the
// routing objects have it too.
const metadata = `
  name: podinfo
  namespace: test
  labels: {team: a, app: podinfo}
  annotations:
    example.com/owner: a
    helm.toolkit.fluxcd.io/driftDetection: disabled
    kustomize.toolkit.fluxcd.io/reconcile: disabled
  ownerReferences:
  - {apiVersion: flagger.app/v1beta1, kind: Canary, name: podinfo, uid: 9a3f, controller: true, blockOwnerDeletion: true}
`

// flaggers are the objects that Flagger 1.44 leaves behind an idle Canary, as the API server stores them.
var flaggers = map[string][]string{
	"apisix": {`
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata:
  name: podinfo-podinfo-canary
  namespace: test
  labels: {team: a}
  ownerReferences:
  - {apiVersion: flagger.app/v1beta1, kind: Canary, name: podinfo, uid: 9a3f, controller: true, blockOwnerDeletion: true}
spec:
  http:
  - name: method
    priority: 10000
    match: {hosts: [app.example.com], paths: [/*]}
    backends: [{serviceName: podinfo-primary, servicePort: 9898, weight: 100}, {serviceName: podinfo-canary, servicePort: 9898, weight: 0}]
    plugins: [{name: prometheus, enable: true, config: {prefer_name: true}}]
`},
	"contour": {`
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata:` + metadata + `
spec:
  routes:
  - conditions:
    - prefix: /
    retryPolicy: {count: 3, perTryTimeout: 1s, retryOn: [5xx]}
    timeoutPolicy: {response: 15s, idle: 5m}
    services:
    - name: podinfo-primary
      port: 9898
      weight: 100
      requestHeadersPolicy: {set: [{name: l5d-dst-override, value: "podinfo-primary.test.svc.cluster.local:9898"}]}
    - name: podinfo-canary
      port: 9898
      requestHeadersPolicy: {set: [{name: l5d-dst-override, value: "podinfo-canary.test.svc.cluster.local:9898"}]}
status: {currentStatus: valid, description: valid HTTPProxy}
`},
	"gloo": {`
apiVersion: gloo.solo.io/v1
kind: Upstream
metadata: {name: test-podinfo-canaryupstream-9898, namespace: test}
spec: {kube: {serviceName: podinfo-canary, serviceNamespace: test, servicePort: 9898}}
`, `
apiVersion: gloo.solo.io/v1
kind: Upstream
metadata: {name: test-podinfo-primaryupstream-9898, namespace: test}
spec: {kube: {serviceName: podinfo-primary, serviceNamespace: test, servicePort: 9898}}
`, `
apiVersion: gateway.solo.io/v1
kind: RouteTable
metadata:` + metadata + `
spec:
  routes:
  - inheritablePathMatchers: true
    routeAction:
      multi:
        destinations:
        - {destination: {upstream: {name: test-podinfo-primaryupstream-9898, namespace: test}}, weight: 100}
        - {destination: {upstream: {name: test-podinfo-canaryupstream-9898, namespace: test}}}
`},
	"istio": {`
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: podinfo-canary, namespace: test}
spec: {host: podinfo-canary}
`, `
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: podinfo-primary, namespace: test}
spec: {host: podinfo-primary}
`, `
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:` + metadata + `
spec:
  hosts: [podinfo]
  gateways: [mesh]
  http:
  - timeout: 15s
    retries: {attempts: 3, perTryTimeout: 1s, retryOn: 5xx}
    route:
    - {destination: {host: podinfo-primary}, weight: 100}
    - {destination: {host: podinfo-canary}, weight: 0}
`},
	"gatewayapi:v1": {`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:` + metadata + `
spec:
  parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gateway}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    timeouts: {request: 15s}
    backendRefs:
    - {group: "", kind: Service, name: podinfo-primary, port: 9898, weight: 100}
    - {group: "", kind: Service, name: podinfo-canary, port: 9898, weight: 0}
`},
	"nginx": {`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: podinfo-canary
  namespace: test
  annotations:
    kubernetes.io/ingress.class: nginx
    helm.toolkit.fluxcd.io/driftDetection: disabled
    kustomize.toolkit.fluxcd.io/reconcile: disabled
    nginx.ingress.kubernetes.io/canary: "true"
    nginx.ingress.kubernetes.io/canary-weight: "0"
  ownerReferences:
  - {apiVersion: flagger.app/v1beta1, kind: Canary, name: podinfo, uid: 9a3f, controller: true, blockOwnerDeletion: true}
spec:
  rules:
  - host: app.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: podinfo-canary, port: {number: 9898}}}}]}
`},
	// Nothing but the mark, without which nobody would delete the route, has to be added.
	"kuma": {`
apiVersion: kuma.io/v1alpha1
kind: TrafficRoute
mesh: default
metadata:
  name: podinfo
  labels: {team: a, app: podinfo}
  annotations:
    example.com/owner: a
    flagger.app/owner: test/podinfo/9a3f
    helm.toolkit.fluxcd.io/driftDetection: disabled
    kustomize.toolkit.fluxcd.io/reconcile: disabled
spec:
  sources: [{match: {kuma.io/service: "*"}}]
  destinations: [{match: {kuma.io/service: podinfo_test_svc_9898}}]
  conf:
    split:
    - {weight: 100, destination: {kuma.io/service: podinfo-primary_test_svc_9898}}
    - {weight: 0, destination: {kuma.io/service: podinfo-canary_test_svc_9898}}
`},
	"linkerd": {`
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata:
  name: podinfo
  namespace: test
  ownerReferences:
  - {apiVersion: flagger.app/v1beta1, kind: Canary, name: podinfo, uid: 9a3f, controller: true, blockOwnerDeletion: true}
spec:
  service: podinfo
  backends:
  - {service: podinfo-canary, weight: "0"}
  - {service: podinfo-primary, weight: "100"}
`},
	"skipper": {`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: podinfo-canary
  namespace: test
  annotations:
    kubernetes.io/ingress.class: nginx
    helm.toolkit.fluxcd.io/driftDetection: disabled
    kustomize.toolkit.fluxcd.io/reconcile: disabled
    zalando.org/backend-weights: '{"podinfo-canary":0,"podinfo-primary":100}'
    zalando.org/skipper-predicate: False()
  ownerReferences:
  - {apiVersion: flagger.app/v1beta1, kind: Canary, name: podinfo, uid: 9a3f, controller: true, blockOwnerDeletion: true}
spec:
  rules:
  - host: app.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: podinfo-primary, port: {number: 9898}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: podinfo-canary, port: {number: 9898}}}}
`},
	"traefik": {`
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata:` + metadata + `
spec:
  weighted:
    services:
    - {name: podinfo-primary, namespace: test, port: 9898, weight: 100}
`},
}

// Taking over from Flagger costs no write at all.
func TestFlaggersObjectsAreInPlace(t *testing.T) {
	c := podinfo()
	c.Spec.Service.Timeout = "15s"
	c.Spec.Service.Retries = &v1beta1.HTTPRetry{Attempts: 3, PerTryTimeout: "1s", RetryOn: "5xx"}
	r := registry.New(registry.Config{})
	for name, manifests := range flaggers {
		t.Run(name, func(t *testing.T) {
			provider, err := r.Provider(name)
			if err != nil {
				t.Fatal(err)
			}
			store := storeFor(t, provider)
			for _, manifest := range manifests {
				put(t, store, provider, manifest)
			}
			want := router.Traffic{Primary: 100}
			objects, err := provider.Render(c, want, store)
			if err != nil {
				t.Fatal(err)
			}
			changes, err := router.NewApplier(store, store).Diff(c, objects)
			if err != nil || len(changes) > 0 {
				t.Errorf("Diff() = %+v, %v; want nothing", changes, err)
			}
			if observed, err := provider.Read(c, store); err != nil || observed.Traffic != want {
				t.Errorf("Read() = %+v, %v; want %s", observed, err, want)
			}
		})
	}
}

func decode(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096).Decode(o); err != nil {
		t.Fatal(err)
	}
	return o
}

func put(t *testing.T, store *conformance.Store, provider router.Provider, manifest string) {
	t.Helper()
	o := decode(t, manifest)
	for _, ref := range provider.Resources() {
		if ref.Kind != o.GetKind() {
			continue
		}
		ref.Namespace, ref.Name = o.GetNamespace(), o.GetName()
		if err := store.Put(ref, o); err != nil {
			t.Fatal(err)
		}
	}
}
