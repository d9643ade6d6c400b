package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/telemetry"
)

// C-02: no client that acts sends a write of work whose lease may be another's.
func TestC02_EveryClientIsFenced(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the API server got %s %s", r.Method, r.URL)
	}))
	defer server.Close()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	o := &options{master: server.URL, timeout: time.Minute, election: electionOptions{renewDeadline: time.Hour}}
	c, err := connect(o, telemetry.New("test", "istio"))
	if err != nil {
		t.Fatal(err)
	}
	services, patch := corev1.SchemeGroupVersion.WithResource("services"), []byte("{}")
	ctx := fence.With(t.Context(), fence.New(time.Minute, clock.RealClock{}))
	for name, write := range map[string]func(ctx context.Context) error{
		"kube": func(ctx context.Context) error {
			return c.kube.CreateEvent(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "test"}})
		},
		"flagger": func(ctx context.Context) error {
			return c.flagger.Post().AbsPath("/canaries").Body(patch).Do(ctx).Error()
		},
		"dynamic": func(ctx context.Context) error {
			_, err := c.main.Dynamic.Resource(services).Namespace("test").Patch(ctx, "app", types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		},
		"metadata": func(ctx context.Context) error {
			return c.main.Metadata.Resource(services).Namespace("test").Delete(ctx, "app", metav1.DeleteOptions{})
		},
	} {
		var closed fence.ClosedError
		if err := write(ctx); !errors.As(err, &closed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
