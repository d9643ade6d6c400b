package loadtester

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

func TestGatesInAConfigMap(t *testing.T) {
	client := fake.NewClientset()
	replica := func() *served {
		return serve(t, func(o *Options) { o.Gates = &ConfigMapGates{Client: client, Namespace: "test", Name: "gates"} })
	}
	first := replica()
	gates(first)
	second := replica()
	second.wants("POST", "/rollback/check", payload(), 200, "Approved")
	second.wants("POST", "/gate/check", payload(), 403)
	second.wants("POST", "/gate/open", payload(), 202)
	first.wants("POST", "/gate/check", payload(), 200)
	found, err := client.CoreV1().ConfigMaps("test").Get(t.Context(), "gates", metav1.GetOptions{})
	if err != nil || len(found.Data) != 2 || found.Data["gate.test.podinfo"] != "open" || found.Data["rollback.test.podinfo"] != "open" {
		t.Errorf("%v %v", found.Data, err)
	}
	first.wants("POST", "/gate/open", strings.ReplaceAll(payload(), "podinfo", strings.Repeat("x", 250)), 503, "no key of a ConfigMap")
}

// Two replicas make the ConfigMap at the same time.
func TestGatesOpenedTogether(t *testing.T) {
	client := fake.NewClientset()
	both := &ConfigMapGates{Client: client, Namespace: "test", Name: "gates"}
	client.PrependReactor("create", "configmaps", func(k8stesting.Action) (bool, runtime.Object, error) {
		other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "gates"}, Data: map[string]string{"gate.test.other": "open"}}
		if err := client.Tracker().Add(other); err != nil {
			t.Error(err)
		}
		return true, nil, apierrors.NewAlreadyExists(corev1.Resource("configmaps"), "gates")
	})
	mine := Gate{Kind: kindGate, Namespace: "test", Name: "mine"}
	if err := both.Set(context.Background(), mine, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "other"} {
		if open, err := both.Open(t.Context(), Gate{Kind: kindGate, Namespace: "test", Name: name}); !open || err != nil {
			t.Errorf("%s: %t %v", name, open, err)
		}
	}
}

func TestGatesWithoutTheRightsForThem(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("*", "configmaps", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("configmaps"), "gates", nil)
	})
	s := serve(t, func(o *Options) { o.Gates = &ConfigMapGates{Client: client, Namespace: "test", Name: "gates"} })
	for _, path := range []string{"/gate/check", "/gate/open", "/gate/close"} {
		s.wants("POST", path, payload(), 503, "ConfigMap test/gates of -gates-configmap", "forbidden")
	}
}
