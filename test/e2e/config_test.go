package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {PODINFO_UI_MESSAGE: one}
binaryData: {logo: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {key: first}
`

// withConfigs lets the containers of a manifest read the ConfigMap and the Secret.
func withConfigs(manifest string) string {
	return strings.Replace(manifest, "        ports: [{name: http, containerPort: 9898}]", `        ports: [{name: http, containerPort: 9898}]
        envFrom: [{configMapRef: {name: settings}}]
        env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: token, key: key}}}]`, 1)
}

// untilObject watches an object until it is as wanted.
func (t *team) untilObject(resource schema.GroupVersionResource, name string, done func(*unstructured.Unstructured) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := t.dynamic.Resource(resource).Namespace(t.ns)
	_, err := watchtools.UntilWithSync(ctx, watchOf(ctx, r, name), &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		u, ok := e.Object.(*unstructured.Unstructured)
		return ok && e.Type != watch.Deleted && done(u), nil
	})
	if err != nil {
		t.Fatalf("waiting for %s %s: %v\n%s", resource.Resource, name, err, strings.Join(t.events(), "\n"))
	}
}

func (t *team) configMap(name string) *corev1.ConfigMap {
	t.Helper()
	cm, err := t.kube.CoreV1().ConfigMaps(t.ns).Get(t.Context(), name, metav1.GetOptions{})
	t.must(err)
	return cm
}

// TestConfigChangeIsAnalyzed changes nothing but a ConfigMap: the new content is analyzed before the primary gets it.
func TestConfigChangeIsAnalyzed(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(settings)
	t.apply(withConfigs(podinfo(1)))
	t.available("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary())
	c := t.settled(v1beta1.CanaryPhaseInitialized)
	if c.Status.TrackedConfigs == nil || len(*c.Status.TrackedConfigs) != 2 {
		t.Fatalf("trackedConfigs = %v", c.Status.TrackedConfigs)
	}
	before := (*c.Status.TrackedConfigs)["configmap/settings"]
	copied := t.configMap("settings-primary")
	if copied.Data["PODINFO_UI_MESSAGE"] != "one" || len(copied.BinaryData["logo"]) != 3 {
		t.Errorf("copy has %v and %v", copied.Data, copied.BinaryData)
	}
	primary, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo-primary", metav1.GetOptions{})
	t.must(err)
	container := primary.Spec.Template.Spec.Containers[0]
	if got := container.EnvFrom[0].ConfigMapRef.Name + " " + container.Env[0].ValueFrom.SecretKeyRef.Name; got != "settings-primary token-primary" {
		t.Errorf("the primary reads %s", got)
	}

	patch := []byte(`{"data":{"PODINFO_UI_MESSAGE":"two"}}`)
	_, err = t.kube.CoreV1().ConfigMaps(t.ns).Patch(t.Context(), "settings", types.MergePatchType, patch, metav1.PatchOptions{})
	t.must(err)
	t.until("a step", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight > 0 })
	message := t.configMap("settings-primary").Data["PODINFO_UI_MESSAGE"]
	c, err = t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if message != "one" && c.Status.Phase == v1beta1.CanaryPhaseProgressing {
		t.Errorf("the primary reads %q while it is being analyzed", message)
	}
	c = t.settled(v1beta1.CanaryPhaseSucceeded)
	if got := t.configMap("settings-primary").Data["PODINFO_UI_MESSAGE"]; got != "two" {
		t.Errorf("the copy has %q after the promotion", got)
	}
	if after := (*c.Status.TrackedConfigs)["configmap/settings"]; after == before {
		t.Errorf("trackedConfigs still has %s", after)
	}
	if c.Status.Rollout.Run != 1 {
		t.Errorf("%d analyses, want 1", c.Status.Rollout.Run)
	}
}
