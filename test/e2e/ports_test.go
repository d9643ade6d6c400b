package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// metricsOnly is the application with nothing declared but a port for metrics.
func metricsOnly() string {
	p := strings.Replace(podinfo(1), "ports: [{name: http, containerPort: 9898}]", "ports: [{name: metrics, containerPort: 9797}]", 1)
	return strings.NewReplacer("port: http}", "port: 9898}", "targetPort: http", "targetPort: 9898").Replace(p)
}

// answers is whether the application answers behind its Service.
func (t *team) answers() {
	t.Helper()
	raw, err := t.kube.CoreV1().Services(t.ns).ProxyGet("http", "podinfo", "9898", "/version", nil).DoRaw(t.Context())
	t.must(err)
	var from struct{ Version string }
	if err := json.Unmarshal(raw, &from); err != nil || from.Version == "" {
		t.Errorf("the Service answers %q", raw)
	}
}

// TestUndeclaredPort leads to a port that the application listens on and does not declare.
func TestUndeclaredPort(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(metricsOnly())
	t.available("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary(func(c *v1beta1.Canary) { c.Spec.Service.TargetPort = intstr.FromInt32(9898) }))
	c := t.settled(v1beta1.CanaryPhaseInitialized)
	const note = "spec.service.targetPort: no container of deployment podinfo"
	if h := healthy(c); h == nil || h.Status != corev1.ConditionTrue || h.Reason != "PortNotDeclared" || !strings.Contains(h.Message, note) {
		t.Errorf("condition = %+v", h)
	}
	if n := count(t.events(), note); n != 1 {
		t.Errorf("%d events tell of the port: %q", n, t.events())
	}
	t.answers()
}

// TestUnknownPortName leads to a port by a name that no pod has. The application goes on serving by itself until that is mended.
func TestUnknownPortName(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(metricsOnly())
	t.available("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary(func(c *v1beta1.Canary) { c.Spec.Service.TargetPort = intstr.FromString("web") }))
	c := t.until("a condition about the port", func(c *v1beta1.Canary) bool {
		h := healthy(c)
		return h != nil && h.Status == corev1.ConditionFalse && h.Reason == "InvalidSpec"
	})
	for _, part := range []string{"spec.service.targetPort", `no ready pod of podinfo-primary.` + t.ns, `"web"`, "metrics=9797", "write the number"} {
		if h := healthy(c); !strings.Contains(h.Message, part) {
			t.Errorf("condition does not name %s: %s", part, h.Message)
		}
	}
	if n, _ := t.replicas("podinfo"); n != 1 || c.Status.Phase != v1beta1.CanaryPhaseInitializing {
		t.Errorf("%d replicas in phase %s", n, c.Status.Phase)
	}
	s, err := t.kube.CoreV1().Services(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if s.Spec.Selector["app"] != "podinfo" {
		t.Errorf("the Service leads to %v", s.Spec.Selector)
	}
	t.answers()
	t.edit(func(s *v1beta1.CanarySpec) { s.Service.TargetPort = intstr.FromInt32(9898) })
	if h := healthy(t.settled(v1beta1.CanaryPhaseInitialized)); h == nil || h.Status != corev1.ConditionTrue {
		t.Errorf("condition = %+v", h)
	}
	t.answers()

	// The Service serves now, so nobody tries a name that nobody has on its users.
	t.edit(func(s *v1beta1.CanarySpec) { s.Service.TargetPort = intstr.FromString("web") })
	t.until("refusal", func(c *v1beta1.Canary) bool {
		h := healthy(c)
		return h != nil && h.Status == corev1.ConditionFalse && strings.Contains(h.Message, "is not changed before")
	})
	t.answers()
}

const injection = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAME}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{spec: Object.spec{containers: [Object.spec.containers{name: "podinfod",
        ports: [Object.spec.containers.ports{name: "web", containerPort: 9898, protocol: "TCP"}]}]}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAME}
spec: {policyName: NAME}
`

// TestInjectedPort leads to a port that pods are given when they are made, as those of a mesh or of an agent get a container.
func TestInjectedPort(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	for _, document := range strings.Split(strings.ReplaceAll(injection, "NAME", t.ns), "\n---\n") {
		u := &unstructured.Unstructured{}
		t.must(yaml.Unmarshal([]byte(document), &u.Object))
		resource := map[string]string{
			"MutatingAdmissionPolicy": "mutatingadmissionpolicies", "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
		}[u.GetKind()]
		policies := t.dynamic.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: resource})
		_, err := policies.Create(t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		t.must(err)
	}
	t.apply(metricsOnly())
	t.available("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary(func(c *v1beta1.Canary) { c.Spec.Service.TargetPort = intstr.FromString("web") }))
	// A policy is in force some time after it was made. A primary that came first is made anew.
	c := t.until("Initialized or a primary without the port", func(c *v1beta1.Canary) bool {
		h := healthy(c)
		return c.Status.Phase == v1beta1.CanaryPhaseInitialized || h != nil && h.Reason == "InvalidSpec"
	})
	if c.Status.Phase != v1beta1.CanaryPhaseInitialized {
		t.must(t.kube.CoreV1().Pods(t.ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=podinfo-primary"}))
		c = t.settled(v1beta1.CanaryPhaseInitialized)
	}
	if h := healthy(c); h == nil || h.Status != corev1.ConditionTrue || h.Reason != "PortNotDeclared" {
		t.Errorf("condition = %+v", h)
	}
	t.answers()
}
