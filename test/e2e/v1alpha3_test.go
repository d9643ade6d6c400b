package e2e

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1alpha3"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// canaryOf2019 is a Canary as the articles of that time have it, with an address and a query that the testbed answers.
func canaryOf2019(ns string) string {
	return fmt.Sprintf(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: podinfo}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  minReplicas: 2
  maxReplicas: 4
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 99}}}
---
apiVersion: flagger.app/v1alpha3
kind: Canary
metadata:
  name: podinfo
spec:
  provider: istio
  targetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: podinfo
  progressDeadlineSeconds: 60
  autoscalerRef:
    apiVersion: autoscaling/v2beta1
    kind: HorizontalPodAutoscaler
    name: podinfo
  service:
    port: 9898
    targetPort: 9898
    gateways:
    - mesh
    - flagger-gateway
    hosts:
    - app.istio.example.com
    trafficPolicy:
      tls:
        mode: DISABLE
    retries:
      attempts: 3
      perTryTimeout: 1s
      retryOn: "gateway-error,connect-failure,refused-stream"
  canaryAnalysis:
    interval: 1s
    threshold: 2
    maxWeight: 60
    stepWeight: 20
    metrics:
    - name: "404s percentage"
      threshold: 5
      interval: 30s
      query: vector(1)
    webhooks:
    - name: acceptance-test
      type: pre-rollout
      url: http://podinfo-canary.%[1]s:9898/echo
      timeout: 30s
      metadata:
        type: bash
        cmd: "curl -sd 'test' http://podinfo-canary:9898/token | grep token"
    - name: load-test
      url: http://podinfo-canary.%[1]s:9898/echo
      timeout: 5s
      metadata:
        cmd: "hey -z 1m -q 10 -c 2 http://podinfo-canary:9898/"
`, ns)
}

func TestV1alpha3(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(2))
	t.operate()
	t.apply(canaryOf2019(t.ns))
	old := t.dynamic.Resource(v1alpha3.SchemeGroupVersion.WithResource("canaries")).Namespace(t.ns)
	read := func() *unstructured.Unstructured {
		t.Helper()
		c, err := old.Get(t.Context(), "podinfo", metav1.GetOptions{})
		t.must(err)
		return c
	}
	applied := read()
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	done := t.settled(v1beta1.CanaryPhaseSucceeded)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("primary runs %s", image)
	}
	if a := done.Spec.CanaryAnalysis; a == nil || a.Metrics[0].Threshold != 5 || a.Webhooks[1].Name != "load-test" {
		t.Errorf("v1beta1 shows the analysis %+v", a)
	}
	after := read()
	if phase, _, _ := unstructured.NestedString(after.Object, "status", "phase"); phase != "Succeeded" {
		t.Errorf("v1alpha3 shows the phase %q", phase)
	}
	if diff := cmp.Diff(applied.Object["spec"], after.Object["spec"]); diff != "" {
		t.Errorf("spec (-applied +read):\n%s", diff)
	}

	// An edit in the old form is one of the analysis that runs.
	patch := []byte(`[{"op": "replace", "path": "/spec/canaryAnalysis/metrics/0/threshold", "value": 0.5}]`)
	_, err := old.Patch(t.Context(), "podinfo", types.JSONPatchType, patch, metav1.PatchOptions{})
	t.must(err)
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseFailed)
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("primary runs %s after a rollback", image)
	}
	ns := "." + t.ns
	want := []string{
		"N all the metrics providers are available!",
		"N Initialization done! podinfo" + ns,
		"N New revision detected! Scaling up podinfo" + ns,
		"N Starting canary analysis for podinfo" + ns,
		"N Pre-rollout check acceptance-test passed",
		"N Advance podinfo" + ns + " canary weight 20",
		"N Advance podinfo" + ns + " canary weight 40",
		"N Advance podinfo" + ns + " canary weight 60",
		"N Copying podinfo" + ns + " template spec to podinfo-primary" + ns,
		"N Routing all traffic to primary",
		"N Promotion completed! Scaling down podinfo" + ns,
		"N New revision detected! Scaling up podinfo" + ns,
		"N Starting canary analysis for podinfo" + ns,
		"N Pre-rollout check acceptance-test passed",
		"N Advance podinfo" + ns + " canary weight 20",
		"W Halt podinfo" + ns + " advancement 404s percentage 1.00 > 0.5",
		"W Halt podinfo" + ns + " advancement 404s percentage 1.00 > 0.5",
		"W Rolling back podinfo" + ns + " failed checks threshold reached 2",
		"W Canary failed! Scaling down podinfo" + ns,
	}
	if diff := cmp.Diff(want, story(t.events())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
