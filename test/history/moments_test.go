package history

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo}
spec:
  replicas: 1
  selector: {matchLabels: {app: podinfo}}
  template:
    metadata: {labels: {app: podinfo}}
    spec:
      containers:
      - {name: podinfo, image: podinfo:1, envFrom: [{configMapRef: {name: settings}}]}
      affinity: {podAntiAffinity: {required: [{labelSelector: {matchLabels: {app: podinfo}}}]}}
`
	primaryDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo-primary}
spec:
  replicas: 3
  selector: {matchLabels: {app: podinfo-primary}}
  template:
    metadata: {labels: {app: podinfo-primary}, annotations: {flagger-id: 1234}}
    spec:
      containers:
      - {name: podinfo, image: podinfo:1, envFrom: [{configMapRef: {name: settings-primary}}]}
      affinity: {podAntiAffinity: {required: [{labelSelector: {matchLabels: {app: podinfo-primary}}}]}}
`
	configMap = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: "1"}
`
	secretCopy = `
apiVersion: v1
kind: Secret
metadata: {name: token-primary}
data: {a: MQ==}
`
	canaryObject = `
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: podinfo}
spec: {skipAnalysis: true}
status:
  phase: Progressing
  failedChecks: 1
  canaryWeight: 20
  iterations: 3
  rollout: {run: 4, target: {fingerprint: "v2:1", configs: {configmap/settings: abc}}, nextCheckAt: "2026-01-02T03:04:05.600000Z"}
`
)

// recorded is the states of some manifests in this order.
func recorded(t *testing.T, manifests ...string) []State {
	t.Helper()
	var states []State
	for i, manifest := range manifests {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(manifest), &u.Object); err != nil {
			t.Fatal(err)
		}
		states = append(states, State{Version: int64(i + 1), Object: u})
	}
	return states
}

func subject() Subject {
	return Subject{Canary: "podinfo", Target: "podinfo", Configs: []string{"configmap/settings", "secret/token"}}
}

func momentsOf(t *testing.T, states []State) []Moment {
	t.Helper()
	moments, err := Moments(states, subject())
	if err != nil {
		t.Fatal(err)
	}
	return moments
}

func TestPrimaryIsComparedWithItsTarget(t *testing.T) {
	last := func(manifests ...string) Moment {
		moments := momentsOf(t, recorded(t, manifests...))
		return moments[len(moments)-1]
	}
	m := last(deployment, primaryDeployment)
	if m.Target.Template == "" || m.Target.Template != m.Primary.Template {
		t.Errorf("target %s, primary %s", m.Target.Template, m.Primary.Template)
	}
	for name, edit := range map[string]func(*unstructured.Unstructured){
		"image": func(u *unstructured.Unstructured) {
			containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
			containers[0].(map[string]any)["image"] = "podinfo:2"
			_ = unstructured.SetNestedSlice(u.Object, containers, "spec", "template", "spec", "containers")
		},
		"annotation": func(u *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(u.Object, "b", "spec", "template", "metadata", "annotations", "a")
		},
	} {
		states := recorded(t, deployment, primaryDeployment)
		edit(states[1].Object)
		moments := momentsOf(t, states)
		if m := moments[len(moments)-1]; m.Target.Template == m.Primary.Template {
			t.Errorf("another %s makes no difference", name)
		}
	}
	states := recorded(t, deployment, deployment)
	states[1].Deleted = true
	moments := momentsOf(t, states)
	if m := moments[len(moments)-1]; m.Target.Template != "" {
		t.Errorf("a target that is gone has the template %s", m.Target.Template)
	}
}

func TestConfigsAreOfSourceAndCopy(t *testing.T) {
	moments := momentsOf(t, recorded(t, configMap, secretCopy))
	last := moments[len(moments)-1]
	if _, ok := last.Target.Configs["configmap/settings"]; !ok || len(last.Target.Configs) != 1 {
		t.Errorf("the target has %v", last.Target)
	}
	if _, ok := last.Primary.Configs["secret/token"]; !ok || len(last.Primary.Configs) != 1 {
		t.Errorf("the primary has %v", last.Primary)
	}
	binary := recorded(t, configMap, configMap)
	_ = unstructured.SetNestedField(binary[1].Object.Object, "AAEC", "binaryData", "logo")
	if moments := momentsOf(t, binary); len(moments) != 2 {
		t.Errorf("binaryData makes no difference: %v", moments)
	}
	if first := moments[0]; maps.Equal(first.Primary.Configs, last.Primary.Configs) {
		t.Error("a later state changed an earlier moment")
	}
}

func TestStatusIsRead(t *testing.T) {
	got := momentsOf(t, recorded(t, canaryObject))[0]
	want := Moment{
		Version: 1, Skip: true, Target: Content{Configs: map[string]string{}}, Primary: Content{Configs: map[string]string{}},
		Status: Status{
			Phase: v1beta1.CanaryPhaseProgressing, Run: 4, FailedChecks: 1, Step: Step{Weight: 20, Iteration: 3},
			Target: Content{Template: "v2:1", Configs: map[string]string{"configmap/settings": "abc"}},
			Due:    time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("moment (-want +got):\n%s", diff)
	}
}

// Watches of several resources arrive in any order; versions tell which write came first. What changes nothing is no moment.
func TestMomentsAreInTheOrderOfVersions(t *testing.T) {
	states := recorded(t, deployment, configMap, configMap, canaryObject)
	states[0], states[3] = states[3], states[0]
	var got []int64
	for _, m := range momentsOf(t, states) {
		got = append(got, m.Version)
	}
	if diff := cmp.Diff([]int64{1, 2, 4}, got); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
}
