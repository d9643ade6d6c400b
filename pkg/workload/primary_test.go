package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func TestB26_B28_PrimaryIsCreatedAsCopy(t *testing.T) {
	client, d := cluster(target(t))
	d.options.IncludeLabelPrefix = []string{"example.com/", ""}
	ensure(t, d, canary(), target(t))
	golden(t, "primary-created.golden.yaml", get(t, client, "podinfo-primary"))
}

func TestB26_PromotionKeepsForeignMetadata(t *testing.T) {
	client, d := cluster(target(t))
	d.options.IncludeLabelPrefix = []string{"example.com/"}
	ensure(t, d, canary(), target(t))

	primary := get(t, client, "podinfo-primary")
	primary.SetLabels(merge(primary.GetLabels(), map[string]string{
		"foreign": "yes", "example.com/tier": "changed", "example.com/gone": "from the target",
	}))
	primary.SetAnnotations(merge(primary.GetAnnotations(), map[string]string{
		"deployment.kubernetes.io/revision": "9", "foreign": "yes", "example.com/gone": "from the target",
	}))
	set(t, primary, map[string]any{"observedGeneration": int64(1)}, "status")
	set(t, primary, int64(30), "spec", "unknownHere")
	put(t, client, primary)

	next := withImage(t, target(t), "ghcr.io/stefanprodan/podinfo:6.0.1")
	set(t, next, int64(5), "spec", "replicas")
	unstructured.RemoveNestedField(next.Object, "spec", "progressDeadlineSeconds")
	put(t, client, next)
	ensure(t, d, canary(), next)
	golden(t, "primary-promoted.golden.yaml", get(t, client, "podinfo-primary"))
}

func merge(a, b map[string]string) map[string]string {
	for key, value := range b {
		a[key] = value
	}
	return a
}

func TestIncludeLabelPrefix(t *testing.T) {
	tests := []struct {
		name     string
		prefixes []string
		want     map[string]string
	}{
		{"none", nil, map[string]string{"app": "podinfo-primary"}},
		{"empty entry allows nothing", []string{""}, map[string]string{"app": "podinfo-primary"}},
		{"prefix", []string{"example.com/", "te"},
			map[string]string{"app": "podinfo-primary", "example.com/tier": "front", "team": "shop"}},
		{"all but the toolkit's", []string{"*"},
			map[string]string{"app": "podinfo-primary", "example.com/tier": "front", "team": "shop"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := primaryLabels(nil, target(t).GetLabels(), Selector{"app", "podinfo"}, tt.prefixes)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReplicasOfThePrimary(t *testing.T) {
	autoscaled := func() *v1beta1.Canary {
		c := canary()
		c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: "HorizontalPodAutoscaler", Name: "podinfo"}
		return c
	}
	tests := []struct {
		name string
		c    *v1beta1.Canary
		// primary is negative for one that is yet to be created.
		target, primary, want int64
	}{
		{"created like the target", canary(), 3, -1, 3},
		{"created with one from nothing", canary(), 0, -1, 1},
		{"created with an autoscaler", autoscaled(), 3, -1, 3},
		{"promoted like the target", canary(), 3, 2, 3},
		{"a target without pods takes none away", canary(), 0, 2, 2},
		{"the autoscaler's number stays", autoscaled(), 3, 7, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := target(t)
			client, d := cluster(obj)
			if tt.primary >= 0 {
				ensure(t, d, tt.c, obj)
				put(t, client, set(t, get(t, client, "podinfo-primary"), tt.primary, "spec", "replicas"))
			}
			next := set(t, withImage(t, obj, "podinfo:next"), tt.target, "spec", "replicas")
			put(t, client, next)
			ensure(t, d, tt.c, next)
			primary := get(t, client, "podinfo-primary")
			if got := intAt(primary.Object, -1, "spec", "replicas"); got != tt.want {
				t.Errorf("spec.replicas = %d, want %d", got, tt.want)
			}
			if got := imageOf(primary); got != "podinfo:next" {
				t.Errorf("image = %s, want the one of the target", got)
			}
		})
	}
}

func TestB25_IDFollowsTheRevision(t *testing.T) {
	a := rollout.Revision{Fingerprint: "v2:aa", Generation: 1, Configs: map[string]string{"configmap/x": "1", "secret/y": "2"}}
	same := rollout.Revision{Fingerprint: "v2:aa", Generation: 2, UID: "u", Configs: map[string]string{"secret/y": "2", "configmap/x": "1"}}
	if newID(a) != newID(same) {
		t.Error("the id depends on more than template and configs")
	}
	for _, other := range []rollout.Revision{
		{Fingerprint: "v2:bb", Configs: a.Configs},
		{Fingerprint: "v2:aa"},
		{Fingerprint: "v2:aa", Configs: map[string]string{"configmap/x": "1", "secret/y": "3"}},
	} {
		if newID(a) == newID(other) {
			t.Errorf("%v has the id of another revision", other)
		}
	}
}

func TestOwnerOfThePrimary(t *testing.T) {
	c := canary()
	ref := *metav1.NewControllerRef(c, v1beta1.SchemeGroupVersion.WithKind("Canary"))
	stale, foreign, plain := ref, ref, ref
	stale.UID = "before-the-restore"
	foreign.Kind, foreign.Name = "Application", "shop"
	plain.Controller, plain.Name = nil, "other"
	tests := []struct {
		name       string
		have, want []metav1.OwnerReference
	}{
		{"none", nil, []metav1.OwnerReference{ref}},
		{"ours", []metav1.OwnerReference{ref}, []metav1.OwnerReference{ref}},
		{"ours from before a restore", []metav1.OwnerReference{stale}, []metav1.OwnerReference{ref}},
		{"somebody else's", []metav1.OwnerReference{foreign}, []metav1.OwnerReference{foreign}},
		{"one that does not control", []metav1.OwnerReference{plain}, []metav1.OwnerReference{plain, ref}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := &unstructured.Unstructured{Object: map[string]any{}}
			obj.SetOwnerReferences(tt.have)
			own(c, obj)
			if diff := cmp.Diff(tt.want, obj.GetOwnerReferences()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
