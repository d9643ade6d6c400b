package e2e

import (
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// TestTargetMadeAnewWithOtherLabels deletes the target and creates it again with another selector, while it is asked without a pause: it
// is rolled out, the primary is made anew with the new labels, and no request is lost.
func TestTargetMadeAnewWithOtherLabels(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(2))
	t.available("podinfo")
	t.operate("-mesh-provider", "istio")
	t.create(canary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	load := t.load()
	before, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo-primary", metav1.GetOptions{})
	t.must(err)

	t.relabel("name")
	t.settled(v1beta1.CanaryPhaseSucceeded)
	load.goOn(t, 100)
	load.end(t)

	primary, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo-primary", metav1.GetOptions{})
	t.must(err)
	want := map[string]string{"name": "podinfo-primary"}
	if primary.UID == before.UID || !maps.Equal(primary.Spec.Selector.MatchLabels, want) || primary.Status.ReadyReplicas == 0 {
		t.Errorf("primary selects by %v and has %d ready pods", primary.Spec.Selector.MatchLabels, primary.Status.ReadyReplicas)
	}
	for name, want := range map[string]map[string]string{"podinfo": want, "podinfo-primary": want, "podinfo-canary": {"name": "podinfo"}} {
		service, err := t.kube.CoreV1().Services(t.ns).Get(t.Context(), name, metav1.GetOptions{})
		t.must(err)
		if !maps.Equal(service.Spec.Selector, want) {
			t.Errorf("Service %s selects %v, want %v", name, service.Spec.Selector, want)
		}
	}
}
